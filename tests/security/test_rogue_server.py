"""Who stands where our server should stand gets no password, nor what it can be guessed from
quickly."""

from __future__ import annotations

import asyncio
import base64
import datetime
from pathlib import Path

import msgspec
import pytest

from agents import settings
from agents.base.errors import NotConnected, PasswordRefused
from agents.xmpp.client import Handlers, Login, Session
from ejabberd import certificate
from ejabberd.server import hosts_of_domain
from tests.security.rogue_server import RogueServer, rogue_server

DOMAIN = "geolane.test"
PASSWORD = "correct horse battery staple"


@pytest.fixture
def place(tmp_path: Path) -> tuple[settings.Xmpp, Path]:
    """The settings of an agent that trusts the server's certificate, and that certificate."""
    ca, server = certificate.make_certificates(
        hosts_of_domain(DOMAIN), datetime.datetime.now(datetime.UTC)
    )
    (tmp_path / "ca.pem").write_bytes(ca)
    (tmp_path / "server.pem").write_bytes(server)
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text(PASSWORD)
    xmpp = settings.Xmpp(
        domain=DOMAIN,
        host="127.0.0.1",
        ca_file=str(tmp_path / "ca.pem"),
        password_file=str(password),
    )
    return xmpp, tmp_path / "server.pem"


async def log_in(xmpp: settings.Xmpp, rogue: RogueServer) -> None:
    async with rogue_server(rogue) as port:
        login = Login(msgspec.structs.replace(xmpp, port=port), f"node-iad-1@fleet.{DOMAIN}/etl")
        async with Session(login, Handlers()):
            pass


@pytest.mark.parametrize(
    "offers",
    [
        ("PLAIN",),
        ("PLAIN", "LOGIN", "X-OAUTH2", "DIGEST-MD5", "CRAM-MD5", "ANONYMOUS"),
        ("SCRAM-SHA-1", "PLAIN"),
        (),
    ],
)
async def test_a_server_that_offers_no_scram_is_told_no_password(
    place: tuple[settings.Xmpp, Path], offers: tuple[str, ...]
) -> None:
    xmpp, pem = place
    rogue = RogueServer(offers, pem)
    with pytest.raises(
        PasswordRefused, match=r"offers .* none of SCRAM-SHA-512-PLUS.*no password was sent"
    ):
        await log_in(xmpp, rogue)
    assert rogue.tried == []
    _nothing_told(rogue)


async def test_a_server_that_refuses_scram_gets_nothing_weaker(
    place: tuple[settings.Xmpp, Path],
) -> None:
    xmpp, pem = place
    rogue = RogueServer(("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN"), pem)
    with pytest.raises(PasswordRefused, match="the server refuses the password"):
        await log_in(xmpp, rogue)
    assert rogue.tried == ["SCRAM-SHA-256"]
    _nothing_told(rogue)


@pytest.mark.parametrize(
    "offers", [("EXTERNAL", "PLAIN", "SCRAM-SHA-256"), ("PLAIN", "SCRAM-SHA-256")]
)
async def test_who_logs_in_by_certificate_tells_no_password_even_where_there_is_one(
    place: tuple[settings.Xmpp, Path], offers: tuple[str, ...]
) -> None:
    xmpp, pem = place
    pem.chmod(0o600)
    rogue = RogueServer(offers, pem)
    by_certificate = msgspec.structs.replace(xmpp, sasl="EXTERNAL", cert_file=str(pem))
    with pytest.raises(PasswordRefused, match=r"refuses the certificate|none of EXTERNAL"):
        await log_in(by_certificate, rogue)
    assert rogue.tried == [name for name in offers if name == "EXTERNAL"]
    _nothing_told(rogue)


async def test_a_server_that_asks_for_too_little_or_too_much_work_gets_no_proof(
    place: tuple[settings.Xmpp, Path],
) -> None:
    xmpp, pem = place

    async def refuse(iterations: int) -> None:
        rogue = RogueServer(("SCRAM-SHA-256",), pem, iterations)
        with pytest.raises(NotConnected):
            await log_in(xmpp, rogue)
        assert b"<response" not in rogue.heard
        _nothing_told(rogue)

    await asyncio.gather(*map(refuse, [1, 4095, 2_000_000_000]))  # each waits for 10 s


def _nothing_told(rogue: RogueServer) -> None:
    plain = base64.b64encode(f"\0node-iad-1\0{PASSWORD}".encode())
    for secret in (PASSWORD.encode(), plain, base64.b64encode(PASSWORD.encode())):
        assert secret not in rogue.heard
