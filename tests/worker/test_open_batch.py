"""The next batch stays open while a transaction runs: what arrives meanwhile waits for one
transaction, not for two."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from agents import settings
from agents.core.model.topology import Partition
from agents.kafka.connection import client_kwargs
from agents.kafka.producer import Batches, LeasedProducer
from tests.fixtures.kafka import KafkaServer
from tests.worker.support import Rig, event, rig, until
from tests.worker.test_engine import node

LONG_S, FETCH_S = 0.5, 0.3
"""How long a transaction takes, several commit gaps; and how long a record may take from its
acknowledgement to the batch."""
EVENTS = 250


async def test_what_arrives_during_a_transaction_is_in_the_next(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[float, int]] = []
    ended: list[float] = []
    send = LeasedProducer.send_transaction

    async def send_slowly(
        self: LeasedProducer,
        batches: Batches,
        offsets: dict[Partition, tuple[int, str]],
        group: str,
    ) -> None:
        begun.append((time.monotonic(), max(offset for offset, _ in offsets.values())))
        await asyncio.sleep(LONG_S)
        await send(self, batches, offsets, group)
        ended.append(time.monotonic())

    monkeypatch.setattr(LeasedProducer, "send_transaction", send_slowly)
    async with rig(kafka_server, lanes=1) as r:
        w = await r.engine(node(r))
        await w.assign((0, 1, 0))
        arrived = await _fill_slowly(r)
        await until(lambda: begun and begun[-1][1] == EVENTS and len(ended) == len(begun))
        assert len(begun) >= 4
        gap_s = settings.Worker().commit_gap_ms / 1000
        for (at, offset), (before, _), end in zip(begun[1:], begun, ended, strict=False):
            assert offset >= sum(t < end - FETCH_S for t in arrived)
            assert at - before >= gap_s


async def _fill_slowly(r: Rig) -> list[float]:
    """Events one by one; when each was acknowledged (monotonic)."""
    producer: Any = AIOKafkaProducer(**client_kwargs(r.kafka))
    await producer.start()
    try:
        headers = [("geolane-src", b"raw/0/0"), ("geolane-raw-ms", b"1")]
        headers += [("geolane-cell", b"842664dffffffff"), ("geolane-ts", b"978964500000")]
        arrived = []
        for i in range(EVENTS):
            await producer.send_and_wait(
                r.topics.lanes, event(i), partition=0, headers=[*headers, ("geolane-map", b"1")]
            )
            arrived.append(time.monotonic())
            await asyncio.sleep(0.01)
        return arrived
    finally:
        await producer.stop()
