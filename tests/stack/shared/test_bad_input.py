"""Whatever comes in: dead-lettered with its reason, byte for byte, counted; nobody stops."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from agents.core.lanes.records import REASON
from agents.core.model.topology import TOPIC_DEAD
from agents.kafka.connection import client_kwargs
from agents.kafka.topics import MAX_DEAD_BYTES
from agents.local.demo import flights
from tests.stack.conftest import Running

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="package")]


def _event(**changed: Any) -> bytes:  # Any: bad values are the point
    event = {
        "id": "x",
        "ts": "2001-01-08T00:00:00Z",
        "origin": {"lat": 40.0, "lon": -75.0},
        "destination": "LAS",
    }
    return json.dumps({k: v for k, v in (event | changed).items() if v is not ...}).encode()


def _next_year() -> str:
    return (datetime.now(UTC) + timedelta(days=365)).strftime("%Y-%m-%dT%H:%M:%SZ")


BAD = [
    ("not_json", b"\x00\xff garbage \xfe"),
    ("not_json", b'{"id": "x"'),
    ("not_json", _event(origin={"lat": float("nan"), "lon": 1.0})),
    ("not_object", b"[1, 2]"),
    ("no_id", _event(id=...)),
    ("no_ts", _event(ts=...)),
    ("bad_ts", _event(ts="yesterday")),
    ("future_ts", _event(ts=_next_year())),
    ("no_origin", _event(origin=...)),
    ("bad_origin", _event(origin={"lat": 91.0, "lon": 0.0})),
    ("too_large", _event(payload="x" * (5 << 20))),
]


async def test_bad_events_are_dead_letters_byte_for_byte_and_good_ones_go_on(
    running: Running,
) -> None:
    accounting = running.stack.accounting
    before, unplaced, clean = Counter(accounting.reasons), accounting.unplaced, accounting.clean
    place = _event(origin={"place": "Portland, Oregon"})
    good = [next(flights.week_of_events())[1]] * 2  # an id that comes twice is nothing wrong
    values = [value for _, value in BAD] + [place, *good]
    replay, sending = running.replay(len(values), iter([(None, value) for value in values]))
    await running.account(replay, sending)
    assert Counter(accounting.reasons) - before == Counter(reason for reason, _ in BAD)
    assert (accounting.unplaced - unplaced, accounting.clean - clean) == (1, 2)
    assert await _dead_letters(running, len(BAD)) == sorted(BAD)


async def _dead_letters(running: Running, count: int) -> list[tuple[str, bytes]]:
    """The newest records of events.dead: reason and value."""
    consumer = AIOKafkaConsumer(
        TOPIC_DEAD,
        **client_kwargs(running.stack.base.kafka),
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=MAX_DEAD_BYTES,
    )
    await consumer.start()
    found: list[tuple[str, bytes]] = []
    try:
        await running.until(lambda: running.stack.accounting.dead >= count, "they are counted")
        while len(found) < running.stack.accounting.dead:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [(dict(r.headers)[REASON].decode(), r.value) for r in records]
    finally:
        await consumer.stop()
    return sorted(found[-count:])
