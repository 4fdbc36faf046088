"""A transactional producer whose requests may arrive late and change nothing.

aiokafka sends a request that was not answered in time once more, on another connection. The first
copy may still reach the broker, and the broker takes it for a part of whatever transaction is open
under that producer id and epoch (KAFKA-17754). Two things keep it out:

- Where the cluster has finalized transaction version 2, EndTxn is sent in version 5: the answer has
  a new epoch, so a request of an earlier transaction is refused by its epoch. Within one
  transaction each of them may be sent twice: it says the same, and the broker knows an EndTxn that
  it has done.
- Elsewhere all transactions of a lease have one epoch. There a request that changes the transaction
  is sent once: without an answer the producer has come to its end, and the fence of whoever comes
  next refuses the late copy. Produce may be repeated: it has sequence numbers.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka import AIOKafkaProducer
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.errors import IncompatibleBrokerVersion, OutOfOrderSequenceNumber
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    TxnOffsetCommitRequest,
)

from agents import settings
from agents.kafka import markers
from agents.kafka.connection import client_kwargs, raise_error
from agents.kafka.refusals import BrokerRefusals
from agents.kafka.wire import DescribeFeatures, EndTransaction

LAST_EPOCH = 32_766
"""Of a producer id: the transaction that ends under it gives its producer another id."""
_PRODUCER_FENCED, _INVALID_PRODUCER_EPOCH = 90, 47
_SENT_ONCE = (
    AddPartitionsToTxnRequest,
    AddOffsetsToTxnRequest,
    TxnOffsetCommitRequest,
    EndTxnRequest,
)


class RequestUnanswered(IncompatibleBrokerVersion, OutOfOrderSequenceNumber):  # type: ignore[misc]
    """A request of a transaction was sent, and no answer came: what became of it is not known.

    aiokafka does not retry after an error of the first kind, and its sender ends on one of the
    second without wrapping it."""

    def __init__(self, request: object, why: object) -> None:
        super().__init__(f"{type(request).__name__} was sent and not answered ({why!r})")

    def __str__(self) -> str:
        return str(self.args[0])


class TransactionalProducer(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka has no types
    """`more`: arguments of AIOKafkaProducer. Raises aiokafka's errors, as that does."""

    def __init__(self, kafka: settings.Kafka, transactional_id: str, **more: Any) -> None:
        super().__init__(
            transactional_id=transactional_id,
            acks="all",
            retry_backoff_ms=5,
            **more,
            **client_kwargs(kafka),
        )
        self._requests = _Requests(self.client, self._txn_manager)
        self._sender.client = self._requests

    @property
    def transaction_version(self) -> int:
        """What the cluster had finalized when this was started."""
        return self._requests.version

    @property
    def heard(self) -> BrokerRefusals:
        """What brokers refuse; to be cleared when a transaction begins."""
        return self._requests.heard

    @property
    def producer_id(self) -> int:
        return int(self._txn_manager.producer_id)

    async def start(self) -> None:
        """As aiokafka's; but what kind of transactions there are is asked before any can begin."""
        await self.client.bootstrap()
        self._requests.version = await _transaction_version(self.client)
        await self._sender.start()

    async def begin_transaction(self) -> None:
        """Before Kafka 4.3.0 a transaction that is open under the last epoch may never end when it
        is fenced (KAFKA-20090). So none is opened there: an empty one is aborted, for which the
        broker gives the next id."""
        last = self.transaction_version >= 2 and self._txn_manager.producer_epoch >= LAST_EPOCH
        if last:
            await super().begin_transaction()
            self._txn_manager.consumer_group_added("")  # or aiokafka would not send the EndTxn
            await self.abort_transaction()
        await super().begin_transaction()

    async def add_nothing(
        self, partitions: Collection[tuple[str, int]], groups: Collection[str]
    ) -> None:
        """Begin a transaction without records and offsets over these, past aiokafka, which has none
        such. It may be called again."""
        await markers.add(self._ask, self._owner, partitions, groups)

    async def end_nothing(self, committed: bool) -> None:
        """End it."""
        await markers.end(self._ask, self._owner, committed)

    @property
    def _owner(self) -> tuple[str, int, int]:
        transactions = self._txn_manager
        return transactions.transactional_id, transactions.producer_id, transactions.producer_epoch

    async def _ask(self, request: Any) -> Any:  # Any: aiokafka has no types
        kind = CoordinationType.TRANSACTION
        node = await self.client.coordinator_lookup(kind, self._txn_manager.transactional_id)
        return await self._requests.send(node, request, group=ConnectionGroup.COORDINATION)


class _Requests:
    """The client that aiokafka's sender has: what it sends passes through here."""

    def __init__(self, client: Any, transactions: Any) -> None:  # Any: aiokafka has no types
        self._client = client
        self._transactions = transactions
        self.version = 0
        self.heard = BrokerRefusals()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(
        self, node: int, request: Any, *, group: ConnectionGroup = ConnectionGroup.DEFAULT
    ) -> Any:
        """Raises Unanswered where a request must not be sent again."""
        ends = self.version >= 2 and isinstance(request, EndTxnRequest)
        try:
            sent = EndTransaction(request) if ends else request
            response = await self._client.send(node, sent, group=group)
        except (kafka_errors.NodeNotReadyError, IncompatibleBrokerVersion):
            raise  # nothing has left
        except kafka_errors.KafkaError as e:
            if self.version >= 2 or not isinstance(request, _SENT_ONCE):
                raise
            raise RequestUnanswered(request, e) from e
        if ends:
            self._take_next(response)
        self.heard.take(request, response)
        return response

    def _take_next(self, response: Any) -> None:
        """The next transaction's producer id and epoch, and its sequence numbers from 0."""
        if response.error_code == _PRODUCER_FENCED:  # aiokafka knows the older error only
            response.error_code = _INVALID_PRODUCER_EPOCH
        if response.error_code:
            return
        transactions = self._transactions
        kind = type(transactions._pid_and_epoch)
        transactions._pid_and_epoch = kind(response.producer_id, response.producer_epoch)
        transactions._sequence_numbers.clear()


async def _transaction_version(client: Any) -> int:
    """What the cluster has finalized: a broker takes EndTxn of version 5 in any case."""
    node = client.get_random_node()
    answer = await client.send(node, DescribeFeatures())
    raise_error(answer.error_code, "ApiVersions")
    return int(answer.finalized.get("transaction.version", 0))
