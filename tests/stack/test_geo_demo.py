"""`geolane up --maps demo`: a whole stack with an Apple Maps that invents everything, and says so
wherever a figure is shown."""

from __future__ import annotations

import asyncio
from itertools import islice

import orjson
import pytest
from aiokafka import TopicPartition

from agents.core.geo.context import decode_record
from agents.core.model.topology import TOPIC_CLEAN, TOPIC_GEO_CONTEXT
from agents.kafka.connection import make_committed_reader
from agents.local.demo import flights
from agents.local.stack import MAPS_DEMO
from tests.stack.conftest import Running

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

MAPS = MAPS_DEMO


async def test_places_are_invented_and_say_so(running: Running) -> None:
    a = running.stack.accounting
    stream = flights.name_origins(islice(running.stream, 40))
    replay, sending = running.replay(40, stream)
    await running.account(replay, sending)
    assert (a.unplaced, a.placed + a.dead) == (0, 40)
    assert a.placed
    reader = make_committed_reader(running.stack.base.kafka, auto_offset_reset="earliest")
    await reader.start()
    try:
        parts = [TopicPartition(TOPIC_CLEAN, p.n) for p in running.stack.accounting.lanes]
        reader.assign(parts)
        await reader.seek_to_beginning(*parts)
        async with asyncio.timeout(30):
            record = await reader.getone()
    finally:
        await reader.stop()
    assert orjson.loads(record.value)["origin"]["geo"]["provider"] == "invented"
    assert dict(record.headers)["geolane-placed"].startswith(b"invented ")


async def test_traffic_is_invented_and_says_so(running: Running) -> None:
    """The leader asks by itself; the answer is in the room, and in geo.context."""
    _, sending = running.replay(500)
    await sending
    async with running.in_room() as ana, asyncio.timeout(150):
        while True:
            await ana.send_to_room("!traffic")
            said = await ana.wait_for_message(running.bot("(?i)traffic|lane", room=True), 30)
            if "invented" in said.text:
                break
            await asyncio.sleep(2)
    reader = make_committed_reader(running.stack.base.kafka, auto_offset_reset="earliest")
    await reader.start()
    try:
        part = TopicPartition(TOPIC_GEO_CONTEXT, 0)
        reader.assign([part])
        await reader.seek_to_beginning(part)
        async with asyncio.timeout(60):
            record = await reader.getone()
    finally:
        await reader.stop()
    found = decode_record(record.key, record.value)
    assert found.provider == "invented"
    assert "not from Apple" in found.attribution
    assert found.expires_at > found.fetched_at
