"""A worker's transactional producer. It works under the lease that it was given (PROTOCOL 2.1) and
cannot obtain another.

A transaction ends in one of four ways:

- committed;
- `NotSent`: nothing was sent, and the same work may be retried;
- `TransactionRefused`: brokers refused a part and the transaction is aborted; the rest may be sent
  without that part (agents/kafka/refusals.py);
- LeaseLost: the process must end, and its successor finds out what became of the transaction.

A broker that is killed can forget the markers of a transaction that it has decided
(agents/kafka/markers.py). So after a lost connection, the producer ends its previous transaction
once more in the same way, over the same partitions and offsets but without records. The next
transaction might end differently, and its markers would decide the previous one too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from agents import settings
from agents.base.errors import LeaseLost
from agents.core.model.messages import LeaseCommand
from agents.core.model.topology import Partition
from agents.kafka.batches import RecordBatch
from agents.kafka.broker_clock import BrokerClock
from agents.kafka.connection import NOT_YET, PAUSE_S, describe_error, to_geolane_error
from agents.kafka.foreign import AnyNames
from agents.kafka.refusals import (
    NotSent,
    PartitionRefusal,
    TopicPartitionName,
    TransactionRefused,
    find_refusals,
    read_size_limit,
    refusal_of_missing_right,
    sequence_after,
)
from agents.kafka.transactions import TransactionalProducer

MAX_BATCH_BYTES = 1 << 20
TRANSACTION_BOUND_S = 9.0
"""Below the transaction time-out of a lease (10 s), so that the broker does not abort a transaction
that we still wait for."""
_ABORT_BOUND_S = 1.0
_STOP_BOUND_S = 3.0
_LOOK_S = 0.001

Batches = Mapping[tuple[str, int], Sequence[Any]]
"""By (topic, partition): record batches made by `new_batch`. Any: aiokafka has no types."""


class LeasedProducer:
    """One transactional producer under one lease. Calls of `send_transaction` must not overlap.
    `clock` learns the brokers'."""

    def __init__(
        self,
        kafka: settings.Kafka,
        lease: LeaseCommand,
        *,
        bound_s: float = TRANSACTION_BOUND_S,
        clock: BrokerClock | None = None,
    ) -> None:
        self._bound_s = bound_s
        self._lost = ""
        self._before: set[Any] = set()  # partitions of the last transaction
        self._was_committed = False
        self._group = ""  # the group whose offsets it had
        self._connections: tuple[Any, ...] = ()  # those that were open when its commit began
        self._producer: Any = TransactionalProducer(  # Any: aiokafka has no types
            kafka,
            lease.transactional_id,
            clock,
            linger_ms=0,
            request_timeout_ms=5000,
            max_batch_size=MAX_BATCH_BYTES,
        )
        # aiokafka sends no InitProducerId for a producer that has an id already (pinned by a test).
        self._producer._txn_manager.set_pid_and_epoch(lease.producer_id, lease.producer_epoch)

    async def start(self) -> None:
        """Reach the brokers. Raises KafkaUnavailable (it may then be called again), KafkaError."""
        try:
            async with asyncio.timeout(self._bound_s):
                await self._producer.start()
        except (kafka_errors.KafkaError, OSError, TimeoutError) as e:
            raise to_geolane_error(e, "start the producer") from e

    async def stop(self) -> None:
        """Close the connections, within 4 s. An open transaction stays open until a fence or its
        time-out ends it."""
        try:
            async with asyncio.timeout(_STOP_BOUND_S):
                await self._producer.stop()
        except (TimeoutError, kafka_errors.KafkaError, OSError):
            with contextlib.suppress(TimeoutError, kafka_errors.KafkaError, OSError):
                async with asyncio.timeout(1):
                    await self._producer.client.close()

    def new_batch(self, *, any_names: bool = False) -> RecordBatch:
        """An empty batch of up to 1 MiB (or one larger record); its `append` returns None when it
        is full. May be called in any thread. `any_names`: takes headers with a BadName, slower."""
        return AnyNames(MAX_BATCH_BYTES) if any_names else RecordBatch(MAX_BATCH_BYTES)

    async def send_transaction(
        self, batches: Batches, offsets: Mapping[Partition, tuple[int, str]], group: str
    ) -> None:
        """Send all batches and commit `offsets` (with their metadata), if any, to `group`, in one
        transaction. One group, since aiokafka cannot add a second one.

        Raises NotSent, TransactionRefused or LeaseLost (see the head of this file). A cancellation
        after the first send also costs the lease: every later call raises LeaseLost."""
        if self._lost:
            raise LeaseLost(self._lost)
        await self._check_partitions(batches)
        positions = {
            TopicPartition(p.kafka_topic, p.n): OffsetAndMetadata(offset, metadata)
            for p, (offset, metadata) in offsets.items()
        }
        # `doing` names the step that failed; only after "commit" is the outcome unknown.
        doing = "end the transaction before once more"
        try:
            async with asyncio.timeout(self._bound_s):
                if self.may_lack_markers:
                    await self._repeat_last_end()
                doing = "begin the transaction"
                await self._producer.begin_transaction()
                producer_id = self._producer.producer_id
                # Refusals of the last transaction must not count for this one.
                self._producer.heard.clear()
                doing = "add the partitions and the group"
                partitions = sorted({TopicPartition(*p) for p in batches})
                for partition in partitions:
                    self._producer._txn_manager.maybe_add_partition_to_txn(partition)
                sent = self._producer.queue_offsets(positions, group) if positions else None
                refusals = await self._await_added(partitions)
                added = not refusals
                if added:
                    doing = "send the records and the offsets"
                    refusals = await self._send_batches_and_offsets(batches, sent)
                # Everything was answered: only now may the transaction end (PROTOCOL 3.2).
                doing = "abort" if refusals else "commit"
                connections = self._live_connections()
                if refusals:
                    await self._producer.abort_transaction()
                else:
                    await self._producer.commit_transaction()
        except BaseException as e:
            text = describe_error(e)
            self._lost = (
                f"{doing}: {text}" if doing != "commit" else f"commit, outcome unknown: {text}"
            )
            if doing not in ("abort", "commit"):
                await self._abort_transaction()
            self._retrieve_end_error()
            if isinstance(e, kafka_errors.KafkaError | OSError | TimeoutError | AssertionError):
                raise LeaseLost(self._lost) from e
            raise
        if added:
            self._before = {TopicPartition(*p) for p in batches}
            self._was_committed = not refusals
            # An aborted transaction has offsets, too: their markers must not become a commit's.
            self._group = group if positions else ""
            if producer_id != self._producer.producer_id:  # a new id's markers would decide nothing
                self._before, self._was_committed, self._group = set(), False, ""
            self._connections = connections
        if refusals:
            # A partition that refuses would refuse to be added again, too.
            self._before -= {TopicPartition(*x.place) for x in refusals}
            raise TransactionRefused(await self._with_size_limits(refusals))

    @property
    def may_lack_markers(self) -> bool:
        """Whether a connection was lost since the end of the last transaction began, so that its
        markers may be missing."""
        has_markers = bool(self._before or self._group)
        return has_markers and self._connections != self._live_connections()

    async def _repeat_last_end(self) -> None:
        partitions, committed = [tuple(tp) for tp in self._before], self._was_committed
        groups = [self._group] if self._group else []
        while True:
            try:
                await self._producer.begin_empty_transaction(partitions, groups)
                connections = self._live_connections()
                await self._producer.end_empty_transaction(committed)
            except NOT_YET:
                await asyncio.sleep(PAUSE_S)
            else:
                self._connections = connections
                return

    def _live_connections(self) -> tuple[Any, ...]:
        return tuple(c for c in self._producer.client._conns.values() if c.connected())

    async def _check_partitions(self, batches: Batches) -> None:
        """Raise NotSent or TransactionRefused for unknown partitions before the transaction begins,
        since aiokafka would raise in the middle of it."""
        for topic in {topic for topic, _ in batches}:
            wanted = {n for t, n in batches if t == topic}
            try:
                async with asyncio.timeout(self._bound_s):
                    known = await self._producer.partitions_for(topic)
                    if not wanted <= set(known):
                        await self._producer.client.force_metadata_update()
                        known = await self._producer.partitions_for(topic)
            except kafka_errors.UnknownTopicOrPartitionError as e:
                raise TransactionRefused(
                    [PartitionRefusal((topic, n), "there is no such topic") for n in sorted(wanted)]
                ) from e
            except kafka_errors.TopicAuthorizationFailedError as e:
                raise TransactionRefused(
                    [refusal_of_missing_right((topic, n)) for n in sorted(wanted)]
                ) from e
            except (kafka_errors.KafkaError, OSError, TimeoutError) as e:
                raise NotSent(
                    f"topic {topic}: its partitions are not known: {describe_error(e)}"
                ) from e
            if missing := sorted(wanted - set(known)):
                raise TransactionRefused(
                    [
                        PartitionRefusal((topic, n), f"it has no partition {n}, only {len(known)}")
                        for n in missing
                    ]
                )

    async def _await_added(self, partitions: Sequence[Any]) -> list[PartitionRefusal]:
        """Wait until all partitions and the group are added, before any record is sent. A broker
        takes all partitions or none; if it refuses one, the transaction has at most the group, and
        no offsets."""
        transactions = self._producer._txn_manager
        while (
            not transactions.txn_partitions.issuperset(partitions)
            or transactions.consumer_group_to_add() is not None
        ):
            ended = transactions.wait_for_transaction_end()
            if ended.done() and ended.exception() is not None:
                if heard := self._producer.heard.refused_places():
                    return [self._producer.heard.refusal_at(place) for place in sorted(heard)]
                ended.result()
            await asyncio.sleep(_LOOK_S)
        return []

    async def _send_batches_and_offsets(
        self, batches: Batches, offsets_sent: asyncio.Future[None] | None
    ) -> list[PartitionRefusal]:
        """Send the batches while the offsets are sent; returns the refusals when all is
        answered."""
        sending = asyncio.create_task(self._send_batches(batches))
        waiting = [] if offsets_sent is None else [asyncio.shield(offsets_sent)]
        outcomes = await asyncio.gather(*waiting, sending, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return sending.result()

    async def _send_batches(self, batches: Batches) -> list[PartitionRefusal]:
        """Send all batches and await each send, since a failed send does not fail the commit
        (PROTOCOL 3.2). Returns the refusals; the next transaction then continues with the sequence
        numbers that the brokers expect. Raises any other failure."""
        sequences = self._producer._txn_manager._sequence_numbers
        starts = {place: sequences[TopicPartition(*place)] for place in batches}

        async def send_in_order(topic: str, n: int, parts: Sequence[Any]) -> list[Any]:
            # One after the other: the order within a partition is the order of the batches.
            acks = [await self._producer.send_batch(batch, topic, partition=n) for batch in parts]
            return await asyncio.gather(*acks, return_exceptions=True)

        sent = await asyncio.gather(
            *(send_in_order(topic, n, parts) for (topic, n), parts in batches.items()),
            return_exceptions=True,
        )
        outcomes: dict[TopicPartitionName, list[Any]] = {}
        for place, answers in zip(batches, sent, strict=True):
            if isinstance(answers, BaseException):
                raise answers
            outcomes[place] = answers
        refusals = list(find_refusals(self._producer.heard, batches, outcomes))
        for place in {x.place for x in refusals}:
            after = sequence_after(starts[place], batches[place], outcomes[place])
            sequences[TopicPartition(*place)] = after
        return refusals

    async def _with_size_limits(
        self, refusals: Sequence[PartitionRefusal]
    ) -> list[PartitionRefusal]:
        topics = {x.place[0] for x in refusals if x.too_large}
        limits = {
            topic: await read_size_limit(self._producer.client, topic) for topic in sorted(topics)
        }
        return [replace(x, limit=limits.get(x.place[0], 0)) for x in refusals]

    def _retrieve_end_error(self) -> None:
        """Fetch the error that a failed transaction leaves in aiokafka's future, or asyncio logs it
        as never retrieved."""
        end = self._producer._txn_manager.wait_for_transaction_end()
        if end is not None and end.done() and not end.cancelled():
            end.exception()

    async def _abort_transaction(self) -> None:
        """Abort, as a best effort: the next owner then need not wait for the fence to do it."""
        with contextlib.suppress(kafka_errors.KafkaError, OSError, TimeoutError, AssertionError):
            async with asyncio.timeout(_ABORT_BOUND_S):
                await self._producer.abort_transaction()
