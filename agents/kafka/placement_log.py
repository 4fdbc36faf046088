"""The topic `placement` says who owns each partition. One coordinator writes it, in transactions,
before it sends any command (PROTOCOL 2.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from agents import settings
from agents.base.errors import KafkaUnavailable, LeadershipLost, LeaseLost
from agents.core.model.messages import LeaseCommand
from agents.core.model.placement import is_valid_record
from agents.core.model.topology import KINDS, TOPIC_PLACEMENT, Partition
from agents.kafka import verification
from agents.kafka.broker_clock import BrokerClock
from agents.kafka.compacted import IsRow, accept_any_row, read_rows, read_table
from agents.kafka.connection import describe_error, is_fenced
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
"""By consumer group (at most one): the offset to commit for each partition, and its metadata."""
_NONE: OffsetsByGroup = {}


async def read_placement(kafka: settings.Kafka) -> dict[str, bytes]:
    """The newest value of each key, for views and tools. The reader has fenced nobody, so it must
    not act on what it reads."""
    return _decode_keys(await read_table(kafka, TOPIC_PLACEMENT, is_valid_record))


def _decode_keys(table: Mapping[bytes, bytes]) -> dict[str, bytes]:
    return {key.decode("utf-8", "backslashreplace"): value for key, value in table.items()}


class PlacementLog:
    """The leadership of one process: `take_leadership` once, then `write`. If the leadership is
    lost or the outcome of a write is unknown, the process must end.

    `clock` learns the brokers' with each write. `topic` and `transactional_id` are for tests, which
    share one broker. `lost`: keys without a valid value (see `take_leadership`)."""

    def __init__(
        self,
        kafka: settings.Kafka,
        *,
        clock: BrokerClock | None = None,
        topic: str = TOPIC_PLACEMENT,
        transactional_id: str = COORDINATOR_ID,
    ) -> None:
        self._kafka = kafka
        self._clock = clock
        self._topic = topic
        self._transactional_id = transactional_id
        self._producer: LeasedProducer | None = None
        self.lost: frozenset[str] = frozenset()
        self._spoiled: Mapping[str, bytes] = {}
        self._led = False
        self._over: str = ""
        self._one_at_a_time = asyncio.Lock()

    async def take_leadership(self, own: IsRow = accept_any_row) -> dict[str, bytes]:
        """Take the leadership and read the topic to its end: the newest value of each key (no
        tombstones).

        Call it only while holding the name `leader` (PROTOCOL 2.11). When it returns, the previous
        leader is fenced, and the answer has everything which that leader committed. Raises
        KafkaUnavailable. If no broker has answered, nobody is fenced and it may be called again.
        Otherwise a second call raises LeadershipLost, since a process leads once. Raises
        KafkaError, with nobody fenced, on a cluster where a late request would break exactly once
        (verification.py): the leader makes the leases, so without a leader nobody commits.

        A record that no coordinator can have written, by `own`, is skipped. The key's earlier value
        counts, and the first `write` writes it again. A key without an earlier value is in
        `lost`."""
        if self._led:
            raise LeadershipLost("this process has led before: it must end, and a new one may lead")
        await verification.require_safe_brokers(self._kafka, START_BOUND_S)
        reach = Reach((self._topic,), tuple(kind.group for kind in KINDS))
        maker = LeaseMaker(self._kafka, TRANSACTION_TIMEOUT_MS, lambda _: reach)
        await maker.start(START_BOUND_S)
        try:
            # From here on the previous leader may be fenced, so a second call must fail.
            self._led = True
            lease = await maker.make_lease(self._transactional_id)
        finally:
            await maker.stop()
        self._producer = LeasedProducer(
            self._kafka, LeaseCommand(0, "", self._transactional_id, *lease), clock=self._clock
        )
        await self._producer.start()
        # Read after the fence: no earlier leader can add to the topic any more.
        table = await read_rows(self._kafka, self._topic, own)
        rows = _decode_keys(table.rows)
        spoiled = {key.decode("utf-8", "backslashreplace") for key in table.spoiled}
        self.lost = frozenset(spoiled - rows.keys())
        self._spoiled = {key: value for key, value in rows.items() if key in spoiled}
        return rows

    async def write(
        self, records: Mapping[str, bytes | None], offsets: OffsetsByGroup = _NONE
    ) -> None:
        """Commit all records (None is a tombstone) in one transaction, and with them `offsets` of
        partitions that nobody owns. A fenced coordinator commits neither. Each send is awaited
        before the commit (PROTOCOL 3.2).

        When it returns, the next leader will read the records. Raises NotSent, or its subclass
        TransactionRefused if the topic does not take them: nothing is committed, and it may be
        called again. The other two errors end the leadership, and the process must end before it
        sends any command. LeadershipLost: another coordinator has fenced this one and acts on what
        is committed. KafkaUnavailable: the outcome is unknown, the records may be committed or not.
        Every later call raises LeadershipLost, also after a cancellation."""
        async with self._one_at_a_time:
            if self._over:
                raise LeadershipLost(self._over)
            if self._producer is None:
                raise LeadershipLost("take_leadership() has not been called, or has failed")
            # Set before the attempt, so that it also holds after a cancellation.
            self._over = "an earlier write ended with an unknown outcome: this process must end"
            batches = {
                (self._topic, 0): _pack_batches(self._producer, {**self._spoiled, **records})
            }
            [(group, positions)] = offsets.items() or [("", {})]
            try:
                async with asyncio.timeout(WRITE_BOUND_S):
                    await self._producer.send_transaction(batches, positions, group)
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
                    f"({describe_error(why)}); this process must end"
                ) from e
            self._over, self._spoiled = "", {}

    async def stop(self) -> None:
        """Close the connections, whatever state the producer is in."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()


def _pack_batches(producer: LeasedProducer, records: Mapping[str, bytes | None]) -> list[Any]:
    """The records in their order, in batches of about 16 kB, so that a topic with a small limit
    takes them."""
    batches = [producer.new_batch()]
    for key, value in records.items():
        row = {"key": key.encode(), "value": value, "timestamp": None}
        if batches[-1].size() > _BATCH_BYTES or batches[-1].append(**row) is None:
            batches.append(producer.new_batch())
            batches[-1].append(**row)
    return batches
