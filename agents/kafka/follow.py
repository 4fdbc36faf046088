"""Follows a topic of one partition from some time ago, for a reader that can do without it: the
topic may be missing, or the right to read it, and a lost broker only delays what comes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import aiokafka.errors as kafka_errors
from aiokafka import TopicPartition

from agents import settings
from agents.base import log
from agents.base.errors import GeolaneError
from agents.kafka.broker_clock import read_own_clock_ms
from agents.kafka.connection import (
    BOUND_S,
    Link,
    make_committed_reader,
    stop_client,
    to_geolane_error,
)
from agents.kafka.topics import DescribeTopics

PAST_BOUND_S = 30.0
TOGETHER = 500  # records in one call
REST_S = 0.05  # after a full batch, so that a flood does not fill the reader's queue
RETRY_S = 10.0

_log = log.get_logger("kafka.follow")


@dataclass(frozen=True, slots=True)
class Batch:
    """`records`: aiokafka's, in order. `past`: they were there before the reading began. The first
    batch that is not `past` may be empty; it says that the past was read."""

    records: Sequence[Any]  # aiokafka has no types
    past: bool


class TopicFollower:
    """`past_s`, `past_records`: how much of the past is read at most. `retry_s`: after a failure.
    `absent_s`: how often it is looked for a topic that is not there, if not as often.
    `look`: how, if not over a connection of its own. `now_ms`: Kafka's clock."""

    def __init__(
        self,
        kafka: settings.Kafka,
        topic: str,
        *,
        past_s: float,
        past_records: int,
        retry_s: float = RETRY_S,
        absent_s: float | None = None,
        look: Callable[[], Awaitable[bool]] | None = None,
        now_ms: Callable[[], float] = read_own_clock_ms,
    ) -> None:
        self._kafka, self._retry_s = kafka, retry_s
        self._absent_s = retry_s if absent_s is None else absent_s
        self._look = look or (lambda: is_topic_there(kafka, topic))
        self._past_s, self._past_records, self._now_ms = past_s, past_records, now_ms
        self._tp = TopicPartition(topic, 0)
        self._next: int | None = None  # the offset to go on from; None before the first read
        self._past = True

    async def run(self, take: Callable[[Batch], None]) -> NoReturn:
        """Call `take` with the records, in order, until cancelled."""
        failed, rest_s = "", self._retry_s
        while True:
            try:
                if await self._look():
                    failed, rest_s = "", self._retry_s
                    await self._follow_topic(take)
                else:  # what is in it once it is there is new
                    self._next, self._past, rest_s = 0, False, self._absent_s
            except GeolaneError as e:
                if str(e) != failed:
                    _log.warning("topic_not_read", topic=self._tp.topic, error=str(e))
                failed, rest_s = str(e), self._retry_s
            await asyncio.sleep(rest_s * random.uniform(0.5, 1.0))

    async def _follow_topic(self, take: Callable[[Batch], None]) -> NoReturn:
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
                        await self._read_batch(consumer, take)
                self._past = False
                take(Batch((), False))
            while True:
                await self._read_batch(consumer, take)
        except (kafka_errors.KafkaError, OSError, TimeoutError) as e:
            raise to_geolane_error(e, what) from e
        finally:
            await stop_client(consumer.stop())

    async def _find_begin(self, consumer: Any) -> int:
        """The offset of the first record to read."""
        begin: int = (await consumer.beginning_offsets([self._tp]))[self._tp]
        end: int = (await consumer.end_offsets([self._tp]))[self._tp]
        since_ms = int(self._now_ms() - self._past_s * 1000)
        at = (await consumer.offsets_for_times({self._tp: since_ms}))[self._tp]
        return max(begin, end - self._past_records, at.offset if at is not None else end)

    async def _read_batch(self, consumer: Any, take: Callable[[Batch], None]) -> None:
        """Pass the next records on, if there are some."""
        found = await consumer.getmany(self._tp, timeout_ms=200, max_records=TOGETHER)
        records = found.get(self._tp, [])
        if not records:
            return
        take(Batch(records, self._past))
        self._next = records[-1].offset + 1
        if len(records) >= TOGETHER:
            await asyncio.sleep(REST_S)


async def is_topic_there(kafka: settings.Kafka, topic: str) -> bool:
    """Raises KafkaUnavailable; KafkaError if a right is missing."""
    link = Link(kafka, f"geolane-look-{topic}")
    try:
        await link.start()
        return await ask_for_topic(link, topic)
    finally:
        await link.stop()


async def ask_for_topic(link: Link, topic: str) -> bool:
    """As `is_topic_there`, over a link that is there already."""

    async def attempt() -> bool:
        node = link.client.get_random_node()
        if node is None:
            raise kafka_errors.NodeNotReadyError("no broker is known")
        ((code, *_),) = (await link.send_request(node, DescribeTopics([topic]))).topics
        error = kafka_errors.for_code(code)
        if error not in (kafka_errors.NoError, kafka_errors.UnknownTopicOrPartitionError):
            raise error(topic)
        return error is kafka_errors.NoError

    return await link.retry_until_done(f"look for the topic {topic}", attempt)
