"""A transactional producer whose late requests change nothing, and that waits for three round trips
in each transaction.

aiokafka sends the requests of a transaction one after the other: at a distance that is five round
trips. Here AddPartitionsToTxn and AddOffsetsToTxn are sent together, then Produce and
TxnOffsetCommit, then EndTxn: three.

aiokafka sends an unanswered request again, on another connection. The first copy may still reach
the broker, which takes it as part of the transaction that is open under that producer id and epoch
by then (KAFKA-17754). Two rules prevent this:

- If the cluster has finalized transaction version 2, EndTxn is sent in version 5. Its answer has a
  new epoch, so the broker refuses a request of an earlier transaction by its epoch. Within one
  transaction a request may be sent twice: it repeats the same, and the broker recognizes an EndTxn
  that it has done.
- Otherwise all transactions of a lease have one epoch. A request that changes the transaction is
  sent only once. If it is not answered, the producer must end, and its successor's fence makes the
  broker refuse the late copy. Produce may be repeated, since it has sequence numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka import AIOKafkaProducer
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.errors import IncompatibleBrokerVersion, OutOfOrderSequenceNumber
from aiokafka.producer.sender import Sender
from aiokafka.producer.transaction_manager import TransactionManager, TransactionState
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    TxnOffsetCommitRequest,
)

from agents import settings
from agents.base.supervisor import retrieve_error
from agents.kafka import markers
from agents.kafka.broker_clock import BrokerClock
from agents.kafka.connection import client_kwargs, raise_for_code
from agents.kafka.refusals import BrokerRefusals
from agents.kafka.wire import DescribeFeatures, EndTransaction

RETRY_MS = 5
LAST_EPOCH = 32_766
"""The last epoch of a producer id: when a transaction ends under it, the broker gives the producer
another id."""
_PRODUCER_FENCED, _INVALID_PRODUCER_EPOCH = 90, 47
_SENT_ONCE = (
    AddPartitionsToTxnRequest,
    AddOffsetsToTxnRequest,
    TxnOffsetCommitRequest,
    EndTxnRequest,
)


class RequestUnanswered(IncompatibleBrokerVersion, OutOfOrderSequenceNumber):  # type: ignore[misc]
    """A request of a transaction was sent and not answered: its outcome is unknown.

    The base classes are for aiokafka: it does not retry after the first, and its sender ends on the
    second without wrapping it."""

    def __init__(self, request: object, why: object) -> None:
        super().__init__(f"{type(request).__name__} was sent and not answered ({why!r})")

    def __str__(self) -> str:
        return str(self.args[0])


class TransactionalProducer(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka has no types
    """`clock` learns the brokers' from their answers. `more`: arguments for AIOKafkaProducer.
    Raises aiokafka's errors."""

    _txn_manager: Any  # aiokafka has no types

    def __init__(
        self,
        kafka: settings.Kafka,
        transactional_id: str,
        clock: BrokerClock | None = None,
        **more: Any,
    ) -> None:
        super().__init__(
            transactional_id=transactional_id,
            acks="all",
            retry_backoff_ms=RETRY_MS,
            **more,
            **client_kwargs(kafka),
        )
        timeout_ms = self._txn_manager.transaction_timeout_ms
        self._txn_manager = _Transactions(transactional_id, timeout_ms)
        self._message_accumulator._txn_manager = self._txn_manager
        self._requests = _Requests(self.client, self._txn_manager, clock or BrokerClock())
        self._sender = _PipeliningSender(
            self._requests,
            acks=-1,
            txn_manager=self._txn_manager,
            message_accumulator=self._message_accumulator,
            retry_backoff_ms=RETRY_MS,
            request_timeout_ms=self._request_timeout_ms,
        )

    @property
    def transaction_version(self) -> int:
        """The transaction version that the cluster had finalized when the producer started."""
        return self._requests.version

    @property
    def heard(self) -> BrokerRefusals:
        """What brokers have refused; the caller clears it when a transaction begins."""
        return self._requests.heard

    @property
    def producer_id(self) -> int:
        return int(self._txn_manager.producer_id)

    async def start(self) -> None:
        """As aiokafka's, and reads the cluster's transaction version before any transaction can
        begin."""
        await self.client.bootstrap()
        self._requests.version = await _read_transaction_version(self.client)
        await self._sender.start()

    async def begin_transaction(self) -> None:
        """As aiokafka's, but never under the last epoch of a producer id: before Kafka 4.3.0 such a
        transaction may never end when it is fenced (KAFKA-20090). An empty transaction is aborted
        instead, for which the broker gives the next id."""
        last = self.transaction_version >= 2 and self._txn_manager.producer_epoch >= LAST_EPOCH
        if last:
            await super().begin_transaction()
            await self.abort_transaction()
        await super().begin_transaction()

    async def abort_transaction(self) -> None:
        """As aiokafka's, but with transactions of version 2, which may be empty, EndTxn is always
        sent: an AddOffsetsToTxn whose answer was lost may have begun one."""
        transactions = self._txn_manager
        empty = transactions.is_empty_transaction() and transactions.consumer_group_to_add() is None
        if empty and self.transaction_version >= 2:
            transactions.consumer_group_added("")
        await super().abort_transaction()

    def queue_offsets(self, positions: Mapping[Any, Any], group: str) -> asyncio.Future[None]:
        """As aiokafka's `send_offsets_to_transaction`, but returns at once: the future has the
        outcome. It must not be cancelled. Any: aiokafka has no types."""
        sent: asyncio.Future[None] = self._txn_manager.add_offsets_to_txn(dict(positions), group)
        sent.add_done_callback(retrieve_error)
        return sent

    async def begin_empty_transaction(
        self, partitions: Collection[tuple[str, int]], groups: Collection[str]
    ) -> None:
        """Begin a transaction over these partitions and groups, without records and offsets. It
        bypasses aiokafka, which has no such transactions. It may be called again."""
        await markers.add_to_transaction(self._send_request, self._owner, partitions, groups)

    async def end_empty_transaction(self, committed: bool) -> None:
        """Commit or abort the transaction that `begin_empty_transaction` began."""
        await markers.end_transaction(self._send_request, self._owner, committed)

    @property
    def _owner(self) -> tuple[str, int, int]:
        transactions = self._txn_manager
        return transactions.transactional_id, transactions.producer_id, transactions.producer_epoch

    async def _send_request(self, request: Any) -> Any:  # Any: aiokafka has no types
        kind = CoordinationType.TRANSACTION
        node = await self.client.coordinator_lookup(kind, self._txn_manager.transactional_id)
        return await self._requests.send(node, request, group=ConnectionGroup.COORDINATION)


class _Transactions(TransactionManager):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's state of a transaction, for requests that are sent side by side: when one is
    refused, the other may have been accepted, or be refused as well."""

    _txn_consumer_group: Any

    def error_transaction(self, error: BaseException) -> None:
        if self.state is TransactionState.ABORTABLE_ERROR:
            return
        group = self._txn_consumer_group
        super().error_transaction(error)
        self._txn_consumer_group = group  # else no EndTxn is sent, and the transaction stays open


class _PipeliningSender(Sender):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's sender. It already sends Produce while a TxnOffsetCommit is under way."""

    def _maybe_do_transactional_request(self) -> asyncio.Task[None] | None:
        transactions = self._txn_manager
        partitions, group = transactions.partitions_to_add(), transactions.consumer_group_to_add()
        if partitions and group is not None:
            return asyncio.create_task(self._add_side_by_side(set(partitions), group))
        task: asyncio.Task[None] | None = super()._maybe_do_transactional_request()
        return task

    async def _add_side_by_side(self, partitions: set[Any], group: str) -> None:
        kind = CoordinationType.TRANSACTION
        await self._find_coordinator(kind, self._txn_manager.transactional_id)
        # In this order, on one connection: the broker takes the second when the first is done.
        outcomes = await asyncio.gather(
            self._do_add_partitions_to_txn(partitions),
            self._do_add_offsets_to_txn(group),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome


class _Requests:
    """Sits between aiokafka's sender and its client, and sees every request and response."""

    def __init__(
        self, client: Any, transactions: Any, clock: BrokerClock
    ) -> None:  # Any: aiokafka has no types
        self._client = client
        self._transactions = transactions
        self._clock = clock
        self.version = 0
        self.heard = BrokerRefusals()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(
        self, node: int, request: Any, *, group: ConnectionGroup = ConnectionGroup.DEFAULT
    ) -> Any:
        """Raises RequestUnanswered if a request was not answered and must not be sent again."""
        ends = self.version >= 2 and isinstance(request, EndTxnRequest)
        try:
            sent = EndTransaction(request) if ends else request
            sent_ms = self._clock.own_ms()
            response = await self._client.send(node, sent, group=group)
        except (kafka_errors.NodeNotReadyError, IncompatibleBrokerVersion):
            raise  # nothing was sent, so a retry is safe
        except kafka_errors.KafkaError as e:
            if self.version >= 2 or not isinstance(request, _SENT_ONCE):
                raise
            raise RequestUnanswered(request, e) from e
        if ends:
            self._adopt_next_producer_id(response)
        if isinstance(request, ProduceRequest):
            self._learn_clock(response, sent_ms)
        self.heard.note_refusals(request, response)
        return response

    def _learn_clock(self, response: Any, sent_ms: float) -> None:
        answered_ms = self._clock.own_ms()
        for _, partitions in getattr(response, "topics", None) or ():
            for _, code, _, append_ms, *_rest in partitions:
                if not code:
                    self._clock.note_append(sent_ms, append_ms, answered_ms)

    def _adopt_next_producer_id(self, response: Any) -> None:
        """Give aiokafka the producer id and epoch of the next transaction, whose sequence numbers
        begin at 0."""
        if response.error_code == _PRODUCER_FENCED:  # aiokafka knows the older error only
            response.error_code = _INVALID_PRODUCER_EPOCH
        if response.error_code:
            return
        transactions = self._transactions
        kind = type(transactions._pid_and_epoch)
        transactions._pid_and_epoch = kind(response.producer_id, response.producer_epoch)
        transactions._sequence_numbers.clear()


async def _read_transaction_version(client: Any) -> int:
    """The finalized version. The supported versions do not tell: a broker takes EndTxn version 5 in
    any case."""
    node = client.get_random_node()
    answer = await client.send(node, DescribeFeatures())
    raise_for_code(answer.error_code, "ApiVersions")
    return int(answer.finalized.get("transaction.version", 0))
