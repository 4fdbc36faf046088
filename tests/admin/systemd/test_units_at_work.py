"""Processes as units on real servers: ready when they work, watched while they do, and a node that
is told to stop hands its lanes over before it goes."""

from __future__ import annotations

import asyncio
import re
import signal
from functools import partial

import pytest

from tests.admin.systemd.conftest import WATCHDOG_S, RunningUnits
from tests.admin.systemd.support import Manager

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

EVENTS, MIDDLE = 6000, 1500


def lives_on(manager: Manager, beats: int) -> bool:
    return manager.beats >= beats + 2


async def test_every_process_says_that_it_is_ready_and_alive(units: RunningUnits) -> None:
    assert {name.partition("-")[0] for name in units.stack.managers} == {
        "node",
        "router",
        "coordinator",
    }
    for manager in units.stack.managers.values():
        await manager.hear("READY=1")
        beats = manager.beats
        await manager.until(partial(lives_on, manager, beats), "signs of life")
    await units.manager("coordinator").hear("STATUS=leads")
    busiest = units.stack.busiest_node().name
    lanes = len(units.stack.follower.lanes_of(busiest))
    await units.manager(busiest).hear(f"STATUS={lanes} lanes")


async def test_a_node_that_is_told_to_stop_hands_over_and_then_ends(units: RunningUnits) -> None:
    stack, unit = units.stack, units.stack.busiest_node()
    fences, starts, name = stack.follower.fences, unit.starts, unit.name.removeprefix("node-")
    manager = units.manager(unit.name)
    replay, sending = units.replay(EVENTS)
    await replay.wait_until_sent(MIDDLE)
    async with units.in_room() as ana:
        manager.said.clear()
        unit.send_signal(signal.SIGTERM)
        await manager.hear("STOPPING=1", 2)
        await manager.hear("STATUS=drained", 20)
        # It is told by the leader; our follower reads the same records a moment later.
        await units.until(
            lambda: not stack.follower.lanes_of(unit.name) or unit.starts > starts,
            "its lanes are with others",
            5,
        )
        assert unit.starts == starts, "they are with others before it ends"
        await units.until(lambda: unit.starts > starts, "it has ended, and is started again", 10)
        said = await ana.wait_for_message(
            lambda said: re.search(f"{name} (has stopped|is gone)", said.text) is not None, 20
        )
        assert "has stopped; it handed everything over first" in said.text
        await manager.hear("READY=1")
    await units.account(replay, sending)
    assert stack.follower.fences == fences, "nothing was taken from it"


async def test_a_router_that_nobody_relieves_ends_before_its_time_is_over(
    units: RunningUnits,
) -> None:
    router = units.stack.family.children["router-1"]
    starts = router.starts
    replay, sending = units.replay(EVENTS)
    await replay.wait_until_sent(MIDDLE)
    router.send_signal(signal.SIGTERM)
    await units.until(lambda: router.starts > starts, "it has ended, and is started again", 15)
    assert "nobody_takes_over" in router.log_file.read_text("utf-8")
    await units.account(replay, sending)


async def test_a_second_signal_ends_a_node_at_once(units: RunningUnits) -> None:
    unit = units.stack.busiest_node()
    manager, starts = units.manager(unit.name), unit.starts
    manager.said.clear()
    unit.send_signal(signal.SIGTERM)
    await manager.hear("STOPPING=1", 2)
    unit.send_signal(signal.SIGTERM)
    await units.until(lambda: unit.starts > starts, "it has ended, and is started again", 10)
    assert "STATUS=drained" not in manager.said, "it handed nothing over"
    await manager.hear("READY=1")


async def test_a_node_that_hangs_says_nothing_and_is_replaced_without_loss(
    units: RunningUnits,
) -> None:
    unit = units.stack.busiest_node()
    manager, starts = units.manager(unit.name), unit.starts
    replay, sending = units.replay(EVENTS)
    await replay.wait_until_sent(MIDDLE)
    unit.send_signal(signal.SIGSTOP)
    beats = manager.beats
    await asyncio.sleep(1.5 * WATCHDOG_S)
    assert manager.beats <= beats + 1
    manager.said.clear()
    unit.send_signal(signal.SIGABRT)  # as systemd does now
    unit.send_signal(signal.SIGCONT)
    await units.until(lambda: unit.starts > starts, "it is started again", 10)
    await manager.hear("READY=1")
    await units.account(replay, sending)
