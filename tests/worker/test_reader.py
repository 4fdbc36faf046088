"""A batch has an even share of each partition, so that no output partition has more record batches
than it must."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from agents.core.model.topology import MAIN
from agents.worker.reader import Reader
from tests.fixtures.kafka import KafkaServer
from tests.worker.support import Rig, rig

IN_TIME_S = 20.0
about = partial(pytest.approx, abs=1)


async def test_a_batch_has_an_even_share_of_each_partition(kafka_server: KafkaServer) -> None:
    async with rig(kafka_server, lanes=4) as r, reading(r, dict.fromkeys(range(4), 100)) as reader:
        first, second = await gather(reader, 100), await gather(reader, 100)
        for n in range(4):
            assert len(first[n]) == about(25)
            assert len(second[n]) == about(25)
            offsets = [x.offset for x in (*first[n], *second[n])]
            assert offsets == list(range(len(offsets)))


async def test_the_rest_is_taken_from_partitions_that_have_more(kafka_server: KafkaServer) -> None:
    async with rig(kafka_server, lanes=3) as r, reading(r, {0: 10, 1: 100, 2: 100}) as reader:
        got = await gather(reader, 110)
        assert [len(got[n]) for n in range(3)] == [10, about(50), about(50)]
        assert sum(map(len, got.values())) == 110


async def test_a_batch_of_fewer_records_than_partitions_starves_none(
    kafka_server: KafkaServer,
) -> None:
    async with rig(kafka_server, lanes=3) as r, reading(r, dict.fromkeys(range(3), 4)) as reader:
        found: list[tuple[int, int]] = []
        while len(found) < 12:
            got = await gather(reader, 2)
            assert sum(map(len, got.values())) <= 2
            found += [(n, x.offset) for n, records in got.items() for x in records]
        for n in range(3):
            assert [offset for of, offset in found if of == n] == list(range(4))


@asynccontextmanager
async def reading(r: Rig, counts: dict[int, int]) -> AsyncIterator[Reader]:
    """A reader of lanes that have so many records, which one fetch brings."""
    await asyncio.gather(*(r.fill_lane(n, 0, count) for n, count in counts.items()))
    reader = Reader(r.kafka, f"{MAIN}/{r.topics.lanes}")
    await reader.start()
    try:
        reader.assign_partitions(dict.fromkeys(counts, 0))
        yield reader
    finally:
        await reader.stop()


async def gather(reader: Reader, full_at: int) -> dict[int, list[Any]]:
    now = time.monotonic()
    return await reader.gather_records(full_at, now, now + IN_TIME_S, lambda: False)
