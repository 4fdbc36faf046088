"""Events that name a place in a whole stack: found, sent on exactly once through a `kill -9`, or
dead letters with a reason; what people see of it."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from itertools import islice

import orjson
import pytest
from aiokafka import AIOKafkaConsumer

from agents.core.model.topology import TOPIC_CLEAN, WorkerKind
from agents.kafka.connection import client_kwargs
from agents.kafka.offsets import Offsets
from agents.local.demo import flights
from agents.local.stack import MAPS_OF_SETTINGS
from tests.stack.conftest import Running

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

MAPS = MAPS_OF_SETTINGS
UNPLACED = WorkerKind.GEO.partition(0)


async def test_places_become_coordinates_and_each_event_counts_once(running: Running) -> None:
    a = running.stack.accounting
    nowhere = [(None, orjson.dumps({"id": "n", "ts": 5, "origin": {"place": "Atlantis Nova"}}))]
    stream = [
        *islice(flights.name_origins(running.stream), 500),
        *islice(running.stream, 100),
        *nowhere,
    ]
    replay, sending = running.replay(len(stream), iter(stream))
    await running.account(replay, sending)
    assert (a.placed + a.dead, a.unplaced) == (501, 0)
    assert a.placed > 450, "a few cities have names that nobody knows"
    assert set(a.reasons) == {"unknown_place"}
    assert a.clean + a.filtered == 100 + a.placed


async def test_a_placed_event_keeps_its_key_and_says_who_placed_it(running: Running) -> None:
    kafka = running.stack.base.kafka
    event = orjson.loads(next(running.stream)[1]) | {"id": "one", "origin": {"place": "ORD"}}
    replay, sending = running.replay(1, iter([(b"own key", orjson.dumps(event))]))
    await running.account(replay, sending)
    consumer = AIOKafkaConsumer(
        TOPIC_CLEAN,
        **client_kwargs(kafka),
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        async with asyncio.timeout(30):
            async for record in consumer:
                if orjson.loads(record.value)["id"] == "one":
                    break
    finally:
        await consumer.stop()
    assert record.key == b"own key"
    assert dict(record.headers)["geolane-placed"] == b"offline city"
    origin = orjson.loads(record.value)["origin"]
    assert origin["geo"]["provider"] == "offline"
    assert abs(origin["lat"] - 41.98) < 0.5


async def test_a_killed_worker_costs_no_event(running: Running) -> None:
    stack = running.stack
    before, boot = stack.accounting.placed, stack.follower.placed[UNPLACED].boot
    replay, sending = running.replay(4000, flights.name_origins(flights.week_of_events(3)))
    await running.until(lambda: stack.accounting.placed > before + 500, "it places them")
    stack.kill_process("geo-1")
    await running.account(replay, sending)
    assert stack.accounting.unplaced == 0
    assert stack.follower.placed[UNPLACED].boot != boot


async def test_a_worker_frozen_within_a_transaction_holds_up_the_others_until_it_is_fenced(
    running: Running,
) -> None:
    """What it has written is not decided, so that routers cannot read what is behind it."""
    stack, a = running.stack, running.stack.accounting
    before, fences, boot = a.placed, stack.follower.fences, stack.follower.placed[UNPLACED].boot
    worker, raw = (
        stack.family.children["geo-1"],
        [WorkerKind.ROUTER.partition(n) for n in range(len(a.raw))],
    )
    offsets = Offsets(stack.base.kafka, WorkerKind.GEO.group)

    async def is_undecided() -> bool:
        written = await offsets.read_high_watermarks(raw)
        readable = await offsets.read_end_offsets(raw)
        return any(readable[p] < written[p] for p in raw)

    await offsets.start()
    try:
        named, sending = running.replay(4000, flights.name_origins(flights.week_of_events(5)))
        await running.until(lambda: a.placed > before + 200, "it places them")
        async with asyncio.timeout(60):
            while True:
                worker.send_signal(signal.SIGSTOP)
                if await is_undecided():
                    break
                worker.send_signal(signal.SIGCONT)
                await asyncio.sleep(0.01)
        frozen_s = time.monotonic()
        done = a.clean + a.filtered
        others, sending_others = running.replay(300, flights.week_of_events(6))
        await running.until(lambda: stack.follower.fences > fences, "it is fenced")
        await running.until(lambda: a.clean + a.filtered >= done + 300, "the others go on")
        print(f"held up for {time.monotonic() - frozen_s:.1f} s")
        assert not await is_undecided()
    finally:
        worker.send_signal(signal.SIGCONT)
        await offsets.stop()
    await running.account(named, sending)
    await running.account(others, sending_others)
    assert a.unplaced == 0
    assert stack.follower.placed[UNPLACED].boot != boot


async def test_people_see_the_worker_and_what_it_works(running: Running) -> None:
    async with running.in_room() as ana:
        await ana.send_to_room("!node geo-1")
        said = await ana.wait_for_message(running.bot("geo-1 is ok: 1 partition", room=True), 30)
        assert "Owns unplaced 0." in said.text
        await ana.send_to_room("!place Springfield, Illinois")
        said = await ana.wait_for_message(running.bot("Springfield", room=True), 30)
        assert re.search(r"39\.8\d*, ?-89\.6", said.text)
        assert "GeoNames" in said.text


async def test_kafka_is_killed_while_places_are_looked_up(running: Running) -> None:
    """The replay finds what it has sent among what geo has sent back."""
    stack, a = running.stack, running.stack.accounting
    before = a.placed
    replay, sending = running.replay(4000, flights.name_origins(flights.week_of_events(4)))
    await running.until(lambda: a.placed > before + 500, "it places them")
    broker = stack.servers.broker
    assert broker is not None
    broker.kill()
    await running.account(replay, sending)
    assert a.unplaced == 0
