"""A broker as a user's own may be: SASL over TLS, with a certificate authority of its own, and
rights that somebody has to give."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from agents import settings
from agents.base import ports
from agents.local.servers.broker import PLAINTEXT, SELF, Broker, Listener
from ejabberd.certificate import LIFETIME, make_certificates

USER, PASSWORD = "node-iad-1", "correct horse"


class SecureBroker(Broker):
    """A broker that listens with SASL_SSL and knows one user, as a user's own cluster may; and, for
    the test, without a password. `denies`: what no ACL allows is denied; USER may do everything."""

    certificate_days = 90.0
    protocol = PLAINTEXT
    """The test's own way in, and the broker's among itself."""

    def __init__(self, folder: Path, *, denies: bool = False) -> None:
        super().__init__(folder, heap_mb=256)
        self.secure_port = ports.find_free_port()
        self._denies = denies

    @property
    def kafka(self) -> settings.Kafka:
        return settings.Kafka(bootstrap=self.bootstrap)

    @property
    def listeners(self) -> Sequence[Listener]:
        secure = f"127.0.0.1:{self.secure_port}"
        return [Listener("SASL_SSL", secure, secure, "SASL_SSL")]

    def _more_properties(self) -> str:
        make_certificate(self.folder / "server.pem", self.folder / "ca.pem", self.certificate_days)
        self.user.set_owner_and_mode(self.folder / "server.pem", 0o640, give=False)
        allowed = f"super.users=User:ANONYMOUS;User:{SELF};User:{USER}"
        return f"""{allowed if self._denies else "authorizer.class.name="}
ssl.keystore.type=PEM
ssl.keystore.location={self.folder}/server.pem
"""

    def _more_format_arguments(self) -> list[str]:
        return ["--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"]


def make_certificate(server: Path, ca: Path, days: float = 90.0) -> None:
    """One for 127.0.0.1 that is valid for this long, and its authority's."""
    began = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days) - LIFETIME
    authority, pem = make_certificates(["kafka.test"], began)
    server.write_bytes(pem)
    ca.write_bytes(authority)


def secret(file: Path, text: str) -> str:
    file.write_text(text + "\n")
    file.chmod(0o600)
    return str(file)
