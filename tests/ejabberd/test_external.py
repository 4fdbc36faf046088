"""A real server that lets agents in by certificate (`xmpp.sasl = "EXTERNAL"`, XEP-0178): whose is
right, and who is refused."""

from __future__ import annotations

import datetime
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agents import settings
from agents.admin.doctor.files import Files as DoctorFiles
from agents.admin.doctor.judge.roles import Whom
from agents.admin.doctor.judge.verdict import Level
from agents.admin.doctor.xmpp import XmppCheck
from agents.admin.provision.feeds import check_feeds
from agents.base.errors import PasswordRefused, SettingsError
from agents.xmpp.client import Handlers, Login, Session
from ejabberd.provision import provision_server
from ejabberd.server import Server
from tests.admin.doctor.support import findings, loaded, named

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOMAIN = "external.test"
FLEET = f"fleet.{DOMAIN}"
NODE, OTHER = "node-a", "node-b"
XMPP_ADDR = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.5")
_NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
_PEM = serialization.Encoding.PEM


class Authority:
    """It signs what clients show."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), True
        )
        self.pem = builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        return x509.CertificateBuilder(
            self._name, subject, key, x509.random_serial_number(), _NOW - DAY, _NOW + 30 * DAY
        )

    def sign(
        self,
        file: Path,
        names: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    ) -> str:
        """A certificate for `names` and its key, in `file`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, file.stem)])
        builder = self._builder(subject, key.public_key()).add_extension(
            x509.ExtendedKeyUsage([usage]), False
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM)
        file.touch(mode=0o600)
        file.write_bytes(
            key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + certificate
        )
        return str(file)


def address(jid: str) -> x509.OtherName:
    """id-on-xmppAddr (RFC 6120, 13.7.1.4): a UTF8String."""
    text = jid.encode()
    return x509.OtherName(XMPP_ADDR, bytes([0x0C, len(text)]) + text)


class ExternalServer(Server):
    """The embedded server with the two lines of docs/deploy.md that let clients in by
    certificate."""

    authority = Authority("agents")

    def _prepare_folder(self) -> None:
        super()._prepare_folder()
        conf = self.folder / "conf"
        clients = conf / "clients.pem"
        self.user.write_private_file(clients, self.authority.pem)
        text = (conf / "ejabberd.yml").read_text("utf-8")
        for theirs, ours in (
            ("starttls_required: true\n", "starttls_required: true\n    tls_verify: true\n"),
            ("\ncertfiles:\n", f'\nc2s_cafile: "{clients}"\ncertfiles:\n'),
        ):
            assert text.count(theirs) == 1, theirs
            text = text.replace(theirs, ours)
        self.user.write_private_file(conf / "ejabberd.yml", text.encode())


@dataclass
class External:
    """The server, and certificates for whom a test names."""

    folder: Path
    server: ExternalServer

    def certificate(
        self,
        name: str,
        *names: x509.GeneralName,
        by: Authority = ExternalServer.authority,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    ) -> str:
        return by.sign(self.folder / f"{name}.pem", names, usage)

    def xmpp(self, cert_file: str) -> settings.Xmpp:
        """Without a password's file: there is none to send."""
        return settings.Xmpp(
            domain=DOMAIN,
            host="127.0.0.1",
            port=self.server.c2s_port,
            ca_file=str(self.server.ca_file),
            sasl="EXTERNAL",
            cert_file=cert_file,
        )

    async def log_in(self, cert_file: str, account: str = NODE) -> str:
        """The JID that the server gives."""
        login = Login(self.xmpp(cert_file), f"{account}@{FLEET}/etl")
        async with Session(login, Handlers()) as session:
            return session.jid


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def external() -> AsyncIterator[External]:
    folder = Path(tempfile.mkdtemp(prefix="geolane-external-"))
    os.chmod(folder, 0o711)  # pytest's own folders are closed to the server's user
    server = ExternalServer(folder / "server", DOMAIN)
    try:
        await server.start()
        await provision_server(server.api, DOMAIN, [NODE, OTHER], [], folder / "secrets")
        yield External(folder, server)
    finally:
        await server.stop()
        shutil.rmtree(folder)


async def test_a_worker_logs_in_by_its_certificate_and_has_no_password(external: External) -> None:
    external.certificate(NODE, address(f"{NODE}@{FLEET}"))
    external.certificate(OTHER, address(f"{OTHER}@{FLEET}"))
    for account in (NODE, OTHER):  # one settings file for all
        assert (
            await external.log_in(f"{external.folder}/{{account}}.pem", account)
            == f"{account}@{FLEET}/etl"
        )


async def test_a_systemd_credential_serves_too(
    external: External, monkeypatch: pytest.MonkeyPatch
) -> None:
    external.certificate(NODE, address(f"{NODE}@{FLEET}"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(external.folder))
    assert await external.log_in("") == f"{NODE}@{FLEET}/etl"
    with pytest.raises(
        SettingsError, match=r"xmpp\.cert_file must name .* the systemd credential node-none\.pem"
    ):
        await external.log_in("", "node-none")


async def test_what_proves_somebody_else_or_nothing_is_refused(external: External) -> None:
    own, make = address(f"{NODE}@{FLEET}"), external.certificate
    for name, cert_file, why in (
        ("another's", make("a", address(f"{OTHER}@{FLEET}")), "JID mismatch"),
        ("of a person of that name", make("b", address(f"{NODE}@{DOMAIN}")), "JID mismatch"),
        ("signed by somebody else", make("c", own, by=Authority("elsewhere")), ""),
        ("a server's", make("d", own, usage=ExtendedKeyUsageOID.SERVER_AUTH), ""),
    ):
        with pytest.raises(
            PasswordRefused, match=rf"refuses the certificate \(xmpp\.cert_file\): .*{why}"
        ):
            pytest.fail(f"{name}: let in as {await external.log_in(cert_file)}")


async def test_what_the_authority_signs_is_believed(external: External) -> None:
    """By ejabberd's rule, which docs/security.md tells: so it signs for agents alone, each with its
    address."""
    nameless = external.certificate("nameless")
    everybody = external.certificate("everybody", address(FLEET))
    for cert_file in (nameless, everybody):
        assert await external.log_in(cert_file) == f"{NODE}@{FLEET}/etl"
    unknown = external.certificate("unknown", address(f"node-gone@{FLEET}"))
    assert await external.log_in(unknown, "node-gone") == f"node-gone@{FLEET}/etl"


async def test_a_certificate_that_others_can_read_is_refused(external: External) -> None:
    cert_file = external.certificate("open", address(f"{NODE}@{FLEET}"))
    os.chmod(cert_file, 0o640)
    with pytest.raises(SettingsError, match=f"chmod 600 {cert_file}"):
        await external.log_in(cert_file)


async def test_people_and_provisioning_go_on_with_passwords(external: External) -> None:
    xmpp = external.xmpp("/no/such.pem")
    await check_feeds(xmpp, external.folder / "secrets", [NODE, OTHER])
    password = str(external.folder / "secrets" / NODE)
    by_password = msgspec.structs.replace(xmpp, sasl="SCRAM", cert_file="", password_file=password)
    async with Session(Login(by_password, f"{NODE}@{FLEET}/etl"), Handlers()) as session:
        assert session.is_up


async def test_the_doctor_says_whose_certificate_is_refused(external: External) -> None:
    own = external.certificate(NODE, address(f"{NODE}@{FLEET}"))
    wrong = external.certificate("wrong", address(f"{OTHER}@{FLEET}"))
    for cert_file, ahead_days, level, said in (
        (own, 0, Level.OK, f"as {NODE}@{FLEET}, by certificate, which has 30 days left"),
        (own, 28, Level.FAULT, "its certificate has 2.0 days left"),
        (wrong, 0, Level.FAULT, "Certificate JID mismatch"),
    ):
        made, who = loaded(xmpp=external.xmpp(cert_file)), Whom(NODE)
        checks = [*DoctorFiles(made, who, external.folder / "secrets").list_checks()]
        now = (_NOW + ahead_days * DAY).timestamp
        checks += XmppCheck(made.settings, who, None, now).list_checks()
        found = await findings(checks, "files password", "files passwords", "xmpp login")
        named(found, "xmpp login", said, level=level)
        named(
            found,
            "files password",
            f"none is needed: the certificate is {cert_file}",
            level=Level.OK,
        )
        assert found["files passwords"].level is Level.OK
