"""Routers on Kafka Streams in a whole stack: two share the work; one is killed, drained, frozen and
thawed; the engine is switched both ways while events come. The books stay clean."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress

import msgspec
import psutil
import pytest
import pytest_asyncio

from agents.core.model.placement import State
from agents.core.model.topology import KAFKA_STREAMS, PYTHON
from agents.kafka.rights import COORDINATOR
from agents.local.servers.children import Child
from agents.local.stack import write_settings
from agents.settings import load_settings
from tests.router.streams import needs_jars
from tests.stack.conftest import Running, started
from tests.stack.shared.asking import confirmed, operator, step, text

pytestmark = [
    needs_jars,
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),
]
ROUTERS = ("router-1", "router-2")
STEADY_S = 90.0  # Java starts slowly on a busy machine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    async with started(request.session, router=KAFKA_STREAMS, routers=2) as running:
        yield running


def _router(running: Running, name: str) -> Child:
    return running.stack.family.children[name]


def _java_of(child: Child) -> list[psutil.Process]:
    if child.pid is None:
        return []
    try:
        below = psutil.Process(child.pid).children(recursive=True)
        return [p for p in below if p.name() == "java"]
    except psutil.NoSuchProcess:
        return []


def _shared_out(running: Running, name: str) -> list[list[int]]:
    """What Kafka Streams has given to that router, as its log tells it, the last at the end."""
    log = _router(running, name).log_file.read_text("utf-8").splitlines()
    events = [msgspec.json.decode(x) for x in log if '"partitions_shared_out"' in x]
    return [event["partitions"] for event in events]


async def _until_both_work(running: Running) -> None:
    def both_work() -> bool:
        told = [_shared_out(running, name)[-1:] for name in ROUTERS]
        owned = [n for parts in told for some in parts for n in some]
        every = list(range(len(running.stack.accounting.raw)))
        return sorted(owned) == every and all(some and some[0] for some in told)

    await running.until(both_work, "both routers have partitions", STEADY_S)


async def test_two_routers_share_the_raw_partitions(two: Running) -> None:
    await _until_both_work(two)
    replay, sending = two.replay(4_000)
    await two.account(replay, sending)
    raw = [two.stack.follower.placed.get(p) for p in two.stack.accounting.raw]
    assert all(s is None or s.state is State.ORPHAN for s in raw), "the coordinator places none"
    async with operator(two) as person:
        assert f"works {len(raw)} of {len(raw)} partitions" in text(await step(person, "lanes"))


async def test_a_dead_java_process_is_noticed_at_once(two: Running) -> None:
    await _until_both_work(two)
    router = _router(two, ROUTERS[0])
    starts = router.starts
    replay, sending = two.replay(8_000)
    await asyncio.sleep(2)
    [java] = _java_of(router)
    java.kill()
    await two.until(lambda: router.starts > starts, "its router has started again", 30)
    await two.account(replay, sending)
    assert "Kafka Streams has ended" in router.log_file.read_text("utf-8")


async def test_a_killed_router_takes_java_with_it(two: Running) -> None:
    await _until_both_work(two)
    router = _router(two, ROUTERS[1])
    replay, sending = two.replay(8_000)
    await asyncio.sleep(2)
    [java] = _java_of(router)
    [folder] = [x.partition("=")[2] for x in java.cmdline() if x.startswith("-Djava.io.tmpdir=")]
    router.send_signal(signal.SIGKILL)
    await two.until(lambda: not java.is_running(), "Java has ended, too", 30)
    assert not os.path.exists(folder)  # noqa: ASYNC240 - at once
    await two.account(replay, sending)


async def test_a_router_that_was_frozen_commits_nothing(two: Running) -> None:
    """Router and Java together, as a machine that stands still."""
    await _until_both_work(two)
    router = _router(two, ROUTERS[0])
    boot = two.stack.follower.leases[ROUTERS[0]].boot
    replay, sending = two.replay(12_000)
    await asyncio.sleep(2)
    assert router.pid is not None
    frozen = [router.pid, *(p.pid for p in _java_of(router))]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        await two.until(
            lambda: two.stack.follower.leases[ROUTERS[0]].fenced, "it is fenced", STEADY_S
        )
        await asyncio.sleep(4)
    finally:
        for pid in frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    await two.account(replay, sending)
    await two.until(
        lambda: two.stack.follower.leases[ROUTERS[0]].boot != boot, "its next boot works", STEADY_S
    )


async def test_drain_and_resume(two: Running) -> None:
    await _until_both_work(two)
    router = _router(two, ROUTERS[0])
    replay, sending = two.replay(8_000)
    async with operator(two) as person:
        await confirmed(person, "drain", node=ROUTERS[0])
        await two.until(lambda: not _java_of(router), "its program has left the group", 60)
        assert router.pid is not None, "the process stays"
        await two.account(replay, sending)
        await confirmed(person, "resume", node=ROUTERS[0])
    await _until_both_work(two)


def _set_engine(running: Running, engine: str) -> None:
    """In the settings of the coordinator and of the routers."""
    for name in (COORDINATOR, *ROUTERS):
        file = running.stack.folder.settings / f"{name}.toml"
        settings = load_settings(file)
        router = msgspec.structs.replace(settings.router, engine=engine)
        write_settings(file, msgspec.structs.replace(settings, router=router))


async def test_the_engine_is_switched_both_ways_while_events_come(two: Running) -> None:
    await _until_both_work(two)
    raw = two.stack.accounting.raw
    replay, sending = two.replay(30_000)
    await asyncio.sleep(2)
    _set_engine(two, PYTHON)
    two.leader().send_signal(signal.SIGTERM)

    def python_owns_all() -> bool:
        placed = [two.stack.follower.placed.get(p) for p in raw]
        return all(s is not None and s.state is State.ASSIGNED for s in placed)

    await two.until(python_owns_all, "routers in Python own the raw partitions", STEADY_S)
    assert not any(_java_of(_router(two, name)) for name in ROUTERS)
    await asyncio.sleep(2)
    _set_engine(two, KAFKA_STREAMS)
    two.leader().send_signal(signal.SIGTERM)
    await two.until(
        lambda: all(two.stack.follower.placed[p].state is State.ORPHAN for p in raw),
        "no raw partition has an owner",
        STEADY_S,
    )
    await _until_both_work(two)
    await two.account(replay, sending)
