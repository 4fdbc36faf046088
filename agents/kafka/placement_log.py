"""The topic `placement` is the truth about who owns what: one coordinator writes it, in
transactions, before it speaks (PROTOCOL 2.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from agents import settings
from agents.base.errors import KafkaUnavailable, LeadershipLost, LeaseLost
from agents.core.model.messages import LeaseCommand
from agents.core.model.placement import is_row
from agents.core.model.topology import TOPIC_PLACEMENT, Partition, WorkerKind
from agents.kafka import verification
from agents.kafka.compacted import IsRow, anything, read_rows, read_table
from agents.kafka.connection import is_fenced, said
from agents.kafka.leases import LeaseMaker
from agents.kafka.markers import Reach
from agents.kafka.producer import LeasedProducer
from agents.kafka.refusals import NotSent

COORDINATOR_ID = "geolane-coordinator"
TRANSACTION_TIMEOUT_MS = 10_000
WRITE_BOUND_S = 10.0
START_BOUND_S = 10.0

_BATCH_BYTES = 16 << 10

OffsetsByGroup = Mapping[str, Mapping[Partition, tuple[int, str]]]
"""By consumer group, one at most: the offset to be committed, and its metadata."""
_NONE: OffsetsByGroup = {}


async def read_placement(kafka: settings.Kafka) -> dict[str, bytes]:
    """The newest value of each key, for views and tools; who reads so has fenced nobody, and may
    not act on it."""
    return _as_text(await read_table(kafka, TOPIC_PLACEMENT, is_row))


def _as_text(table: Mapping[bytes, bytes]) -> dict[str, bytes]:
    return {key.decode("utf-8", "backslashreplace"): value for key, value in table.items()}


class PlacementLog:
    """One process's leadership: `lead` once, then `write`; when either fails as unknown or lost,
    the process must end.

    `topic` and `transactional_id` are for tests, which share one broker."""

    def __init__(
        self,
        kafka: settings.Kafka,
        *,
        topic: str = TOPIC_PLACEMENT,
        transactional_id: str = COORDINATOR_ID,
    ) -> None:
        self._kafka = kafka
        self._topic = topic
        self._transactional_id = transactional_id
        self._producer: LeasedProducer | None = None
        self.lost: frozenset[str] = frozenset()
        self._spoiled: Mapping[str, bytes] = {}
        self._led = False
        self._over: str = ""
        self._one_at_a_time = asyncio.Lock()

    async def lead(self, own: IsRow = anything) -> dict[str, bytes]:
        """Take the leadership and read the topic to its end: the newest value of each key (no
        tombstones).

        Call it only while holding the name `leader` (PROTOCOL 2.11). Whoever led before is fenced
        when this returns, and what they committed is all in the answer. Raises KafkaUnavailable:
        before anybody was fenced (no broker answers) it may be called again, else a second call
        raises LeadershipLost, since a process leads once. Raises KafkaError, with nobody fenced,
        where a late request would break exactly once (verification.py): a leader makes the leases,
        so without one nobody commits.

        What somebody else wrote there and no coordinator can have written (`own` says so) is passed
        over: the value before it holds, and is written again with the first write. Where there is
        none any more its key is in `lost`."""
        if self._led:
            raise LeadershipLost("this process has led before: it must end, and a new one may lead")
        await verification.require(self._kafka)
        reach = Reach((self._topic,), tuple(kind.group for kind in WorkerKind))
        maker = LeaseMaker(self._kafka, TRANSACTION_TIMEOUT_MS, lambda _: reach)
        await maker.start(START_BOUND_S)
        try:
            self._led = True
            lease = await maker.make(self._transactional_id)
        finally:
            await maker.stop()
        self._producer = LeasedProducer(
            self._kafka, LeaseCommand(0, "", self._transactional_id, *lease)
        )
        await self._producer.start()
        table = await read_rows(self._kafka, self._topic, own)
        rows = _as_text(table.rows)
        spoiled = {key.decode("utf-8", "backslashreplace") for key in table.spoiled}
        self.lost = frozenset(spoiled - rows.keys())
        self._spoiled = {key: value for key, value in rows.items() if key in spoiled}
        return rows

    async def write(
        self, records: Mapping[str, bytes | None], offsets: OffsetsByGroup = _NONE
    ) -> None:
        """Commit all records in one transaction (None is a tombstone), each send awaited before the
        commit (PROTOCOL 3.2); and with them `offsets`, of partitions that nobody owns: who is
        fenced commits neither.

        When it returns, they are there for whoever leads next. Raises NotSent, and Refused where
        the topic does not take them: nothing is committed, and it may be called again. Either of
        the others ends the leadership, and so the process, before it sends any command:
        LeadershipLost when another coordinator has fenced us (it knows what counts, and acts on
        it); KafkaUnavailable when the outcome is UNKNOWN, the records may stand or not. Every later
        call raises LeadershipLost. The same holds after a cancellation."""
        async with self._one_at_a_time:
            if self._over:
                raise LeadershipLost(self._over)
            if self._producer is None:
                raise LeadershipLost("lead() has not been called, or has failed")
            self._over = "an earlier write ended with an unknown outcome: this process must end"
            batches = {(self._topic, 0): _batches(self._producer, {**self._spoiled, **records})}
            [(group, positions)] = offsets.items() or [("", {})]
            try:
                async with asyncio.timeout(WRITE_BOUND_S):
                    await self._producer.transact(batches, positions, group)
            except NotSent:
                self._over = ""
                raise
            except (LeaseLost, TimeoutError) as e:
                why = e.__cause__ or e
                if is_fenced(why):
                    self._over = (
                        f"another coordinator has taken {self._transactional_id}: this "
                        "process must end"
                    )
                    raise LeadershipLost(self._over) from e
                raise KafkaUnavailable(
                    f"write {len(records)} records to {self._topic}: outcome unknown "
                    f"({said(why)}); this process must end"
                ) from e
            self._over, self._spoiled = "", {}

    async def stop(self) -> None:
        """Let go of the connections, whatever state the producer is in."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()


def _batches(producer: LeasedProducer, records: Mapping[str, bytes | None]) -> list[Any]:
    """In their order; none is filled far beyond 16 kB, so that a topic with a small limit takes
    them."""
    batches = [producer.new_batch()]
    for key, value in records.items():
        row = {"key": key.encode(), "value": value, "timestamp": None}
        if batches[-1].size() > _BATCH_BYTES or batches[-1].append(**row) is None:
            batches.append(producer.new_batch())
            batches[-1].append(**row)
    return batches
