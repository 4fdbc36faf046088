"""Reads the state of the fleet's topics every few seconds; core/fleet/topic_checks.py judges it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import aiokafka.errors as kafka_errors
from aiokafka import TopicPartition

from agents import settings
from agents.base import log
from agents.base.errors import KafkaError, KafkaUnavailable
from agents.core.fleet.topic_checks import TOPICS, Extent, OpenTransaction, StreamsLooked
from agents.core.model.topology import TOPIC_LANES, TOPIC_RAW, Partition, WorkerKind
from agents.kafka.connection import Link
from agents.kafka.offsets import Offsets
from agents.kafka.topics import DescribeTopics
from agents.kafka.wire import DescribeProducers, producers_of

LOOK_EVERY_S = 5.0
WORKED = (TOPIC_RAW, TOPIC_LANES)
ASKED_AT_MOST = 20
"""In one look, the most partitions for whose open transaction the leader is asked."""
_BOUND_S = 4.0

_log = log.get_logger("kafka.streams")


class StreamLooks:
    """`offsets`: readers of the consumer groups, which the caller starts and stops."""

    def __init__(
        self,
        kafka: settings.Kafka,
        offsets: Mapping[WorkerKind, Offsets],
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._link = Link(kafka, "geolane-streams")
        self._offsets, self._every_s = offsets, every_s
        self._stable: dict[Partition, int] = {}
        self._counts: dict[str, int] = {}

    async def start(self) -> None:
        """Raises KafkaUnavailable; it may then be called again."""
        await self._link.start(_BOUND_S)

    async def stop(self) -> None:
        await self._link.stop()

    async def run(self, tell: Callable[[StreamsLooked], None]) -> NoReturn:
        """Call `tell` with each look until cancelled. There are no looks while Kafka is away."""
        failed, started = "", False
        try:
            while True:
                try:
                    if not started:
                        await self.start()
                        started = True
                    tell(await self.read_streams())
                    failed = ""
                except KafkaError as e:
                    if type(e).__name__ != failed:
                        _log.warning("streams_not_seen", error=str(e))
                    failed = type(e).__name__
                await asyncio.sleep(self._every_s)
        finally:
            await self.stop()

    async def read_streams(self) -> StreamsLooked:
        """Read the topics once; call `start` first. Raises KafkaUnavailable, KafkaError."""
        counts, leaders, racks = await self._describe_topics()
        parts = {
            kind: [kind.partition(n) for n in range(counts.get(kind.kafka_topic, 0))]
            for kind in self._offsets
        }
        begins, ends, stables = (
            dict[Partition, int](),
            dict[Partition, int](),
            dict[Partition, int](),
        )
        committed: dict[Partition, int | None] = {}
        # In this order, since a log's begin, committed offsets and ends only grow while we read:
        # a committed offset must not seem to lie outside of its log.
        for kind, some in parts.items():
            begins |= await self._offsets[kind].read_beginning_offsets(some)
        for kind, some in parts.items():
            read = await self._read_committed(kind, some)
            committed |= {p: at[0] if at is not None else None for p, at in read.items()}
        for kind, some in parts.items():
            stables |= await self._offsets[kind].read_end_offsets(some)
            ends |= await self._offsets[kind].read_high_watermarks(some)
        extents = {p: Extent(begins[p], stables[p], max(ends[p], stables[p])) for p in begins}
        open_ = await self._find_open_transactions(extents)
        known = {p: leaders[p.kafka_topic, p.n] for p in extents if (p.kafka_topic, p.n) in leaders}
        return StreamsLooked(counts, extents, committed, open_, known, racks)

    async def _read_committed(
        self, kind: WorkerKind, some: list[Partition]
    ) -> dict[Partition, tuple[int, str] | None]:
        """The committed offsets; none of an optional kind whose group our account may not read: its
        rights may be older than the kind."""
        try:
            return await self._offsets[kind].read_committed_offsets(some)
        except KafkaUnavailable:
            raise
        except KafkaError:
            if kind.optional:
                return {}
            raise

    async def _describe_topics(
        self,
    ) -> tuple[dict[str, int], dict[tuple[str, int], int], dict[int, str]]:
        """The number of partitions of each topic, 0 if the topic does not exist (a topic that our
        account may not describe is left out); by topic and partition, its leader; by broker, its
        rack."""

        async def attempt() -> Any:  # aiokafka has no types
            node = self._link.client.get_random_node()
            if node is None:
                raise kafka_errors.NodeNotReadyError("no broker is known")
            answer = await self._link.send_request(node, DescribeTopics(list(TOPICS)))
            found, leaders = dict.fromkeys(TOPICS, 0), dict[tuple[str, int], int]()
            racks = {int(id_): rack or "" for id_, _, _, rack in answer.brokers}
            for code, name, _, partitions, *_rest in answer.topics:
                error = kafka_errors.for_code(code)
                if error is kafka_errors.TopicAuthorizationFailedError and name not in WORKED:
                    del found[name]
                    continue
                if error not in (kafka_errors.NoError, kafka_errors.UnknownTopicOrPartitionError):
                    raise error(name)
                found[name] = len(partitions)
                leaders |= {(name, n): leader for _, n, leader, *_rest in partitions if leader >= 0}
            return found, leaders, racks

        counts, leaders, racks = await self._link.retry_until_done(
            "look at the topics", attempt, _BOUND_S
        )
        if counts != self._counts:  # aiokafka's own metadata learns of new partitions late
            await self._link.client.force_metadata_update()
        self._counts = counts
        return counts, leaders, racks

    async def _find_open_transactions(
        self, extents: Mapping[Partition, Extent]
    ) -> dict[Partition, OpenTransaction]:
        """Open transactions of partitions whose last stable offset has not moved since the last
        look."""
        before, self._stable = (
            self._stable,
            {p: x.stable for p, x in extents.items() if x.stable < x.end},
        )
        still = [p for p, stable in self._stable.items() if before.get(p) == stable]
        found = {}
        for p in still[:ASKED_AT_MOST]:
            if (open_ := await self._read_open_transaction(p)) is not None:
                found[p] = open_
        return found

    async def _read_open_transaction(self, p: Partition) -> OpenTransaction | None:
        """The oldest open transaction of the partition; None if the broker does not tell (it is too
        old, or this account lacks Read on the topic)."""
        leader = self._link.client.cluster.leader_for_partition(TopicPartition(p.kafka_topic, p.n))
        if leader is None or leader < 0:
            return None
        try:
            async with asyncio.timeout(_BOUND_S):
                answer = await self._link.send_request(
                    leader, DescribeProducers({p.kafka_topic: [p.n]})
                )
        except (kafka_errors.KafkaError, OSError, TimeoutError):
            return None
        producers = [x for p in producers_of(answer) if not p.code for x in p.producers]
        first = min(
            (x for x in producers if x.first_offset >= 0),
            key=lambda x: x.first_offset,
            default=None,
        )
        return None if first is None else OpenTransaction(first.producer_id, first.producer_epoch)
