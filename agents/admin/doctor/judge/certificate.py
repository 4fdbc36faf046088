"""A server's certificate: its names, its validity, and whether an authority that we trust has
signed it."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass

from cryptography import x509

from agents.admin.doctor.judge.verdict import Verdict, fault, ok, warning

FAULT_DAYS, WARNING_DAYS = 3.0, 21.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """The certificate's content. `names`: DNS names and addresses. Both times are aware."""

    names: tuple[str, ...]
    not_before: datetime.datetime
    not_after: datetime.datetime

    @classmethod
    def from_der(cls, der: bytes) -> Certificate:
        """Raises ValueError."""
        read = x509.load_der_x509_certificate(der)
        try:
            names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            found = (
                *names.get_values_for_type(x509.DNSName),
                *map(str, names.get_values_for_type(x509.IPAddress)),
            )
        except x509.ExtensionNotFound:
            found = ()
        return cls(found, read.not_valid_before_utc, read.not_valid_after_utc)


def judge_certificate(
    name: str,
    seen: Certificate,
    refused: ssl.SSLCertVerificationError | None,
    now: datetime.datetime,
    ca: str,
) -> Verdict:
    """The verdict on the certificate of the server that we call `name`. `refused`: the error of
    checking chain and name, or None. `ca`: the file of the authorities that we trust, to show to
    people."""
    until = seen.not_after.strftime("%Y-%m-%d %H:%M UTC")
    days = (seen.not_after - now).total_seconds() / 86_400
    if days <= 0:
        return fault(
            f"{name}: expired {-days:.1f} days ago ({until})",
            f"give the server a new certificate for {name}",
        )
    if seen.not_before > now:
        since = seen.not_before.strftime("%Y-%m-%d %H:%M UTC")
        return fault(f"{name}: not valid before {since}", "set this machine's clock, or wait")
    if refused is not None and refused.verify_code in (
        62,
        64,
    ):  # X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH
        return fault(
            f"{name}: the certificate is for {', '.join(seen.names) or 'no name'}",
            f"give the server one that names {name}, too",
        )
    if refused is not None:
        return fault(
            f"{name}: not signed by an authority in {ca} ({refused.verify_message})",
            "name the file with the authority's certificate in ca_file",
        )
    if days < FAULT_DAYS:
        return fault(f"{name}: {days:.1f} days left ({until})", "renew it now")
    if days < WARNING_DAYS:
        return warning(
            f"{name}: {days:.1f} days left ({until})",
            "renew it in time: nothing can connect after that",
        )
    return ok(f"{name}: {days:.0f} days left")
