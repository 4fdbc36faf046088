"""What a broker refuses of a transaction, by topic and partition: a record batch that is too large,
a topic whose settings or rights do not allow it, a partition that is not there any more.

Nothing of such a batch was written, so the transaction can be aborted and the rest be sent without
it under the same lease. aiokafka does not know every code, and asks on and on where a topic is gone
or has too few replicas: here it is refused after 3 s. Source of the codes: Kafka's Errors.java."""

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
"""A topic that is not there, or has too few replicas, may come back for this long."""
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
    32: "the time of a record is outside of what the topic takes",
    43: "its message format does not take such records",
    _POLICY: "a policy of the cluster does not allow it",
    76: "it does not take this compression",
    87: "it does not take such a record (a compacted topic takes none without a key)",
}

TopicPartitionName = tuple[str, int]
"""A topic and a partition of it."""


class NotSent(KafkaError):
    """Nothing of the transaction has left this process, or counts; it may be tried again under the
    same lease."""


@dataclass(frozen=True, slots=True)
class PartitionRefusal:
    """One partition that refused. `size`: bytes of its record batch with `records` records, and
    `limit` what it takes, where that is what was wrong; 0: not known."""

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


def not_allowed(place: TopicPartitionName) -> PartitionRefusal:
    """For a client that lacks the right to see the topic, and so has not even asked."""
    return PartitionRefusal(place, _WORDS[_NOT_ALLOWED])


class TransactionRefused(NotSent):
    """What these partitions were sent is refused, each time it is sent; all else may be sent
    without it."""

    def __init__(self, refusals: Sequence[PartitionRefusal]) -> None:
        more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
        super().__init__(f"{refusals[0]}{more}")
        self.refusals = tuple(refusals)


class BrokerRefusals:
    """What brokers have refused since the transaction began, as their answers pass by."""

    def __init__(self) -> None:
        self._said: dict[TopicPartitionName, int] = {}
        self._since: dict[TopicPartitionName, float] = {}

    def clear(self) -> None:
        self._said.clear()
        self._since.clear()

    def take(self, request: Any, response: Any) -> None:
        """Any: aiokafka has no types. Changes a code that aiokafka would ask again for without an
        end."""
        if isinstance(request, ProduceRequest) and getattr(response, "topics", None):
            response.topics = [
                (
                    topic,
                    [(n, self._produced(topic, n, code), *rest) for n, code, *rest in partitions],
                )
                for topic, partitions in response.topics
            ]
        elif isinstance(request, AddPartitionsToTxnRequest):
            response.errors = [
                (topic, [(n, self._added(topic, n, code)) for n, code in partitions])
                for topic, partitions in response.errors
            ]

    def _produced(self, topic: str, n: int, code: int) -> int:
        if not code:
            self._since.pop((topic, n), None)
        return _POLICY if self._note(topic, n, code) and code in _MAY_COME_BACK else code

    def _added(self, topic: str, n: int, code: int) -> int:
        return _NOT_ALLOWED if self._note(topic, n, code) and code in _MAY_COME_BACK else code

    def _note(self, topic: str, n: int, code: int) -> bool:
        """Whether it is to be taken for an answer."""
        if code not in _WORDS:
            return False
        now = time.monotonic()
        if code in _MAY_COME_BACK and now - self._since.setdefault((topic, n), now) < PATIENCE_S:
            return False
        self._said.setdefault((topic, n), code)
        return True

    def places(self) -> set[TopicPartitionName]:
        return set(self._said)

    def refusal(
        self, place: TopicPartitionName, size: int = 0, records: int = 0
    ) -> PartitionRefusal:
        code = self._said[place]
        return PartitionRefusal(place, _WORDS[code], code in _TOO_LARGE, size, records)


def failures(
    heard: BrokerRefusals,
    batches: Mapping[TopicPartitionName, Sequence[Any]],
    outcomes: Mapping[TopicPartitionName, Sequence[Any]],
) -> Iterator[PartitionRefusal]:
    """The refusals among what became of each batch. Raises what is no refusal: then the outcome of
    the transaction is for others to find out."""
    for place, answers in outcomes.items():
        failed = next((i for i, x in enumerate(answers) if isinstance(x, BaseException)), None)
        if failed is None:
            continue
        if place not in heard.places() or not all(_is_answer(x) for x in answers):
            raise next(x for x in answers if isinstance(x, BaseException))
        batch = batches[place][failed]
        yield heard.refusal(place, batch.size(), batch.record_count())


def _is_answer(outcome: object) -> bool:
    """Not a connection that was lost, or a wait that was cut off."""
    return not isinstance(outcome, BaseException) or (
        isinstance(outcome, kafka_errors.BrokerResponseError) and not outcome.retriable
    )


def sequence_after(start: int, batches: Sequence[Any], answers: Sequence[Any]) -> int:
    """The sequence number that a broker wants next in a partition whose numbers began at `start`:
    behind the last batch that it has taken."""
    taken = max((i for i, x in enumerate(answers) if not isinstance(x, BaseException)), default=-1)
    after = start + sum(int(batch.record_count()) for batch in batches[: taken + 1])
    return after if after < 1 << 31 else after - (1 << 32)


async def limit_of(client: Any, topic: str) -> int:
    """The bytes that a record batch of the topic may have; 0 where this account may not know."""
    keys = ["max.message.bytes", "segment.bytes"]
    request = DescribeConfigsRequest([(_TOPIC, topic, keys)])
    try:
        async with asyncio.timeout(_LOOK_S):
            response = await client.send(client.get_random_node(), request)
        [(code, _, _, _, entries)] = response.resources
        return 0 if code else min(int(value) for _, value, *_ in entries)
    except (kafka_errors.KafkaError, OSError, TimeoutError, ValueError):
        return 0
