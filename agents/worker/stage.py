"""The one place where node and router differ: what becomes of a batch (DESIGN 2). A stage is
synchronous, runs off the event loop before the transaction begins, and may be run again on the same
records (PROTOCOL 3.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from agents.base.errors import KafkaError
from agents.core.lanes.records import DETAIL, DIED, OURS, REASON, Reason
from agents.core.model.topology import (
    TOPIC_CLEAN,
    TOPIC_DEAD,
    TOPIC_LANES,
    TOPIC_RAW,
    TOPIC_UNPLACED,
    WorkerKind,
)
from agents.kafka.foreign import has_bad_name
from agents.kafka.topics import MAX_DEAD_BYTES
from agents.worker.limits import Limit

Inputs = Sequence[Any]
"""aiokafka ConsumerRecords of one partition, in order (Any: aiokafka has no types)."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Kafka's names of the topics and consumer groups (PROTOCOL 1); others only where tests share a
    broker."""

    raw: str = TOPIC_RAW
    lanes: str = TOPIC_LANES
    clean: str = TOPIC_CLEAN
    unplaced: str = TOPIC_UNPLACED
    dead: str = TOPIC_DEAD
    node_group: str = WorkerKind.NODE.group
    router_group: str = WorkerKind.ROUTER.group


@dataclass(slots=True)
class Tally:
    """What became of one partition's records, by input: `out` yielded at least one output,
    `filtered` none, `dead` a dead letter. `raw_ms`: a sample of when they were appended to raw
    (epoch ms). `arrivals`: records by output lane (routers). `fault`: the partition must stop,
    nothing of this part may be sent, and why. `later`: it takes long, and is to be worked aside;
    nothing is known yet."""

    out: int = 0
    filtered: int = 0
    dead: int = 0
    raw_ms: list[int] = field(default_factory=list)
    arrivals: Counter[int] = field(default_factory=Counter)
    fault: str = ""
    later: Later | None = None


class Later(Protocol):
    """One partition's records that take long. `run` is called once, in a thread; the others from
    anywhere."""

    def run(self, out: Outbox) -> Tally | None:
        """The rest of the work; None when it was cancelled."""

    def park(self) -> None:
        """`run` comes a while later: hold nothing that costs (it may block)."""

    def cancel(self) -> None:
        """Nobody wants the outcome any more (it may block)."""

    def trouble(self) -> str:
        """What people are to be told of it; empty where it is only slow."""


class Stage(Protocol):
    """What the engine asks of a node or a router."""

    @property
    def topic(self) -> str:
        """The topic, with its cluster, whose partitions are worked: `main/events.lanes`."""

    @property
    def group(self) -> str:
        """The consumer group whose offsets are committed."""

    @property
    def code(self) -> str:
        """Whose code does the work, where that is the user's: MODULE:FUNCTION@VERSION."""

    @property
    def lost(self) -> int:
        """How many of its processes were lost: they ended, or took too long."""

    @property
    def pids(self) -> Sequence[int]:
        """Other processes that the work is done in."""

    def work(self, got: Mapping[int, Inputs], out: Outbox) -> list[tuple[int, Tally]]:
        """Turn records, by partition, into outputs. Of a partition whose tally has a fault, or says
        later, nothing was added to `out`."""

    def forget(self, n: int) -> None:
        """Partition `n` starts anew: whatever was remembered of it is void."""


SAMPLES = 32


def sample(records: Inputs) -> Inputs:
    """At most 32 of them, evenly spread: enough for the latencies."""
    return records[:: len(records) // SAMPLES + 1]


# ---- What a batch will send, as Kafka record batches by output partition: built off the event
# loop, checked before sending (PROTOCOL 3.1, 3.4).

Headers = Sequence[tuple[str, bytes | None]]

_RECORD_OVERHEAD = 64
_DETAIL_CHARS = 200
_DEAD_BYTES = MAX_DEAD_BYTES - 4096
_UNLIMITED: Mapping[str, Limit] = {}
_NO_BATCH: tuple[Any, set[int]] = (None, set())


def size_of(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """An upper bound of a record's serialised size in bytes."""
    size = _RECORD_OVERHEAD + (len(key) if key else 0) + (len(value) if value else 0)
    for name, content in headers:
        size += len(name) + (len(content) if content else 0) + 10
    return size


class Outbox:
    """`new_batch` makes an empty Kafka batch (LeasedProducer.new_batch); `now_ms` stands in the
    records (the topics' own time replaces it); `limits`: of topics that are known to take less than
    we send.

    `of`: whose outputs are added now, to be set by who adds them. `writers`: who has added to each
    place; `stuck`: whose outputs are not all here, since no topic takes even a dead letter of them,
    and why."""

    __slots__ = ("_limits", "_new_batch", "_now_ms", "_open", "batches", "of", "stuck", "writers")

    def __init__(
        self,
        new_batch: Callable[..., Any],  # Any: aiokafka has no types
        now_ms: int,
        limits: Mapping[str, Limit] = _UNLIMITED,
    ) -> None:
        self._new_batch = new_batch
        self._now_ms = now_ms
        self._limits = limits
        self._open: dict[tuple[str, int], tuple[Any, set[int]]] = {}
        self.batches: dict[tuple[str, int], list[Any]] = {}
        self.of = -1
        self.writers: dict[tuple[str, int], set[int]] = {}
        self.stuck: dict[int, str] = {}

    def limited(self, topic: str) -> bool:
        return topic in self._limits

    def refused(
        self, topic: str, key: bytes | None, value: bytes | None, headers: list[Any]
    ) -> str:
        """Why the topic will not take this record; empty if it will."""
        limit = self._limits.get(topic)
        if limit is None or size_of(key, value, headers) <= limit.record:
            return ""
        alone = self._new_batch(any_names=has_bad_name(headers))
        alone.append(timestamp=self._now_ms, key=key, value=value, headers=headers)
        if (size := alone.size()) <= limit.record:
            return ""
        return f"{size:,} bytes for {topic}, which takes {limit.record:,} (max.message.bytes)"

    def add(
        self, topic: str, n: int, key: bytes | None, value: bytes | None, headers: list[Any]
    ) -> None:
        """One more record for partition `n` of `topic`, behind those already there."""
        to = (topic, n)
        batch, writers = self._open.get(to, _NO_BATCH)
        limit = self._limits.get(topic) if self._limits else None
        if (
            batch is not None
            and (limit is None or batch.size() + size_of(key, value, headers) <= limit.batch)
            and batch.append(timestamp=self._now_ms, key=key, value=value, headers=headers)
            is not None
        ):
            writers.add(self.of)
            return
        batch = self._new_batch(any_names=has_bad_name(headers))
        if batch.append(timestamp=self._now_ms, key=key, value=value, headers=headers) is None:
            raise KafkaError(f"a record for {topic}/{n} does not fit into an empty batch")
        writers = self.writers.setdefault(to, set())
        writers.add(self.of)
        self._open[to] = batch, writers
        self.batches.setdefault(to, []).append(batch)

    def add_dead(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        reason: Reason,
        detail: str,
        topic: str,
    ) -> None:
        """A dead letter: the input byte for byte, with its headers, and why. What its topic does
        not take goes without all that was the sender's."""
        kept = [h for h in headers if h[0] not in (REASON, DETAIL)]
        letter = [*kept, *_why(reason, detail)]
        large = size_of(key, value, headers)
        if large > _DEAD_BYTES or self.refused(
            topic, key, value, letter
        ):  # the first: it came compressed
            detail = f"left out here, {large:,} bytes being more than {topic} takes: {detail}"
            key, value = key if key and len(key) <= _DETAIL_CHARS else None, None
            kept = [h for h in kept if h[0] in OURS and h[0] != DIED]
            letter = [*kept, *_why(reason, detail)]
            if why := self.refused(topic, key, value, letter):
                self.stuck[self.of] = f"not even a bare dead letter is taken: {why}"
                return
        if has_bad_name(kept):
            self._open.pop((topic, 0), None)
        self.add(topic, 0, key, value, letter)


def _why(reason: Reason, detail: str) -> list[tuple[str, bytes | None]]:
    text = detail[:_DETAIL_CHARS].encode("utf-8", "replace")
    return [(REASON, reason.value.encode()), (DETAIL, text)]
