"""What people see of it: the room is asked and answers, tells once of what matters, and a second
coordinator takes over in the middle."""

from __future__ import annotations

import asyncio
import signal
import urllib.request
from contextlib import aclosing

import pytest

from agents.xmpp.operator_client import OperatorClient
from tests.stack.conftest import Running

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="package")]


async def test_a_member_looks_and_an_admin_drains(running: Running) -> None:
    victim = running.stack.busiest_node().name
    name = victim.partition("-")[2]
    async with (
        OperatorClient(running.login("guest"), "guest") as guest,
        OperatorClient(running.login("ana"), "ana") as ana,
    ):
        await guest.join_room()
        await ana.join_room()
        await guest.send_to_room("!status")
        assert "3/3 nodes, 12/12 lanes" in (await guest.wait_for_message(running.bot("nodes"))).text
        await guest.send_to_room(f"!drain {name}")
        await guest.wait_for_message(running.bot("needs an admin"))
        replay, sending = running.replay(4000)
        await ana.send_to_room(f"geolane: drain {name}")
        dry = await ana.wait_for_message(running.bot("To do it"))
        assert running.stack.follower.lanes_of(victim), "a dry run moves nothing"
        ana.send_to_person(
            running.stack.base.xmpp.coordinator,
            f"confirm {dry.text.partition('confirm ')[2].split()[0]}",
        )
        await ana.wait_for_message(running.bot("another person or conversation"))
        await ana.send_to_room(f"!confirm {dry.text.partition('confirm ')[2].split()[0]}")
        await ana.wait_for_message(running.bot("ana: drain .* done in"), 30)
        # a lane that was on its way there when the drain began goes on at once
        await running.until(
            lambda: not running.stack.follower.lanes_of(victim), "the node is empty", 30
        )
        await running.account(replay, sending)
        ana.send_to_person(running.stack.base.xmpp.coordinator, f"resume {name}")
        again = await ana.wait_for_message(running.bot("To do it"))
        ana.send_to_person(
            running.stack.base.xmpp.coordinator,
            f"confirm {again.text.partition('confirm ')[2].split()[0]}",
        )
        await ana.wait_for_message(running.bot("takes lanes again"))


async def test_places_are_found_without_a_geo_worker(running: Running) -> None:
    async with OperatorClient(running.login("guest"), "guest") as guest:
        await guest.join_room()
        for question, answer in (
            ("!place Springfield, Illinois", r"39\.8017, -89\.6437 \(precision: city\)"),
            ("!place -33.9,18.4", "Cape Town, Western Cape, ZA"),
            ("!place null", "stands for no value"),
            ("!place Münhcen, Germany", 'No place called "Münhcen" in Germany is known'),
        ):
            await guest.send_to_room(question)
            await guest.wait_for_message(running.bot(answer), 60)  # the table is made first


async def test_pictures_are_answered_with_a_link_to_a_png(running: Running) -> None:
    async with OperatorClient(running.login("guest"), "guest") as guest:
        await guest.join_room()
        for question in ("!map", "!plot rate 5m"):
            await guest.send_to_room(question)
            link = await guest.wait_for_message(
                running.bot(r"^http://127\.0\.0\.1:\d+/upload/"), 30
            )
            png = await asyncio.to_thread(_fetched, link.text)
            assert png.startswith(b"\x89PNG"), question


def _fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        content: bytes = answer.read()
        return content


async def test_the_leader_is_killed_and_the_standby_goes_on_with_what_is_written(
    running: Running,
) -> None:
    fences, leader = running.stack.follower.fences, running.stack.follower.leader_epoch
    replay, sending = running.replay(5000)
    await replay.wait_until_sent(2000)
    running.leader().send_signal(signal.SIGKILL)
    await asyncio.sleep(0.3)  # what it wrote last has been read
    moves = running.stack.follower.moves
    await running.until(
        lambda: running.stack.follower.leader_epoch > leader, "the standby leads", 5
    )
    assert running.stack.follower.moves == moves
    await running.account(replay, sending)
    assert running.stack.follower.fences == fences
    async with OperatorClient(running.login("guest"), "guest") as guest:
        guest.send_to_person(running.stack.base.xmpp.coordinator, "status")
        assert "12/12 lanes" in (await guest.wait_for_message(running.bot("nodes"), 20)).text


async def test_a_frozen_leader_loses_the_name_and_ends_when_it_thaws(running: Running) -> None:
    follower = running.stack.follower
    leader, fences = follower.leader_epoch, follower.fences
    replay, sending = running.replay(14_000)
    await replay.wait_until_sent(1000)
    frozen = running.leader()
    starts = frozen.starts
    frozen.send_signal(signal.SIGSTOP)
    try:
        await running.until(lambda: follower.leader_epoch > leader, "the other one leads", 20)
    finally:
        frozen.send_signal(signal.SIGCONT)
    await running.until(lambda: frozen.starts > starts, "the deposed one has ended", 20)
    await running.account(replay, sending)
    assert follower.fences == fences, "nobody was fenced for it"


async def test_a_killed_node_is_told_once_with_its_end_and_on_the_feed(running: Running) -> None:
    async with OperatorClient(running.login("guest"), "guest") as guest:
        await guest.join_room()
        async with aclosing(guest.watch_feed("alerts")) as alerts:
            replay, sending = running.replay(4000)
            await replay.wait_until_sent(1500)
            victim = running.stack.busiest_node().name
            running.stack.kill_process(victim)
            name = victim.partition("-")[2]
            gone = await guest.wait_for_message(running.bot(f"{name} is gone"), 20)
            if (
                "Calm again" not in gone.text
            ):  # else it was over before there was room for a message
                await guest.wait_for_message(running.bot("Calm again"), 20)
            await running.account(replay, sending)
            async for item in alerts:
                if name in "".join(item.payload.itertext()):
                    break
