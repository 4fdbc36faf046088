"""Checks of the topics that the fleet works, by what Kafka says of them every few seconds
(agents/kafka/topic_watch.py).

New raw partitions are found, and these problems are reported: offsets that their log does not have,
offsets that went back, transactions that stay open, topics of the wrong size. A missing offset must
show in two readings in a row, because offsets move on while they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agents.core.fleet.fleet import Fleet
from agents.core.model.placement import State
from agents.core.model.topology import (
    MAIN,
    OPTIONAL_TOPICS,
    TOPIC_CLEAN,
    TOPIC_DEAD,
    TOPIC_LANES,
    TOPIC_RAW,
    TOPIC_UNPLACED,
    Partition,
    WorkerKind,
    kind_of,
    short_name,
)

TOPICS = (
    *(TOPIC_RAW, TOPIC_LANES, TOPIC_CLEAN, TOPIC_UNPLACED, TOPIC_DEAD),
    *OPTIONAL_TOPICS,
)
OPEN_S = 15.0
"""The broker ends a worker's transaction within 10 s (coordinator.transaction_timeout_ms) and a
little more."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Offsets of one log: the first that it has, the last stable one (a read-committed reader gets
    no further), and the end."""

    begin: int
    stable: int
    end: int


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """The producer of a partition's open transaction, as the partition's leader knows it
    (DescribeProducers)."""

    producer_id: int
    producer_epoch: int


@dataclass(frozen=True, slots=True)
class StreamsLooked:
    """One reading. `counts`: partitions by topic (0: there is no such topic; absent: not known).
    `extents`, `committed` (None: nothing is): for the existing partitions that workers work.
    `open`: the first open transaction of a partition whose last stable offset stands still, if the
    broker told it. The committed offsets were read after the logs' begins and before their ends.
    `leaders`: the broker that leads each partition that has a leader; `racks`: by broker that is
    there, empty if it names none."""

    counts: Mapping[str, int]
    extents: Mapping[Partition, Extent]
    committed: Mapping[Partition, int | None]
    open: Mapping[Partition, OpenTransaction] = field(default_factory=dict)
    leaders: Mapping[Partition, int] = field(default_factory=dict)
    racks: Mapping[int, str] = field(default_factory=dict)


def why_offset_unusable(begin: int, end: int, committed: int | None, written: int) -> str:
    """Why no worker can start at the partition's offset, for people; empty if one can. `written`:
    the offset in its record."""
    if committed is None:
        if written > 0:
            return f"its committed offset is gone (the last one known is {written:,})"
        return f"it should begin at 0, but its log begins at {begin:,}" if begin > 0 else ""
    if committed < begin:
        return (
            f"its committed offset is {committed:,}, but its log begins at {begin:,} "
            "(retention, or deleted records)"
        )
    if committed > end:
        return (
            f"its committed offset is {committed:,}, but its log ends at {end:,} "
            "(the topic was recreated, or lost its end)"
        )
    if written > committed:
        return f"its record in placement says {written:,}, but {committed:,} is committed"
    return ""


@dataclass(slots=True)
class Streams:
    """The readings of this leader. `bootstrap`: Kafka's address, for commands that people are told
    to run."""

    fleet: Fleet
    bootstrap: str = "BROKER:9092"
    _odd: dict[Partition, str] = field(default_factory=dict)
    _still: dict[Partition, tuple[int, float]] = field(default_factory=dict)
    _epochs: dict[Partition, int] = field(default_factory=dict)
    _reached: dict[Partition, int] = field(default_factory=dict)

    def find_new_partitions(self, now: StreamsLooked) -> list[Partition]:
        """The partitions of events.raw that are new, and those of events.unplaced if the fleet has
        geo workers."""
        grow = (WorkerKind.ROUTER, WorkerKind.GEO)
        every = (
            kind.partition(n)
            for kind in self.fleet.inventory.kinds_in_use()
            if kind in grow
            for n in range(now.counts.get(kind.kafka_topic, 0))
        )
        return [p for p in every if p not in self.fleet.partitions]

    def find_lost_offsets(self, now: StreamsLooked) -> dict[str, str]:
        """The partitions whose offset is not in their log, by key, each with a text for people."""
        odd: dict[Partition, str] = {}
        for p, extent in now.extents.items():
            placed = self.fleet.partitions.get(p)
            # While a rewind holds it or a write is under way, its offsets are about to change.
            if placed is None or p in self.fleet.held or self.fleet.writing[p]:
                continue
            committed = now.committed.get(p)
            begin, end = extent.begin, extent.end
            if kind_of(p).tasks:  # its committed offset is a count, not one of its log
                begin, end = 0, committed or 0
                if p not in now.committed:
                    continue
            if why := why_offset_unusable(
                begin,
                end,
                committed,
                self.fleet.last_worked_offset(p) if committed is None else placed.offset,
            ):
                odd[p] = why
            elif committed is not None:
                self.fleet.committed[p] = committed
        stand = {p: why for p, why in odd.items() if self._odd.get(p) == why}
        self._odd = odd
        return {
            p.key: f"{p.label} cannot be processed: {why}. reset {p.label.removeprefix('lane ')} "
            "fixes it, and first says what that loses or repeats."
            for p, why in stand.items()
        }

    def find_offsets_gone_back(self, now: StreamsLooked) -> dict[str, str]:
        """The owned partitions whose committed offset is lower than it was, by key, each with a
        text for people. An owner only moves it forward, and a rewind is done while the partition
        has no owner.

        Offsets are compared only if the partition had the same epoch at the reading before: an
        offset that was read before a rewind may arrive after it."""
        placed, before = self.fleet.partitions, self._epochs
        self._epochs = {p: s.epoch for p, s in placed.items() if s.state is not State.ORPHAN}
        told: dict[str, str] = {}
        for p, committed in now.committed.items():
            if committed is None or self._epochs.get(p) is None or before.get(p) != self._epochs[p]:
                self._reached.pop(p, None)
                continue
            group = kind_of(p).group
            reached = self._reached[p] = max(committed, self._reached.get(p, committed))
            if committed < reached:
                told[p.key] = (
                    f"{p.label}: its committed offset went back from {reached:,} to {committed:,} "
                    f"while {short_name(placed[p].worker)} owns it; its next owner would repeat "
                    f"events from there. Another client commits for group {group}: see who "
                    f"may (kafka-acls.sh --list --group {group})."
                )
        return told

    def find_open_transactions(self, now: StreamsLooked, at_s: float) -> dict[str, str]:
        """The partitions whose last stable offset has stood still below the end for OPEN_S, by key,
        each with a text for people."""
        before, self._still = self._still, {}
        told: dict[str, str] = {}
        for p, extent in now.extents.items():
            if extent.stable >= extent.end:
                continue
            was = before.get(p)
            since_s = was[1] if was is not None and was[0] == extent.stable else at_s
            self._still[p] = (extent.stable, since_s)
            if at_s - since_s >= OPEN_S:
                told[p.key] = self._describe_transaction(p, extent, now.open.get(p), at_s - since_s)
        return told

    def _describe_transaction(
        self, p: Partition, extent: Extent, whose: OpenTransaction | None, for_s: float
    ) -> str:
        who = (
            f" of producer {whose.producer_id} (epoch {whose.producer_epoch})"
            if whose is not None
            else ""
        )
        return (
            f"{p.kafka_topic} {p.n}: a transaction{who} has been open for {for_s:.0f} s; up to "
            f"{extent.end - extent.stable:,} records from offset {extent.stable:,} on wait for its "
            "end. End it at its source, "
            f"or: geolane abort-transaction {p.kafka_topic} {p.n} {extent.stable}"
        )

    def find_wrong_topics(self, now: StreamsLooked) -> dict[str, str]:
        """The topics that are missing or have the wrong number of partitions, by key, each with a
        text for people."""
        return dict(self._check_topic_sizes(now))

    def _check_topic_sizes(self, now: StreamsLooked) -> Iterator[tuple[str, str]]:
        lanes = len(self.fleet.partitions_of(WorkerKind.NODE))
        for topic in TOPICS:
            if (count := now.counts.get(topic)) is None or (
                topic in OPTIONAL_TOPICS
                and not self.fleet.inventory.workers_of(OPTIONAL_TOPICS[topic])
            ):
                continue
            key = f"{MAIN}/{topic}"
            if count == 0:
                yield key, f"There is no topic {topic}: geolane provision makes it again."
            elif key == WorkerKind.NODE.topic and count > lanes:
                yield (
                    key,
                    (
                        f"{topic} has {count} partitions, the lane map has {lanes} lanes: nothing "
                        f"is sent to lanes {lanes} to {count - 1}, and no node owns them. Build a "
                        f"lane map for {count} (geolane lanes build) and set coordinator.lanes."
                    ),
                )
            elif key == WorkerKind.ROUTER.topic and count < (
                raw := len(self.fleet.partitions_of(WorkerKind.ROUTER))
            ):
                yield (
                    key,
                    f"{topic} has {count} partitions, {raw} before: it was recreated with fewer.",
                )
            elif topic in (TOPIC_LANES, TOPIC_CLEAN) and count < lanes:
                yield (
                    key,
                    (
                        f"{topic} has {count} partitions, but there are {lanes} lanes: lanes "
                        f"{count} to {lanes - 1} have stopped. Run: kafka-topics.sh "
                        f"--bootstrap-server {self.bootstrap} --alter --topic {topic} "
                        f"--partitions {lanes}"
                    ),
                )
