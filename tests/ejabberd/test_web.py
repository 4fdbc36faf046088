"""What the server's HTTP listener gives a browser: the chat page and nothing else, a WebSocket to
that page's scripts alone."""

from __future__ import annotations

import asyncio
import base64
import os

import pytest

from agents.local.servers import webchat
from tests.fixtures.xmpp import XmppServer


async def asked(port: int, path: str, **headers: str) -> tuple[int, str]:
    """One request; status and everything that came back (the headers alone where the connection
    stays open)."""
    lines = {
        "Host": f"127.0.0.1:{port}",
        "Connection": "close",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(10):
            writer.write(
                f"GET {path} HTTP/1.1\r\n".encode()
                + "".join(f"{k}: {v}\r\n" for k, v in lines.items()).encode()
                + b"\r\n"
            )
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split()[1])
            return status, (
                head + (await reader.read() if lines["Connection"] == "close" else b"")
            ).decode("utf-8", "replace")
    finally:
        writer.close()


async def opened(port: int, **headers: str) -> int:
    """Ask for an XMPP WebSocket; the status."""
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "xmpp",
    }
    key = base64.b64encode(os.urandom(16)).decode()
    return (await asked(port, "/ws", **upgrade, **{"Sec-WebSocket-Key": key}, **headers))[0]


@pytest.fixture
def port(xmpp_server: XmppServer) -> int:
    server = xmpp_server.server
    assert webchat.install_page(server.web, server.domain, f"ops@conference.{server.domain}"), (
        "install.sh test brings converse.js"
    )
    return server.http_port


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_a_page_of_ours_may_open_a_websocket(port: int, name: str) -> None:
    assert await opened(port, Origin=f"http://{name}:{port}") == 101


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.test",
        "http://127.0.0.1",
        "http://127.0.0.1:{port}.evil.test",
        "https://localhost:{port}",
        "null",
    ],
)
async def test_no_other_page_may(port: int, origin: str) -> None:
    assert await opened(port, Origin=origin.format(port=port)) == 403


async def test_what_is_no_browser_sends_no_origin_and_gets_through(port: int) -> None:
    assert await opened(port) == 101


async def test_a_name_that_was_bent_to_this_machine_finds_no_page(port: int) -> None:
    status, _ = await asked(port, "/", Host=f"evil.test:{port}")
    assert status == 410
    assert await opened(port, Host=f"evil.test:{port}", Origin=f"http://evil.test:{port}") == 403


@pytest.mark.parametrize(
    "path", ["/", "/page.js", "/page.css", "/converse.min.js", "/converse.min.css"]
)
async def test_the_page_lets_nothing_in_from_elsewhere(port: int, path: str) -> None:
    status, answer = await asked(port, path)
    policy = next(
        line for line in answer.splitlines() if line.lower().startswith("content-security-policy:")
    )
    assert status == 200
    for wanted in (
        "default-src 'none'",
        "script-src 'self';",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ):
        assert wanted in policy
    assert "http" not in policy.partition(":")[2]
    assert "nosniff" in answer


@pytest.mark.parametrize(
    "path",
    [
        "/../conf/ejabberd.yml",
        "/..%2fconf%2fejabberd.yml",
        "/%2e%2e/ca.pem",
        "/images/",
        "/webfonts",
        "/ports.json",
    ],
)
async def test_nothing_beside_the_page_is_served(port: int, path: str) -> None:
    status, _ = await asked(port, path)
    assert status in (400, 403, 404)


async def test_what_is_served_holds_no_password(port: int, xmpp_server: XmppServer) -> None:
    person = await xmpp_server.person("owner")
    assert webchat.install_page(xmpp_server.server.web, xmpp_server.domain, "ops@conference.x")
    made = [xmpp_server.password(f.name).encode() for f in xmpp_server.secrets.iterdir()]
    secrets = [
        secret for secret in made if len(secret) > 15
    ]  # not the words that other tests wrote there as wrong ones
    served = [f for f in xmpp_server.server.web.rglob("*") if f.is_file()]
    assert xmpp_server.password(person).encode() in secrets
    assert {f.name for f in served} >= {"index.html", "page.js", "converse.min.js"}
    assert not [f for f in served for secret in secrets if secret in f.read_bytes()]
    webchat.clear_folder(xmpp_server.server.web)
    assert (await asked(port, "/"))[0] == 404
