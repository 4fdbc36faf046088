"""Logins, what we say that we are, and the room's self-ping, against the real server."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from slixmpp.util.sasl.mechanisms import SCRAM

from agents.base.errors import SettingsError
from agents.core.events import Led
from agents.core.model.messages import Health
from agents.xmpp import room as room_module
from agents.xmpp import stream
from plugins import namespaces as ns
from plugins.lanes.stanza import NAMES, NODE_PREFIX
from tests.xmpp.conftest import Links, until


@pytest.mark.parametrize("iterations", [4096, 5000])
def test_the_fast_pbkdf2_is_the_slow_one(iterations: int) -> None:
    class Sha256:
        hash = hashlib.sha256
        HMAC = SCRAM.HMAC

    slow: Any = stream.SLOW_HI
    for text in (b"pencil", "p\N{LATIN SMALL LETTER E WITH ACUTE}ncil".encode()):
        assert stream.pbkdf2(Sha256(), text, b"salt" * 4, iterations) == slow(
            Sha256(), text, b"salt" * 4, iterations
        )


def test_one_context_serves_all_clients(tmp_path: Any) -> None:
    assert stream.tls_context("") is stream.tls_context("")
    with pytest.raises(SettingsError):
        stream.tls_context(str(tmp_path / "missing.pem"))


async def test_a_worker_tells_what_it_is_and_which_commands_it_has(links: Links) -> None:
    leader = await links.coordinator()
    worker = await links.worker()
    worker.link.announce_health(Health.AVAILABLE, "working", "")
    session = leader.link._leader_session
    assert session is not None
    disco = session.stream.plugin["xep_0030"]
    jid = f"{worker.account}@{links.server.settings().fleet}/etl"
    info = (await disco.get_info(jid=jid, cached=False, timeout=5))["disco_info"]
    assert ("client", "bot", None, "geolane") in info["identities"]
    assert set(ns.OURS) <= set(info["features"])
    items = (await disco.get_items(jid=jid, node=ns.COMMANDS, timeout=5))["disco_items"]["items"]
    assert {node for _, node, _ in items} == {NODE_PREFIX + name for name in NAMES}


async def test_the_self_ping_tells_whether_we_are_in_the_room(
    links: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = await links.coordinator()
    room = await until(lambda: leader.link._leadership and leader.link._leadership._room)
    await until(room.joined.is_set)
    assert await room._is_still_in()
    monkeypatch.setattr(room, "handle_presence", lambda _: None)  # we do not hear that we leave
    leave = room.session.stream.Presence(sto=f"{room.room}/{room.nick}", stype="unavailable")
    room.session.send(leave)
    assert not await room._is_still_in()


async def test_the_self_ping_brings_us_back(links: Links, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_module, "PING_PERIOD_S", 0.1)
    leader = await links.coordinator()
    room = await until(lambda: leader.link._leadership and leader.link._leadership._room)
    await until(room.joined.is_set)
    heard = room.handle_presence
    deaf = [True]
    monkeypatch.setattr(room, "handle_presence", lambda p: None if deaf[0] else heard(p))
    room.session.send(
        room.session.stream.Presence(sto=f"{room.room}/{room.nick}", stype="unavailable")
    )
    await until(lambda: not room.joined.is_set())
    deaf[0] = False
    await until(room.joined.is_set)
    assert await room._is_still_in()
    assert len(leader.of(Led)) == 1
