"""Reads exactly the partitions that it is given, from exactly the offsets that it is given
(PROTOCOL 2.7). It joins no group, commits nothing and never chooses a position.

The size of a fetch bounds its memory, whatever the lag; agents/worker/fetches.py bounds it further,
by what passes in time.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka import TopicPartition

from agents import settings
from agents.core.model.topology import Partition
from agents.kafka.connection import make_committed_reader, stop_client, to_geolane_error
from agents.kafka.fetched import take_evenly
from agents.worker.fetches import BoundedFetches

FETCH_BYTES = 8 << 20
PARTITION_FETCH_BYTES = 1 << 20
"""Larger records still arrive, one at a time: a broker sends the first batch whatever its size
(KIP-74)."""
BATCH_BYTES = 8 << 20
"""A batch with this many bytes of values is full, too."""
CORRUPT_TIMES = 5
"""The partition stops at this many wrong checksums in a row. Fewer are retried, since the network
may be the cause."""
_PARTITION = re.compile(r"partition=([0-9]+)\)(?:, before offset ([0-9]+))?")
_POLL_S = 0.025
_START_BOUND_S = 10.0
_STOP_BOUND_S = 3.0
_LOOK_BOUND_S = 5.0


class Unreadable(Exception):
    """`partition` cannot be read any further, and a retry will not help. The text says why."""

    def __init__(self, partition: Partition, why: str) -> None:
        super().__init__(why)
        self.partition = partition


async def count_partitions(kafka: settings.Kafka, topic: str) -> int:
    """The partitions of a topic (with its cluster) that is there. Raises KafkaUnavailable,
    KafkaError."""
    reader = Reader(kafka, topic)
    try:
        await reader.start()
        return len(await reader.find_partitions())
    finally:
        await reader.stop()


class Reader:
    """One read-committed consumer of one topic, with explicit positions. `look_s`: how often it is
    looked for new partitions. `rtt_ms_to`: the round trip to a broker, None if it is not known."""

    def __init__(
        self,
        kafka: settings.Kafka,
        topic: str,
        *,
        look_s: float = 300.0,
        rtt_ms_to: Callable[[int], float | None] = lambda broker: None,
    ) -> None:
        self._topic = topic
        self._kafka_topic = topic.partition("/")[2]
        self._consumer = make_committed_reader(
            kafka,
            auto_offset_reset="none",
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
            # A waiting fetch also delays the next one, which has the new partitions.
            fetch_max_wait_ms=100,
            metadata_max_age_ms=round(look_s * 1000),
            request_timeout_ms=5000,
            retry_backoff_ms=50,
        )
        self._fetches = BoundedFetches(self._consumer._client, FETCH_BYTES, rtt_ms_to)
        self.gathered_bytes = 0
        """Of the values that `gather_records` has returned last."""
        self._assigned: frozenset[int] = frozenset()
        self._corrupt = 0

    async def start(self) -> None:
        """Raises KafkaUnavailable; it may then be called again."""
        try:
            async with asyncio.timeout(_START_BOUND_S):
                await self._consumer.start()
        except (kafka_errors.KafkaError, OSError, TimeoutError) as e:
            raise to_geolane_error(e, "start the consumer") from e

    async def stop(self) -> None:
        await stop_client(self._consumer.stop(), _STOP_BOUND_S)

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to a broker (by a private attribute of aiokafka, which a
        test pins)."""
        return any(conn.connected() for conn in self._consumer._client._conns.values())

    def assign_partitions(self, positions: dict[int, int]) -> None:
        """Read these partitions from these offsets from now on; records that were fetched but not
        taken are dropped."""
        self._consumer.assign([self._topic_partition(n) for n in sorted(positions)])
        for n, offset in positions.items():
            self._consumer.seek(self._topic_partition(n), offset)
        self._assigned = frozenset(positions)

    async def gather_records(
        self,
        full_at: int,
        due: float,
        until: float,
        stop: Callable[[], bool],
        *,
        max_bytes: int = BATCH_BYTES,
        under_way: asyncio.Future[bool] | None = None,
    ) -> dict[int, list[Any]]:
        """Records by partition. Returns when there are `full_at` of them, or `max_bytes` of
        values; at `due` if there are any, but not before the transaction `under_way` is done; at
        `until` if there are none (both monotonic); and soon after `stop()` is true.

        Raises Unreadable, KafkaUnavailable, KafkaError; call `assign_partitions` again after an
        error."""
        found: dict[int, list[Any]] = {}
        room, self.gathered_bytes = full_at, 0
        while True:
            got = await self._fetch_records(0.0 if found else _POLL_S, room)
            for tp, records in got.items():
                found.setdefault(tp.partition, []).extend(records)
                room -= len(records)
                self.gathered_bytes += sum(len(r.value) for r in records if r.value is not None)
            wait_s = (due if found else until) - time.monotonic()
            # What arrives during a transaction would otherwise wait for one more.
            busy = bool(found) and under_way is not None and not under_way.done()
            full = room <= 0 or self.gathered_bytes >= max_bytes
            if (wait_s <= 0 and not busy) or full or stop():
                return found
            if found and not got:
                pause_s = min(wait_s, _POLL_S) if wait_s > 0 else _POLL_S
                if under_way is not None and busy:
                    await asyncio.wait({under_way}, timeout=pause_s)
                else:
                    await asyncio.sleep(pause_s)

    async def _fetch_records(self, timeout_s: float, most: int) -> dict[Any, list[Any]]:
        try:
            taken = await take_evenly(self._consumer, most, timeout_s)
        except kafka_errors.OffsetOutOfRangeError as e:
            tp, offset = next(iter(e.args[0].items()))
            raise Unreadable(
                self._partition_from_tp(tp), await self._explain_out_of_range(tp, int(offset))
            ) from e
        except kafka_errors.RecordTooLargeError as e:
            raise Unreadable(
                self._partition_from_tp(e.args[1]), "a record is larger than a fetch may be"
            ) from e
        except kafka_errors.CorruptRecordException as e:
            self._corrupt += 1
            n = _PARTITION.search(str(e))
            if n is not None and self._corrupt >= CORRUPT_TIMES:
                self._corrupt = 0
                p = Partition(self._topic, int(n[1]))
                why = (
                    "a record batch has a wrong checksum: the disk it is on, or the network, has "
                    "changed it"
                )
                if n[2]:
                    why += f" (reset {p.label.removeprefix('lane ')} to={n[2]} goes on behind it)"
                raise Unreadable(p, why) from e
            raise to_geolane_error(e, "fetch") from e
        except (kafka_errors.KafkaError, OSError) as e:
            raise to_geolane_error(e, "fetch") from e
        if taken:
            self._corrupt = 0
        return taken

    async def _explain_out_of_range(self, tp: Any, offset: int) -> str:
        """Why the log does not have that offset, as a text."""
        try:
            async with asyncio.timeout(_LOOK_BOUND_S):
                begin = (await self._consumer.beginning_offsets([tp]))[tp]
                end = (await self._consumer.end_offsets([tp]))[tp]
        except (kafka_errors.KafkaError, OSError, TimeoutError):
            return f"offset {offset} is not in its log"
        if offset < begin:
            return (
                f"offset {offset} is gone, its log begins at {begin} (retention, or deleted "
                "records): see reset"
            )
        return (
            f"offset {offset} is beyond its log, which ends at {end} (recreated, or truncated): "
            "see reset"
        )

    async def find_partitions(self) -> range:
        """The partitions of the topic. Raises KafkaUnavailable, KafkaError."""
        try:
            async with asyncio.timeout(_LOOK_BOUND_S):
                await self._consumer._client._wait_on_metadata(self._kafka_topic)
        except (kafka_errors.KafkaError, OSError, TimeoutError) as e:
            raise to_geolane_error(e, f"find the partitions of {self._kafka_topic}") from e
        return self.known_partitions()

    def known_partitions(self) -> range:
        """The partitions of the topic that are known by now; new ones show after `look_s`."""
        return range(len(self._consumer.partitions_for_topic(self._kafka_topic) or ()))

    async def positions_of(self, partitions: Iterable[int]) -> dict[int, int]:
        """By partition: the offset behind the last record taken, and behind the transaction marker
        after it if that has arrived."""
        return {n: int(await self._consumer.position(self._topic_partition(n))) for n in partitions}

    def last_stable_offset(self, n: int) -> int | None:
        """The last stable offset that a fetch of partition `n` has shown; None before the first."""
        if n not in self._assigned:
            return None
        lso: int | None = self._consumer.last_stable_offset(self._topic_partition(n))
        return lso

    def describe_trouble(self, n: int) -> str:
        """Why nothing of partition `n` can be read at present; empty if fetches pass."""
        leader = self._consumer._client.cluster.leader_for_partition(self._topic_partition(n))
        return self._fetches.describe_trouble(leader)

    def _topic_partition(self, n: int) -> Any:
        return TopicPartition(self._kafka_topic, n)

    def _partition_from_tp(self, tp: Any) -> Partition:
        return Partition(self._topic, int(tp.partition))
