"""Reads the topic `hotspots` for the leader: its last day, then whatever is added. Without the
topic, or without the right to read it, there are no hotspots, and the fleet works as ever."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, NoReturn

import aiokafka.errors as kafka_errors
from aiokafka import TopicPartition

from agents import settings
from agents.base import log
from agents.base.errors import GeolaneError
from agents.core.events import HotspotChange, HotspotsRead
from agents.core.hotspots.records import decode_record
from agents.core.model.topology import TOPIC_HOTSPOTS
from agents.kafka.connection import (
    BOUND_S,
    Link,
    make_committed_reader,
    stop_client,
    to_geolane_error,
)
from agents.kafka.topics import DescribeTopics

PAST_S = 86_400.0
PAST_RECORDS = 20_000
"""At most this many records are read of the past."""
PAST_BOUND_S = 30.0
TOGETHER = 500  # records in one event
REST_S = 0.05  # after a full batch, so that a flood does not fill the coordinator's queue
RETRY_S = 10.0

_log = log.get_logger("kafka.hotspots")


class HotspotReader:
    """`topic`, `retry_s`: for tests."""

    def __init__(
        self, kafka: settings.Kafka, *, topic: str = TOPIC_HOTSPOTS, retry_s: float = RETRY_S
    ) -> None:
        self._kafka, self._retry_s = kafka, retry_s
        self._tp = TopicPartition(topic, 0)
        self._next: int | None = None  # the offset to go on from; None before the first read
        self._past = True
        self._skipped = False

    async def run(self, tell: Callable[[HotspotsRead], None]) -> NoReturn:
        """Call `tell` with the records, in order, until cancelled; a lost broker only delays
        it."""
        failed = ""
        while True:
            try:
                if await self._is_topic_there():
                    failed = ""
                    await self._follow_topic(tell)
                else:  # what is in it once it is there is new
                    self._next, self._past = 0, False
            except GeolaneError as e:
                if str(e) != failed:
                    _log.warning("hotspots_not_read", error=str(e))
                failed = str(e)
            await asyncio.sleep(self._retry_s * random.uniform(0.5, 1.0))

    async def _is_topic_there(self) -> bool:
        """Raises KafkaUnavailable; KafkaError if a right is missing."""
        link, topic = Link(self._kafka, "geolane-hotspots"), self._tp.topic

        async def attempt() -> bool:
            node = link.client.get_random_node()
            if node is None:
                raise kafka_errors.NodeNotReadyError("no broker is known")
            ((code, *_),) = (await link.send_request(node, DescribeTopics([topic]))).topics
            error = kafka_errors.for_code(code)
            if error not in (kafka_errors.NoError, kafka_errors.UnknownTopicOrPartitionError):
                raise error(topic)
            return error is kafka_errors.NoError

        try:
            await link.start()
            return await link.retry_until_done(f"look for the topic {topic}", attempt)
        finally:
            await link.stop()

    async def _follow_topic(self, tell: Callable[[HotspotsRead], None]) -> NoReturn:
        """Read on from where the last call stopped. Raises KafkaUnavailable, KafkaError."""
        consumer = make_committed_reader(
            self._kafka, request_timeout_ms=10_000, fetch_max_wait_ms=200
        )
        what = f"read the topic {self._tp.topic}"
        try:
            async with asyncio.timeout(BOUND_S):
                await consumer.start()
                # It raises if a right is missing; without it the consumer retries without end.
                await consumer._client._wait_on_metadata(self._tp.topic)
                consumer.assign([self._tp])
                if self._next is None:
                    self._next = await self._find_begin(consumer)
                consumer.seek(self._tp, self._next)
                end = (await consumer.end_offsets([self._tp]))[self._tp]
            if self._past:
                async with asyncio.timeout(PAST_BOUND_S):
                    while await consumer.position(self._tp) < end:
                        await self._read_batch(consumer, tell)
                self._past = False
                tell(HotspotsRead())
            while True:
                await self._read_batch(consumer, tell)
        except (kafka_errors.KafkaError, OSError, TimeoutError) as e:
            raise to_geolane_error(e, what) from e
        finally:
            await stop_client(consumer.stop())

    async def _find_begin(self, consumer: Any) -> int:
        """The offset of the first record to read."""
        begin: int = (await consumer.beginning_offsets([self._tp]))[self._tp]
        end: int = (await consumer.end_offsets([self._tp]))[self._tp]
        since_ms = int((time.time() - PAST_S) * 1000)
        at = (await consumer.offsets_for_times({self._tp: since_ms}))[self._tp]
        return max(begin, end - PAST_RECORDS, at.offset if at is not None else end)

    async def _read_batch(self, consumer: Any, tell: Callable[[HotspotsRead], None]) -> None:
        """Pass the next records on, if there are some."""
        found = await consumer.getmany(self._tp, timeout_ms=200, max_records=TOGETHER)
        records = found.get(self._tp, [])
        if not records:
            return
        changes, skipped = [], 0
        for r in records:
            try:
                hotspot = decode_record(r.key, r.value)
            except ValueError as e:
                skipped += 1
                self._log_skipped(r.offset, str(e))
            else:
                age_s = max(0.0, time.time() - r.timestamp / 1000)
                changes.append(HotspotChange(hotspot, r.timestamp, age_s))
        self._next = records[-1].offset + 1
        tell(HotspotsRead(tuple(changes), self._past, skipped))
        if len(records) >= TOGETHER:
            await asyncio.sleep(REST_S)

    def _log_skipped(self, offset: int, why: str) -> None:
        """The first one; further ones are in a metric."""
        if not self._skipped:
            self._skipped = True
            _log.warning("hotspot_record_skipped", topic=self._tp.topic, offset=offset, why=why)
