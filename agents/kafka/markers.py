"""Writes the markers that a killed broker has forgotten, so that readers see each transaction as it
was decided.

A broker answers EndTxn when the transaction is decided, and writes the markers afterwards. A broker
that is killed in between can forget them (Kafka 4.3.1, broker and controller in one: `Couldn't find
leader endpoint for partitions ... likely deleted already and hence can be skipped`). Kafka then
counts the transaction as ended, yet its records and its offset stay undecided. The markers of the
same producer id's next transaction decide them, in whichever way that one ends. Its epoch may be
later, but another producer id does not count. So an empty transaction over the same partitions,
ended in the same way, repairs it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
)

from agents.kafka.connection import Link, raise_for_code
from agents.kafka.topics import DescribeTopics
from agents.kafka.wire import DescribeProducers, DescribeTransactions, producers_of

OFFSETS = "__consumer_offsets"
_UNKNOWN_ID = 105
_NOT_TRIED = 55  # OPERATION_NOT_ATTEMPTED: another partition of the same request was refused
_ENDED = {"CompleteCommit": True, "CompleteAbort": False}
_ENDING = ("PrepareCommit", "PrepareAbort", "PrepareEpochFence")


@dataclass(frozen=True, slots=True)
class Reach:
    """Where the transactions of a transactional id may write: topics, and offsets of groups."""

    topics: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest transaction of a transactional id. `committed`: how it ended; None if it has not
    ended, or if there was none under this epoch."""

    producer_id: int
    epoch: int
    committed: bool | None


@dataclass(frozen=True, slots=True, order=True)
class Open:
    """A partition in which a producer has an open transaction, and the transaction's first
    offset."""

    topic: str
    n: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic} {self.n} {self.offset}"


class Markers:
    """Each call is one attempt and raises aiokafka's errors, so call it inside
    `Link.retry_until_done`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def read_newest_transaction(self, node: int, transactional_id: str) -> Newest | None:
        """The newest transaction of the id; None if Kafka does not know the id. `node`: the id's
        coordinator. Raises ConcurrentTransactions while a transaction is being ended."""
        answer = await self._send_request(node, DescribeTransactions(transactional_id))
        ((code, _, state, _, _, producer_id, epoch, *_),) = answer.transactions
        if code == _UNKNOWN_ID:
            return None
        raise_for_code(code, transactional_id)
        if state in _ENDING:
            raise kafka_errors.ConcurrentTransactions(transactional_id)
        return Newest(int(producer_id), int(epoch), _ENDED.get(state))

    async def find_open_transactions(self, producer_id: int, reach: Reach) -> list[Open]:
        """Where the producer has an open transaction. After a fence there is none, unless a broker
        has forgotten its markers."""
        by_leader, groups = await self._read_partitions(reach)
        found = []
        for leader, partitions in by_leader.items():
            answer = await self._link.send_request(leader, DescribeProducers(partitions))
            for partition in producers_of(answer):
                raise_for_code(partition.code, partition.topic)
                found += [
                    Open(partition.topic, partition.n, x.first_offset)
                    for x in partition.producers
                    if x.producer_id == producer_id and x.first_offset >= 0
                ]
        return sorted(x for x in found if x.topic != OFFSETS or x.n in groups)

    async def write_markers(
        self,
        transactional_id: str,
        lease: tuple[int, int],
        places: Collection[Open],
        groups: Collection[str],
        committed: bool,
    ) -> None:
        """Commit or abort an empty transaction over these places, under this lease. It may be
        called again. `groups`: the groups whose offsets are among the places."""
        node = await self._link.find_coordinator(CoordinationType.TRANSACTION, transactional_id)
        owner = (transactional_id, *lease)

        async def send_request(request: object) -> Any:  # Any: aiokafka has no types
            return await self._send_request(node, request)

        await add_to_transaction(
            send_request, owner, [(x.topic, x.n) for x in places if x.topic != OFFSETS], groups
        )
        await end_transaction(send_request, owner, committed)

    async def read_groups(self, places: Collection[Open], reach: Reach) -> list[str]:
        """The groups whose offsets are among the places."""
        _, groups = await self._read_partitions(reach)
        return sorted({g for x in places if x.topic == OFFSETS for g in groups[x.n]})

    async def _read_partitions(
        self, reach: Reach
    ) -> tuple[Mapping[int, dict[str, list[int]]], dict[int, list[str]]]:
        """The partitions in reach by leader and topic, and the groups by their partition of
        `__consumer_offsets`."""
        node = self._link.client.get_random_node()
        if node is None:
            raise kafka_errors.NodeNotReadyError("no broker is known")
        answer = await self._link.send_request(node, DescribeTopics([*reach.topics, OFFSETS]))
        groups: dict[int, list[str]] = defaultdict(list)
        by_leader: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for code, topic, _, partitions, _ in answer.topics:
            if kafka_errors.for_code(code) is kafka_errors.UnknownTopicOrPartitionError:
                continue
            raise_for_code(code, topic)
            if topic == OFFSETS:
                for group in reach.groups:
                    groups[_java_hash(group) % len(partitions)].append(group)
            for _, n, leader, *_ in partitions:
                if topic == OFFSETS and n not in groups:
                    continue
                if leader < 0:
                    raise kafka_errors.LeaderNotAvailableError(f"{topic}/{n}")
                by_leader[leader][topic].append(n)
        return by_leader, groups

    async def _send_request(self, node: int, request: object) -> Any:  # Any: aiokafka has no types
        return await self._link.send_request(node, request, ConnectionGroup.COORDINATION)


async def add_to_transaction(
    ask: Callable[[Any], Awaitable[Any]],  # Any: aiokafka has no types
    owner: tuple[str, int, int],
    partitions: Collection[tuple[str, int]],
    groups: Collection[str],
) -> None:
    """Add partitions and the offsets of groups to the transaction of `owner` (transactional id,
    producer id, epoch)."""
    topics: dict[str, list[int]] = defaultdict(list)
    for topic, n in sorted(partitions):
        topics[topic].append(n)
    if topics:
        answer = await ask(AddPartitionsToTxnRequest(*owner, list(topics.items())))
        refused = [(code, topic) for topic, ns in answer.errors for _, code in ns if code]
        # The cause before the partitions that were not tried because of it.
        for code, topic in sorted(refused, key=lambda x: x[0] == _NOT_TRIED):
            raise_for_code(code, topic)
    for group in sorted(groups):
        raise_for_code((await ask(AddOffsetsToTxnRequest(*owner, group))).error_code, group)


async def end_transaction(
    ask: Callable[[Any], Awaitable[Any]], owner: tuple[str, int, int], committed: bool
) -> None:
    """Commit or abort the open transaction of `owner`."""
    raise_for_code((await ask(EndTxnRequest(*owner, committed))).error_code, owner[0])


def _java_hash(text: str) -> int:
    """Java's String.hashCode without its sign, as Kafka computes it (Utils.abs)."""
    code = 0
    for character in text:
        code = (31 * code + ord(character)) & 0xFFFFFFFF
    return code if code < 0x80000000 else (0x100000000 - code) & 0x7FFFFFFF
