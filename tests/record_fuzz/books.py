"""The books of a run, by source position: each record that a broker has taken comes out once, as
what it has to become, and nothing else comes out."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from agents import settings
from agents.core.model.topology import TOPIC_CLEAN, TOPIC_DEAD, TOPIC_UNPLACED, WorkerKind
from agents.kafka.connection import client_kwargs
from agents.kafka.offsets import Offsets
from agents.kafka.topics import MAX_DEAD_BYTES
from agents.worker.lane import RunningCounts
from tests.record_fuzz.cases import NOISE, Becomes

FAULTS_KEPT = 20


class Books:
    """`start`, then `run` until cancelled. `wrong`: what should not be, the first of them.
    `may_be_too_large`: topics take less than usual at times, so that any record may be a dead
    letter."""

    def __init__(self, kafka: settings.Kafka, lanes: int) -> None:
        self._kafka, self._lanes = kafka, lanes
        self.may_be_too_large = False
        self.taken = 0
        self.came: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.duplicates = 0
        self.wrong: list[str] = []
        self.open: dict[str, Becomes] = {}
        self.moved_at = time.monotonic()
        self._early: dict[str, list[tuple[str, str, str]]] = {}
        self._parts: defaultdict[str, set[str]] = defaultdict(set)
        self._done: set[str] = set()
        self._filtered = 0
        self._filtered_before = 0

    async def start(self) -> None:
        self._offsets = Offsets(self._kafka, WorkerKind.NODE.group)
        await self._offsets.start()
        self._filtered_before = await self._filtered_total()
        self._consumer: Any = AIOKafkaConsumer(  # Any: aiokafka has no types
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=MAX_DEAD_BYTES,
            fetch_max_bytes=4 * MAX_DEAD_BYTES,
            **client_kwargs(self._kafka),
        )
        await self._consumer.start()
        outputs = [TopicPartition(TOPIC_CLEAN, n) for n in range(self._lanes)]
        outputs += [TopicPartition(t, 0) for t in (TOPIC_DEAD, TOPIC_UNPLACED)]
        self._consumer.assign(outputs)
        for tp, end in (await self._consumer.end_offsets(outputs)).items():
            self._consumer.seek(tp, end)

    async def run(self) -> None:
        while True:
            for tp, records in (await self._consumer.getmany(timeout_ms=200)).items():
                self.read(tp.topic, records)
                await asyncio.sleep(0)

    async def stop(self) -> None:
        await self._consumer.stop()
        await self._offsets.stop()

    def expect(self, src: str, becomes: Becomes) -> None:
        """A broker has this record."""
        if src in self.open or src in self._done:
            raise ValueError(f"{src} was sent twice: the cases are wrong")
        self.taken += 1
        self.open[src] = becomes
        self._filtered += becomes.outputs == 0
        self.moved_at = time.monotonic()
        for topic, part, reason in self._early.pop(src, ()):
            self._came(src, topic, part, reason)

    def read(self, topic: str, records: Iterable[Any]) -> None:
        for r in records:
            headers = {name: content or b"" for name, content in r.headers}
            src, part, reason = (
                headers.get(f"geolane-{name}", b"").decode("ascii", "replace")
                for name in ("src", "part", "reason")
            )
            if src in self.open or src in self._done:
                self._came(src, topic, part, reason)
            elif not src.startswith(f"{NOISE}/"):
                self._early.setdefault(src, []).append((topic, part, reason))

    def _came(self, src: str, topic: str, part: str, reason: str) -> None:
        self.moved_at = time.monotonic()
        key = f"{topic} {part}"
        if src in self._done or key in self._parts.get(src, ()):
            self.duplicates += 1
            self.fault(f"twice: {src} in {topic} {part} {reason}")
            return
        becomes = self.open[src]
        if topic == TOPIC_CLEAN:
            count = int(part.partition("/")[2] or 1)
            self._parts[src].add(key)
            good = becomes.any_number or (bool(becomes.outputs) and count == becomes.outputs)
            whole = len(self._parts[src]) == count
        else:
            good = reason in becomes.reasons if topic == TOPIC_DEAD else becomes.unplaced
            good = good or (self.may_be_too_large and reason == "too_large")
            whole = True
        if not good:
            self.fault(f"{src} came out in {topic} {part} {reason}, it should become {becomes}")
        if whole:
            self._parts.pop(src, None)
            self._filtered -= self.open.pop(src).outputs == 0
            self._done.add(src)
            self.came[topic] += 1
            self.reasons[reason] += topic == TOPIC_DEAD

    def fault(self, text: str) -> None:
        if len(self.wrong) < FAULTS_KEPT:
            self.wrong.append(text)

    @property
    def unfinished(self) -> int:
        """Records that have not come out and have to."""
        return len(self.open) - self._filtered

    def waiting(self) -> list[str]:
        """What has not come out and has to."""
        return [src for src, becomes in self.open.items() if becomes.outputs != 0]

    async def settled(self, still_s: float) -> None:
        """Return when nothing is waited for, or when nothing has moved for so long."""
        while self.waiting() and time.monotonic() - self.moved_at < still_s:
            await asyncio.sleep(0.2)

    async def close(self) -> dict[str, object]:
        """What the run comes to. Filtered records leave nothing but a count in their lanes'
        offsets."""
        filtered = await self._filtered_total() - self._filtered_before
        waiting = self.waiting()
        expected = len(self.open) - len(waiting)
        perhaps = [src for src in waiting if self.open[src].any_number][
            : max(0, filtered - expected)
        ]
        waiting = [src for src in waiting if src not in perhaps]
        expected += len(perhaps)
        for src in waiting[:FAULTS_KEPT]:
            self.fault(f"missing: {src}, it should become {self.open[src]}")
        if filtered != expected:
            self.fault(f"{filtered} were filtered, {expected} had to be")
        for src in list(self._early)[:FAULTS_KEPT]:
            self.fault(f"from nowhere: {src!r} in {self._early[src]}")
        return {
            "in": self.taken,
            "clean": self.came[TOPIC_CLEAN],
            "filtered": filtered,
            "dead": self.came[TOPIC_DEAD],
            "unplaced": self.came[TOPIC_UNPLACED],
            "missing": len(waiting),
            "duplicates": self.duplicates,
            "reasons": dict(self.reasons.most_common()),
            "wrong": self.wrong,
        }

    async def _filtered_total(self) -> int:
        committed = await self._offsets.read_committed_offsets(
            [WorkerKind.NODE.partition(n) for n in range(self._lanes)]
        )
        return sum(
            RunningCounts.decode(entry[1]).filtered
            for entry in committed.values()
            if entry is not None
        )
