"""What brokers refuse of a transaction, by topic and partition: a record batch that is too large, a
topic whose settings or rights do not allow it, a partition that no longer exists.

The broker has written nothing of a refused batch, so the transaction can be aborted and the rest
sent without it under the same lease. aiokafka does not know every error code, and it retries
without end when a topic is gone or has too few replicas. Here that counts as refused after 3 s.
Source of the codes: Kafka's Errors.java."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest

from agents.base.errors import KafkaError

PATIENCE_S = 3.0
"""How long a topic that is missing or has too few replicas may take to come back."""
_GONE, _FEW_REPLICAS, _NOT_ALLOWED, _POLICY = 3, 19, 29, 44
_MAY_COME_BACK = (_GONE, _FEW_REPLICAS)
_TOO_LARGE = (10, 18)
_TOPIC, _LOOK_S = 2, 2.0
_WORDS = {
    _GONE: "there is no such partition",
    10: "a record batch is larger than max.message.bytes",
    17: "not a topic that can be written to",
    18: "a record batch is larger than segment.bytes",
    _FEW_REPLICAS: "it has fewer replicas in sync than min.insync.replicas",
    _NOT_ALLOWED: "this Kafka account lacks the right to write to it (`geolane provision` gives "
    "rights)",
    32: "a record's time is outside of what the topic accepts",
    43: "its message format does not accept such records",
    _POLICY: "a policy of the cluster does not allow it",
    76: "it does not accept this compression",
    87: "it does not accept such a record (a compacted topic accepts none without a key)",
}

TopicPartitionName = tuple[str, int]
"""A topic and the number of a partition."""


class NotSent(KafkaError):
    """Nothing of the transaction was sent, or it was aborted; it may be retried under the same
    lease."""


@dataclass(frozen=True, slots=True)
class PartitionRefusal:
    """A refusal by one partition. If its record batch was too large, `size` is the batch's bytes,
    `records` its number of records and `limit` the bytes that the topic takes; 0: not known."""

    place: TopicPartitionName
    why: str
    too_large: bool = False
    size: int = 0
    records: int = 0
    limit: int = 0

    def __str__(self) -> str:
        takes = f"; it takes {self.limit:,}" if self.limit else ""
        size = (
            f" ({self.size:,} bytes in {self.records:,} records{takes})"
            if self.too_large and self.size
            else ""
        )
        return f"{self.place[0]}/{self.place[1]} refuses: {self.why}{size}"


def refusal_of_missing_right(place: TopicPartitionName) -> PartitionRefusal:
    """The refusal for a client that lacks the right to see the topic, and so cannot ask for it."""
    return PartitionRefusal(place, _WORDS[_NOT_ALLOWED])


class TransactionRefused(NotSent):
    """These partitions refuse what they were sent, and would refuse it again; the rest may be sent
    without it."""

    def __init__(self, refusals: Sequence[PartitionRefusal]) -> None:
        more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
        super().__init__(f"{refusals[0]}{more}")
        self.refusals = tuple(refusals)


class BrokerRefusals:
    """Collects what brokers refuse in the current transaction, from their answers."""

    def __init__(self) -> None:
        self._said: dict[TopicPartitionName, int] = {}
        self._since: dict[TopicPartitionName, float] = {}

    def clear(self) -> None:
        self._said.clear()
        self._since.clear()

    def note_refusals(self, request: Any, response: Any) -> None:
        """Note the refusals in a response. A code that aiokafka would retry without end is replaced
        by one that it does not retry. Any: aiokafka has no types."""
        if isinstance(request, ProduceRequest) and getattr(response, "topics", None):
            response.topics = [
                (
                    topic,
                    [
                        (n, self._note_produce_code(topic, n, code), *rest)
                        for n, code, *rest in partitions
                    ],
                )
                for topic, partitions in response.topics
            ]
        elif isinstance(request, AddPartitionsToTxnRequest):
            response.errors = [
                (topic, [(n, self._note_add_code(topic, n, code)) for n, code in partitions])
                for topic, partitions in response.errors
            ]

    def _note_produce_code(self, topic: str, n: int, code: int) -> int:
        if not code:
            self._since.pop((topic, n), None)
        return _POLICY if self._note_code(topic, n, code) and code in _MAY_COME_BACK else code

    def _note_add_code(self, topic: str, n: int, code: int) -> int:
        return _NOT_ALLOWED if self._note_code(topic, n, code) and code in _MAY_COME_BACK else code

    def _note_code(self, topic: str, n: int, code: int) -> bool:
        """Note the code if it is a refusal; returns whether it is one. A code that may go away is
        one only after PATIENCE_S."""
        if code not in _WORDS:
            return False
        now = time.monotonic()
        if code in _MAY_COME_BACK and now - self._since.setdefault((topic, n), now) < PATIENCE_S:
            return False
        self._said.setdefault((topic, n), code)
        return True

    def refused_places(self) -> set[TopicPartitionName]:
        return set(self._said)

    def refusal_at(
        self, place: TopicPartitionName, size: int = 0, records: int = 0
    ) -> PartitionRefusal:
        code = self._said[place]
        return PartitionRefusal(place, _WORDS[code], code in _TOO_LARGE, size, records)


def find_refusals(
    heard: BrokerRefusals,
    batches: Mapping[TopicPartitionName, Sequence[Any]],
    outcomes: Mapping[TopicPartitionName, Sequence[Any]],
) -> Iterator[PartitionRefusal]:
    """The refusals among the outcomes of the batches. Raises a failure that is not a refusal: the
    outcome of the transaction is then unknown."""
    for place, answers in outcomes.items():
        failed = next((i for i, x in enumerate(answers) if isinstance(x, BaseException)), None)
        if failed is None:
            continue
        if place not in heard.refused_places() or not all(_is_broker_answer(x) for x in answers):
            raise next(x for x in answers if isinstance(x, BaseException))
        batch = batches[place][failed]
        yield heard.refusal_at(place, batch.size(), batch.record_count())


def _is_broker_answer(outcome: object) -> bool:
    """Whether a broker has answered, rather than a connection being lost or a wait cut off."""
    return not isinstance(outcome, BaseException) or (
        isinstance(outcome, kafka_errors.BrokerResponseError) and not outcome.retriable
    )


def sequence_after(start: int, batches: Sequence[Any], answers: Sequence[Any]) -> int:
    """The next sequence number that the broker expects in a partition whose numbers began at
    `start`: the one behind the last batch that it has taken."""
    taken = max((i for i, x in enumerate(answers) if not isinstance(x, BaseException)), default=-1)
    after = start + sum(int(batch.record_count()) for batch in batches[: taken + 1])
    return after if after < 1 << 31 else after - (1 << 32)


async def read_size_limit(client: Any, topic: str) -> int:
    """The most bytes that a record batch of the topic may have; 0 if it cannot be read."""
    keys = ["max.message.bytes", "segment.bytes"]
    request = DescribeConfigsRequest([(_TOPIC, topic, keys)])
    try:
        async with asyncio.timeout(_LOOK_S):
            response = await client.send(client.get_random_node(), request)
        [(code, _, _, _, entries)] = response.resources
        return 0 if code else min(int(value) for _, value, *_ in entries)
    except (kafka_errors.KafkaError, OSError, TimeoutError, ValueError):
        return 0
