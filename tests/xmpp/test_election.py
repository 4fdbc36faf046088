"""Who leads: one session holds the name, the next takes it within a second, and nobody is led
twice."""

from __future__ import annotations

import asyncio

import pytest

from agents.core.events import Led, LinkDown, LinkUp, NotLeading
from agents.core.model.messages import Health, LanesCommand
from agents.xmpp import election
from tests.xmpp.conftest import Links, until


async def test_the_second_stands_by_and_takes_over_as_soon_as_the_first_crashes(
    links: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(election, "LOOK_AGAIN_S", 3600.0)  # not because it looks now and then
    first = await links.coordinator("first")
    second = await links.coordinator("second", led=False)
    await until(lambda: first.link.standby_count == 1)
    assert not second.of(Led)
    worker = await links.worker()
    first.crash()
    await second.led()
    await second.link.send_command(worker.account, LanesCommand(5, "boot1"), 5.0)
    assert [
        type(e) for e in second.events if isinstance(e, LinkUp | LinkDown | Led | NotLeading)
    ] == [LinkUp, Led]


async def test_of_three_exactly_one_leads_after_a_crash(links: Links) -> None:
    first = await links.coordinator("first")
    others = [await links.coordinator(f"other{n}", led=False) for n in range(3)]
    await until(lambda: first.link.standby_count == 3)
    first.crash()
    await until(lambda: [x for x in others if x.link.is_leading])
    leader = next(x for x in others if x.link.is_leading)
    await until(lambda: leader.link.standby_count == 2)
    assert sum(x.link.is_leading for x in others) == 1
    assert sum(len(x.of(Led)) for x in others) == 1


async def test_who_steps_down_is_followed_by_the_one_that_waits(links: Links) -> None:
    first = await links.coordinator("first")
    second = await links.coordinator("second", led=False)
    await until(lambda: first.link.standby_count == 1)
    await first.link.step_down()
    await second.led()
    assert first.of(NotLeading) == [NotLeading("stepped_down")]
    await until(lambda: second.link.standby_count == 1)
    assert not first.link.is_leading


async def test_a_leader_whose_link_is_cut_leads_again_when_alone(links: Links) -> None:
    leader = await links.coordinator()
    worker = await links.worker()
    worker.link.announce_health(Health.AVAILABLE, "working", "")
    session = leader.link._leader_session
    assert session is not None
    session.abort("cut by the test")
    await until(lambda: leader.of(NotLeading))
    await until(lambda: len(leader.of(Led)) == 2)
    assert leader.of(NotLeading) == [NotLeading("link_down")]
    kinds = [type(e) for e in leader.events if isinstance(e, LinkUp | LinkDown | Led | NotLeading)]
    assert kinds == [LinkUp, Led, NotLeading, LinkDown, LinkUp, Led]
    await leader.link.ping_worker(worker.account, 5.0)


async def test_a_session_that_is_replaced_by_the_administrator_is_not_leading(links: Links) -> None:
    leader = await links.coordinator()
    server = links.server
    await server.server.api.call(
        "kick_session",
        user="geolane",
        host=f"fleet.{server.domain}",
        resource="leader",
        reason="test",
    )
    await until(lambda: leader.of(NotLeading))
    await until(lambda: len(leader.of(Led)) == 2, 15.0)
    await asyncio.wait_for(leader.link.send_to_room("back"), 10)
