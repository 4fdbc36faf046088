"""Whatever is killed or frozen in the middle of the stream: nothing is missing, nothing comes
twice, and the lanes go on."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from agents.core.model.placement import State
from agents.local.headless import kill_and_measure
from tests.stack.conftest import Running

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

EVENTS, MIDDLE = 6000, 2500
NOBODY = "Nobody leads until I can use Kafka"


async def test_a_quiet_run_accounts_for_every_event(running: Running) -> None:
    replay, sending = running.replay(3000)
    await running.account(replay, sending)
    assert running.stack.follower.fences == 0


async def test_the_coordinator_is_killed(running: Running) -> None:
    moves, fences = running.stack.follower.moves, running.stack.follower.fences
    leader = running.stack.follower.leader_epoch
    replay, sending = running.replay(EVENTS)
    await replay.wait_until_sent(MIDDLE)
    running.stack.kill_process("coordinator")
    await running.until(
        lambda: running.stack.follower.leader_epoch > leader, "it is back and leads"
    )
    # It read what was written: nobody lost a lane for its sake.
    assert running.stack.follower.moves == moves
    await running.account(replay, sending)
    assert running.stack.follower.fences == fences


async def test_a_busy_node_is_killed(running: Running) -> None:
    replay, sending = running.replay(EVENTS)
    await replay.wait_until_sent(MIDDLE)
    async with running.in_room() as ana:
        name = running.stack.busiest_node().name.removeprefix("node-")
        recovery_ms = await kill_and_measure(running.stack, lambda text: None)
        await ana.wait_for_message(lambda said: said.text.startswith(f"{name} is gone"), 30)
    await running.account(replay, sending)
    assert recovery_ms is not None
    assert recovery_ms < 2000


async def test_a_busy_node_is_frozen_for_20_s_and_thawed(running: Running) -> None:
    fences = running.stack.follower.fences
    replay, sending = running.replay(EVENTS)
    await replay.wait_until_sent(MIDDLE)
    victim = running.stack.busiest_node()
    lanes, begun = running.stack.follower.lanes_of(victim.name), time.monotonic()
    pid, starts = victim.pid, victim.starts
    victim.send_signal(signal.SIGSTOP)
    try:
        follower = running.stack.follower
        await running.until(
            lambda: not follower.lanes_of(victim.name), "its lanes are with others", 20
        )
        assert (
            all(follower.placed[lane].state is State.ASSIGNED for lane in lanes)
            or follower.fences > fences
        )
        await asyncio.sleep(
            max(0.0, 20 - (time.monotonic() - begun))
        )  # frozen so long that every session of it is gone
    finally:
        victim.send_signal(signal.SIGCONT)
    await running.account(replay, sending)
    await running.until(
        lambda: victim.starts > starts and victim.pid not in (None, pid),
        "the fenced process has ended",
    )


async def test_the_router_is_killed(running: Running) -> None:
    replay, sending = running.replay(EVENTS)
    await replay.wait_until_sent(MIDDLE)
    running.stack.kill_process("router-1")
    await running.account(replay, sending)


async def test_ejabberd_is_killed_and_nobody_is_fenced(running: Running) -> None:
    fences = running.stack.follower.fences
    starts = {
        name: child.starts
        for name, child in running.stack.family.children.items()
        if name != "coordinator"
    }
    server = running.stack.servers.server
    assert server is not None
    replay, sending = running.replay(EVENTS)
    await replay.wait_until_sent(MIDDLE)
    server.kill()
    await running.until(lambda: server.pid is not None, "it is started again")
    await running.account(replay, sending)
    assert running.stack.follower.fences == fences
    assert {name: running.stack.family.children[name].starts for name in starts} == starts


async def test_kafka_is_killed_and_comes_back(running: Running) -> None:
    broker = running.stack.servers.broker
    assert broker is not None
    replay, sending = running.replay(EVENTS)
    await replay.wait_until_sent(MIDDLE)
    async with running.in_room() as ana:
        running.stack.servers.hold_server("kafka")  # long enough for a coordinator to notice
        broker.kill()
        try:  # the leader says so, or the next one, if a write was under way
            await ana.wait_for_message(
                lambda said: "Kafka does not answer me" in said.text or NOBODY in said.text, 30
            )
            leader = running.stack.family.children["coordinator"]
            assert leader.pid is not None
            os.kill(leader.pid, signal.SIGKILL)
            await ana.wait_for_message(lambda said: NOBODY in said.text, 40)
        finally:
            running.stack.servers.release_server("kafka")
        await running.until(lambda: broker.pid is not None, "it is started again")
    await running.account(replay, sending)


async def test_a_broker_that_stalls_costs_time_and_nothing_else(running: Running) -> None:
    broker = running.stack.servers.broker
    assert broker is not None
    fences = running.stack.follower.fences
    replay, sending = running.replay(EVENTS)
    for at in (1500, 3000):
        await replay.wait_until_sent(at)
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGSTOP)  # as a disk that does not answer
        try:
            await asyncio.sleep(4)
        finally:
            os.kill(broker.pid, signal.SIGCONT)
    await running.account(replay, sending)
    assert running.stack.follower.fences == fences


async def test_a_server_of_chat_that_stalls_fences_nobody(running: Running) -> None:
    server = running.stack.servers.server
    assert server is not None
    assert server.pid is not None
    fences = running.stack.follower.fences
    replay, sending = running.replay(EVENTS)
    await replay.wait_until_sent(1500)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(8)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await running.account(replay, sending)
    assert running.stack.follower.fences == fences
