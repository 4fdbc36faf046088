"""Asks the brokers for committed offsets and for the ends of partitions; nothing is cached between
two calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import aiokafka.errors as kafka_errors
from aiokafka import TopicPartition
from aiokafka.client import CoordinationType
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.offset import OffsetRequest

from agents import settings
from agents.core.model.topology import Partition
from agents.kafka.connection import BOUND_S, Link, raise_for_code

_LATEST, _EARLIEST = -1, -2
_READ_UNCOMMITTED, _READ_COMMITTED = 0, 1
ANSWER_BOUND_S = BOUND_S


class Offsets:
    """Reads the offsets of one consumer group; it neither joins the group nor commits."""

    def __init__(self, kafka: settings.Kafka, group: str) -> None:
        self._link = Link(kafka, "geolane-offsets")
        self._group = group

    async def start(self) -> None:
        """Raises KafkaUnavailable if no broker answers; it may then be called again."""
        await self._link.start()

    async def stop(self) -> None:
        await self._link.stop()

    async def read_committed_offsets(
        self, parts: Iterable[Partition]
    ) -> dict[Partition, tuple[int, str] | None]:
        """The committed offset of each partition with its metadata; None if there is none. One
        request for all.

        For up to 26 ms after a commit the answer may be the previous offset (PROTOCOL 2.6). After a
        fence it is final. Raises KafkaUnavailable, KafkaError."""
        asked = _by_kafka_name(parts)
        if not asked:
            return {}

        async def attempt() -> dict[Partition, tuple[int, str] | None]:
            node = await self._link.find_coordinator(CoordinationType.GROUP, self._group)
            response = await self._link.send_request(
                node, OffsetFetchRequest(self._group, list(_group_by_topic(asked).items()))
            )
            raise_for_code(response.error_code, self._group)
            found: dict[Partition, tuple[int, str] | None] = {}
            for topic, partitions in response.topics:
                for n, offset, metadata, code in partitions:
                    raise_for_code(code, topic)
                    found[asked[TopicPartition(topic, n)]] = (
                        (offset, metadata or "") if offset >= 0 else None
                    )
            return found

        return await self._link.retry_until_done(
            f"read the offsets of group {self._group}", attempt, ANSWER_BOUND_S
        )

    @property
    def link(self) -> Link:
        """For other requests."""
        return self._link

    async def find_partitions(self, topic: str) -> range:
        """The partitions of a topic (with its cluster). Raises KafkaUnavailable, KafkaError."""
        name = topic.partition("/")[2]

        async def attempt() -> range:
            return range(len(await self._link.client._wait_on_metadata(name)))

        return await self._link.retry_until_done(
            f"find the partitions of {name}", attempt, ANSWER_BOUND_S
        )

    async def read_end_offsets(self, parts: Iterable[Partition]) -> dict[Partition, int]:
        """The last stable offset: the one behind the last record that a read-committed consumer may
        read.

        One request per broker. Raises KafkaUnavailable (also for a partition that does not exist),
        KafkaError."""
        return await self._read_offsets_at(_LATEST, parts)

    async def read_high_watermarks(self, parts: Iterable[Partition]) -> dict[Partition, int]:
        """The offset behind the last record, open transactions included. Raises as
        `read_end_offsets`."""
        return await self._read_offsets_at(_LATEST, parts, _READ_UNCOMMITTED)

    async def read_beginning_offsets(self, parts: Iterable[Partition]) -> dict[Partition, int]:
        """The offset of the first record that Kafka still keeps; raises as `read_end_offsets`."""
        return await self._read_offsets_at(_EARLIEST, parts)

    async def read_offsets_since(self, ms: int, parts: Iterable[Partition]) -> dict[Partition, int]:
        """The offset of the first record that the broker appended at this time (epoch ms) or later;
        -1 if there is none. Raises as `read_end_offsets`."""
        return await self._read_offsets_at(max(0, ms), parts)

    async def _read_offsets_at(
        self, ms: int, parts: Iterable[Partition], isolation: int = _READ_COMMITTED
    ) -> dict[Partition, int]:
        asked = _by_kafka_name(parts)
        if not asked:
            return {}

        async def attempt() -> dict[Partition, int]:
            by_leader: dict[int, dict[str, list[tuple[int, int]]]] = defaultdict(
                lambda: defaultdict(list)
            )
            for tp in asked:
                leader = self._link.client.cluster.leader_for_partition(tp)
                if leader is None or leader < 0:
                    await self._link.client.force_metadata_update()
                    raise kafka_errors.LeaderNotAvailableError(f"{tp.topic}/{tp.partition}")
                by_leader[leader][tp.topic].append((tp.partition, ms))
            found: dict[Partition, int] = {}
            for leader, topics in by_leader.items():
                response = await self._link.send_request(
                    leader, OffsetRequest(-1, isolation, list(topics.items()))
                )
                for topic, partitions in response.topics:
                    for n, code, _, offset, *_rest in partitions:
                        raise_for_code(code, topic)
                        found[asked[TopicPartition(topic, n)]] = int(offset)
            return found

        return await self._link.retry_until_done(
            "read the ends of partitions", attempt, ANSWER_BOUND_S
        )


def _by_kafka_name(parts: Iterable[Partition]) -> dict[TopicPartition, Partition]:
    """The partitions, by the names that Kafka's answer has for them."""
    return {TopicPartition(p.kafka_topic, p.n): p for p in parts}


def _group_by_topic(asked: Iterable[TopicPartition]) -> dict[str, list[int]]:
    topics: dict[str, list[int]] = defaultdict(list)
    for tp in asked:
        topics[tp.topic].append(tp.partition)
    return topics
