"""A stage turns a batch of records into outputs; node, router and geo differ only in it.

It is synchronous, runs off the event loop before the transaction begins, and may run again on the
same records (PROTOCOL 3.1). Its outputs go to an Outbox, which checks their size before anything is
sent (PROTOCOL 3.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from agents.base.errors import KafkaError
from agents.core.lanes.records import DETAIL, DIED, OURS, REASON, Headers, Reason
from agents.core.model.topology import (
    TOPIC_CLEAN,
    TOPIC_DEAD,
    TOPIC_LANES,
    TOPIC_RAW,
    TOPIC_UNPLACED,
    WorkerKind,
)
from agents.kafka.batches import NewRecord
from agents.kafka.foreign import has_bad_name
from agents.kafka.topics import MAX_DEAD_BYTES
from agents.worker.limits import Limit

Inputs = Sequence[Any]
"""Records of one partition, in order, with offset, timestamp, key, value and headers (Any: aiokafka
has no types)."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Kafka's names of the topics and consumer groups (PROTOCOL 1). Only tests, which share a
    broker, use others."""

    raw: str = TOPIC_RAW
    lanes: str = TOPIC_LANES
    clean: str = TOPIC_CLEAN
    unplaced: str = TOPIC_UNPLACED
    dead: str = TOPIC_DEAD
    node_group: str = WorkerKind.NODE.group
    router_group: str = WorkerKind.ROUTER.group
    geo_group: str = WorkerKind.GEO.group


@dataclass(slots=True)
class Tally:
    """The outcome of one partition's input records: `out` yielded at least one output, `filtered`
    none, `dead` a dead letter. `raw_ms`: when a sample of them was appended to raw (epoch ms).
    `arrivals`: records by output lane (routers). `fault`: why the partition must stop; nothing of
    this part may then be sent. `later`: the part takes long and must be worked aside; its outcome
    is not known yet. `upto`: the offset of the first record that was not taken, which is read
    again; None: all were taken. `waits`: why even the first record was not; it is retried later."""

    out: int = 0
    filtered: int = 0
    dead: int = 0
    raw_ms: list[int] = field(default_factory=list)
    arrivals: Counter[int] = field(default_factory=Counter)
    fault: str = ""
    later: Later | None = None
    upto: int | None = None
    waits: str = ""


class Later(Protocol):
    """One partition's records that take long. `run` is called once, in a thread; the other methods
    may be called in any thread."""

    def run(self, out: Outbox) -> Tally | None:
        """Do the rest of the work; None if it was cancelled."""

    def release_resources(self) -> None:
        """Release costly resources, since `run` is called only later (it may block)."""

    def cancel(self) -> None:
        """Stop the work: the outcome is no longer wanted (it may block)."""

    def describe_trouble(self) -> str:
        """What people must know of it; empty if it is only slow."""


class Stage(Protocol):
    """What the engine needs from a node, a router or a geo worker."""

    @property
    def topic(self) -> str:
        """The input topic with its cluster: `main/events.lanes`."""

    @property
    def outputs(self) -> Sequence[str]:
        """Kafka's names of the topics that it writes."""

    @property
    def group(self) -> str:
        """The consumer group whose offsets are committed."""

    @property
    def code(self) -> str:
        """The user's code that does the work: MODULE:FUNCTION@VERSION; empty if there is none."""

    @property
    def lost(self) -> int:
        """How many calls were lost with their process, which ended or took too long."""

    @property
    def pids(self) -> Sequence[int]:
        """The other processes that do the work."""

    def process_batch(self, got: Mapping[int, Inputs], out: Outbox) -> list[tuple[int, Tally]]:
        """Turn records, by partition, into outputs. Nothing is added to `out` for a partition whose
        tally has `fault` or `later`."""

    def forget_partition(self, n: int) -> None:
        """Discard what is remembered of partition `n`: it starts again."""


SAMPLES = 32


def sample_records(records: Inputs) -> Inputs:
    """Up to 32 of the records, evenly spread: enough for the latencies."""
    return records[:: len(records) // SAMPLES + 1]


# The outbox

_RECORD_OVERHEAD = 64
_DETAIL_CHARS = 200
_DEAD_BYTES = MAX_DEAD_BYTES - 4096
_UNLIMITED: Mapping[str, Limit] = {}
_NO_BATCH: tuple[Any, set[int]] = (None, set())


def record_size(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """An upper bound of a record's serialized size in bytes."""
    size = _RECORD_OVERHEAD + (len(key) if key else 0) + (len(value) if value else 0)
    for name, content in headers:
        size += len(name) + (len(content) if content else 0) + 10
    return size


class Outbox:
    """The outputs of a batch, as Kafka record batches by (topic, partition).

    `new_batch` makes an empty Kafka batch (LeasedProducer.new_batch). `now_ms`: the records' time,
    which the topics replace by their own. `limits`: of topics that are known to take less than we
    send. `of`: the input partition whose outputs are added; the caller sets it. `writers`: the
    input partitions that have written to each (topic, partition). `stuck`: input partitions whose
    outputs are incomplete, since not even a dead letter is taken, with the reason."""

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

    def has_limit(self, topic: str) -> bool:
        return topic in self._limits

    def explain_refusal(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers
    ) -> str:
        """Why the topic would refuse this record; empty if it takes it."""
        limit = self._limits.get(topic)
        if limit is None or record_size(key, value, headers) <= limit.record:
            return ""
        alone = self._new_batch(any_names=has_bad_name(headers))
        alone.append(timestamp=self._now_ms, key=key, value=value, headers=headers)
        if (size := alone.size()) <= limit.record:
            return ""
        return f"{size:,} bytes for {topic}, which takes {limit.record:,} (max.message.bytes)"

    def add_record(
        self, topic: str, n: int, key: bytes | None, value: bytes | None, headers: Headers
    ) -> None:
        """Add a record for partition `n` of `topic`, behind those already there."""
        to = (topic, n)
        batch, writers = self._open.get(to, _NO_BATCH)
        limit = self._limits.get(topic) if self._limits else None
        if (
            batch is not None
            and (limit is None or batch.size() + record_size(key, value, headers) <= limit.batch)
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

    def add_records(self, topic: str, n: int, records: Sequence[NewRecord]) -> None:
        """As `add_record` for each, but faster. No header may have a BadName."""
        while records:
            batch, writers = self._open.get((topic, n), _NO_BATCH)
            if batch is not None and topic not in self._limits:
                taken = batch.append_records(self._now_ms, records)
                if taken:
                    writers.add(self.of)
                records = records[taken:]
            for key, value, headers in records[:1]:  # opens a batch
                self.add_record(topic, n, key, value, headers)
            records = records[1:]

    def add_dead_letter(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        reason: Reason,
        detail: str,
        topic: str,
    ) -> None:
        """Add a dead letter: the input unchanged, with its headers and the reason. If the topic
        would refuse it as too large, leave out the value and the sender's headers."""
        kept = [h for h in headers if h[0] not in (REASON, DETAIL)]
        letter = [*kept, *_reason_headers(reason, detail)]
        large = record_size(key, value, headers)
        if large > _DEAD_BYTES or self.explain_refusal(
            topic, key, value, letter
        ):  # the first can happen since compressed input may be larger than the topic's limit
            detail = f"left out here, {large:,} bytes being more than {topic} takes: {detail}"
            key, value = key if key and len(key) <= _DETAIL_CHARS else None, None
            kept = [h for h in kept if h[0] in OURS and h[0] != DIED]
            letter = [*kept, *_reason_headers(reason, detail)]
            if why := self.explain_refusal(topic, key, value, letter):
                self.stuck[self.of] = f"not even a bare dead letter is taken: {why}"
                return
        if has_bad_name(kept):
            self._open.pop((topic, 0), None)
        self.add_record(topic, 0, key, value, letter)


def _reason_headers(reason: Reason, detail: str) -> list[tuple[str, bytes | None]]:
    text = detail[:_DETAIL_CHARS].encode("utf-8", "replace")
    return [(REASON, reason.value.encode()), (DETAIL, text)]
