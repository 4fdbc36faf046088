"""A file that the leader puts is had by its link, as it was; without such a service the answer says
so."""

from __future__ import annotations

import asyncio
import urllib.request

import pytest

from agents.base.errors import CommandRefused
from agents.xmpp.client import Handlers, Login, Session
from agents.xmpp.upload import Uploads
from tests.fixtures.xmpp import XmppServer
from tests.xmpp.conftest import Links

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40


def fetch(url: str) -> tuple[bytes, str, str]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return (
            answer.read(),
            answer.headers["Content-Type"],
            answer.headers["X-Content-Type-Options"],
        )


async def test_what_was_put_is_had_by_its_link(links: Links) -> None:
    leader = await links.coordinator()
    url = await leader.link.upload_file("map.png", PNG, "image/png")
    assert url.startswith("http://127.0.0.1:")
    assert url.endswith("/map.png")
    assert await asyncio.to_thread(fetch, url) == (PNG, "image/png", "nosniff")
    again = await leader.link.upload_file("map.png", PNG, "image/png")
    assert again != url, "no link can be guessed from another"


async def test_people_of_the_room_may_upload_and_other_accounts_may_not(
    xmpp_server: XmppServer,
) -> None:
    async def put(account: str) -> str:
        xmpp = xmpp_server.settings(account)
        async with Session(Login(xmpp, f"{xmpp_server.jid(account)}/phone"), Handlers()) as session:
            return await Uploads(session, xmpp.domain, xmpp.ca_file).upload_file(
                "a.png", PNG, "image/png"
            )

    assert (await put(await xmpp_server.person())).endswith("/a.png")
    with pytest.raises(CommandRefused, match="forbidden"):
        await put(await xmpp_server.stranger())


async def test_what_is_too_large_is_not_sent(links: Links) -> None:
    leader = await links.coordinator()
    with pytest.raises(CommandRefused, match="takes 10,485,760 bytes"):
        await leader.link.upload_file("large.png", bytes(10_485_761), "image/png")
