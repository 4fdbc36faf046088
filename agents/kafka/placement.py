"""The topic `placement` is the truth about who owns what: one coordinator writes it, in transactions, before it
speaks (PROTOCOL 2.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError as AnyKafkaError
from aiokafka.structs import OffsetAndMetadata

from agents import log, settings
from agents.core.formats import is_row
from agents.core.model import TOPIC_PLACEMENT, Kind, Partition
from agents.errors import KafkaUnavailable, LeadershipLost
from agents.kafka import verification
from agents.kafka.connection import as_ours, is_fenced, said
from agents.kafka.leases import LeaseMaker
from agents.kafka.markers import Reach
from agents.kafka.tables import IsRow, anything, read_rows, read_table
from agents.kafka.transactions import TransactionalProducer

COORDINATOR_ID = "geolane-coordinator"
TRANSACTION_TIMEOUT_MS = 10_000
WRITE_BOUND_S = 10.0
START_BOUND_S = 10.0

Offsets = Mapping[str, Mapping[Partition, tuple[int, str]]]
"""By consumer group: the offset to be committed, and its metadata."""
_NONE: Offsets = {}

_log = log.get("kafka.placement")


async def read_placement(kafka: settings.Kafka) -> dict[str, bytes]:
    """The newest value of each key, for views and tools; who reads so has fenced nobody, and may not act on it."""
    return _as_text(await read_table(kafka, TOPIC_PLACEMENT, is_row))


def _as_text(table: Mapping[bytes, bytes]) -> dict[str, bytes]:
    return {key.decode("utf-8", "backslashreplace"): value for key, value in table.items()}


class PlacementLog:
    """One process's leadership: `lead` once, then `write`; when either fails as unknown or lost, the process must end.

    `topic` and `transactional_id` are for tests, which share one broker."""

    def __init__(
        self, kafka: settings.Kafka, *, topic: str = TOPIC_PLACEMENT, transactional_id: str = COORDINATOR_ID
    ) -> None:
        self._kafka = kafka
        self._topic = topic
        self._transactional_id = transactional_id
        self._producer: Any = None  # aiokafka has no types
        self.lost: frozenset[str] = frozenset()
        self._led = False
        self._over: str = ""
        self._one_at_a_time = asyncio.Lock()

    async def lead(self, own: IsRow = anything) -> dict[str, bytes]:
        """Take the leadership and read the topic to its end: the newest value of each key (no tombstones).

        Call it only while holding the name `leader` (PROTOCOL 2.11). Whoever led before is fenced when this returns,
        and what they committed is all in the answer. Raises KafkaUnavailable: before anybody was fenced (no broker
        answers) it may be called again, else a second call raises LeadershipLost, since a process leads once.
        Raises KafkaError, with nobody fenced, where a late request would break exactly once (verification.py): a
        leader makes the leases, so without one nobody commits.

        What somebody else wrote there and no coordinator can have written (`own` says so) is passed over: the value
        before it holds, and is written again. Where there is none any more its key is in `lost`."""
        if self._led:
            raise LeadershipLost("this process has led before: it must end, and a new one may lead")
        await verification.require(self._kafka)
        reach = Reach((self._topic,), tuple(kind.group for kind in Kind))
        maker = LeaseMaker(self._kafka, TRANSACTION_TIMEOUT_MS, lambda _: reach)
        await maker.start(START_BOUND_S)
        try:
            self._led = True
            producer_id, producer_epoch = await maker.make(self._transactional_id)
        finally:
            await maker.stop()
        producer = TransactionalProducer(
            self._kafka,
            self._transactional_id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            request_timeout_ms=5000,
        )
        self._producer = producer
        # The id and epoch are given, as a worker's are: the producer never asks for others (pinned by a test).
        producer._txn_manager.set_pid_and_epoch(producer_id, producer_epoch)
        try:
            async with asyncio.timeout(WRITE_BOUND_S):
                await producer.start()
        except (AnyKafkaError, OSError, TimeoutError) as e:
            raise as_ours(e, "start the coordinator's producer") from e
        table = await read_rows(self._kafka, self._topic, own)
        rows = _as_text(table.rows)
        spoiled = {key.decode("utf-8", "backslashreplace") for key in table.spoiled}
        self.lost = frozenset(spoiled - rows.keys())
        if again := {key: value for key, value in rows.items() if key in spoiled}:
            await self.write(dict(again))
        return rows

    async def write(self, records: Mapping[str, bytes | None], offsets: Offsets = _NONE) -> None:
        """Commit all records in one transaction (None is a tombstone), each send awaited before the commit (PROTOCOL
        3.2); and with them `offsets`, of partitions that nobody owns: who is fenced commits neither.

        When it returns, they are there for whoever leads next. Either error ends the leadership, and so the process, before
        it sends any command: LeadershipLost when another coordinator has fenced us (it knows what counts, and acts on it);
        KafkaUnavailable when the outcome is UNKNOWN, the records may stand or not. Every later call raises LeadershipLost.
        The same holds after a cancellation."""
        async with self._one_at_a_time:
            if self._over:
                raise LeadershipLost(self._over)
            if self._producer is None:
                raise LeadershipLost("lead() has not been called, or has failed")
            self._over = "an earlier write ended with an unknown outcome: this process must end"
            try:
                async with asyncio.timeout(WRITE_BOUND_S):
                    await self._transaction(records, offsets)
            except (AnyKafkaError, OSError, TimeoutError, AssertionError) as e:
                self._hear_the_end()
                if is_fenced(e):
                    self._over = f"another coordinator has taken {self._transactional_id}: this process must end"
                    raise LeadershipLost(self._over) from e
                raise KafkaUnavailable(
                    f"write {len(records)} records to {self._topic}: outcome unknown ({said(e)}); this process must end"
                ) from e
            self._over = ""

    async def _transaction(self, records: Mapping[str, bytes | None], offsets: Offsets) -> None:
        await self._producer.begin_transaction()
        sends = [await self._producer.send(self._topic, v, key=k.encode(), partition=0) for k, v in records.items()]
        for outcome in await asyncio.gather(*sends, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        for group, committed in offsets.items():
            positions = {
                TopicPartition(p.kafka_topic, p.n): OffsetAndMetadata(at, metadata)
                for p, (at, metadata) in committed.items()
            }
            await self._producer.send_offsets_to_transaction(positions, group)
        await self._producer.commit_transaction()

    def _hear_the_end(self) -> None:
        """Take the error that a failed transaction also leaves in aiokafka's own future, else it is logged as
        unheard."""
        end = self._producer._txn_manager.wait_for_transaction_end()
        if end is not None and end.done() and not end.cancelled():
            end.exception()

    async def stop(self) -> None:
        """Let go of the connections, whatever state the producer is in."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            async with asyncio.timeout(5):
                await producer.stop()
        except (AnyKafkaError, OSError, TimeoutError) as e:
            _log.warning("coordinator_producer_not_stopped", error=repr(e))
            await producer.client.close()
