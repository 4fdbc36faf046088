"""Follows the topic `placement`, as any reader may: which worker owns which lane, how often lanes
moved and leases were fenced, and why."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError as AnyKafkaError

from agents import settings
from agents.base import log
from agents.base.errors import KafkaError
from agents.core.model.placement import (
    LEADER_KEY,
    TUNING_KEY,
    Leader,
    Lease,
    Placed,
    State,
    decode_leader,
    decode_lease,
    decode_placed,
    intent_from_key,
    worker_from_lease_key,
)
from agents.core.model.topology import TOPIC_PLACEMENT, Partition, WorkerKind, short_name
from agents.kafka.connection import make_committed_reader, stop_client, to_geolane_error

ACTS = 200
_log = log.get_logger("embedded.follower")


class Follower:
    """`start` reads what is already written; `run` follows until cancelled. `acts`: (epoch seconds,
    text), the newest last.

    A move is a lane that comes to another worker than before. A fence is a lease that ended before
    its worker had released everything. `rewound`: by how many offsets each lane was rewound."""

    def __init__(self, kafka: settings.Kafka) -> None:
        self.placed: dict[Partition, Placed] = {}
        self.leases: dict[str, Lease] = {}
        self.moves = 0
        self.fences = 0
        self.leader_epoch = 0
        self.rewound: Counter[int] = Counter()
        self.acts: deque[tuple[float, str]] = deque(maxlen=ACTS)
        self._last_owner: dict[Partition, str] = {}
        self._kafka = kafka
        self._consumer: Any = None  # aiokafka has no types

    async def start(self) -> None:
        """Raises KafkaUnavailable, KafkaError."""
        self._consumer = make_committed_reader(self._kafka)
        partition = TopicPartition(TOPIC_PLACEMENT, 0)
        try:
            async with asyncio.timeout(30):
                await self._consumer.start()
                self._consumer.assign([partition])
                await self._consumer.seek_to_beginning(partition)
                end = (await self._consumer.end_offsets([partition]))[partition]
                while await self._consumer.position(partition) < end:
                    self._apply_records(await self._consumer.getmany(timeout_ms=100))
        except (AnyKafkaError, OSError, TimeoutError) as e:
            raise to_geolane_error(e, "read the topic placement") from e
        self.moves = self.fences = 0
        self.rewound.clear()
        self.acts.clear()

    async def stop(self) -> None:
        if self._consumer is not None:
            await stop_client(self._consumer.stop())

    async def run(self) -> None:
        while True:
            self._apply_records(await self._consumer.getmany(timeout_ms=200))

    def lanes_of(self, worker: str) -> list[Partition]:
        """The lanes that `placement` gives to this worker (its account's name), in order."""
        return sorted(
            p
            for p, r in self.placed.items()
            if r.worker == worker and WorkerKind.NODE.works(p) and r.state is not State.ORPHAN
        )

    def _apply_records(self, batches: dict[TopicPartition, list[Any]]) -> None:
        said: Counter[tuple[str, str]] = Counter()
        lanes: dict[tuple[str, str], list[int]] = {}
        for record in (r for records in batches.values() for r in records):
            key = (record.key or b"").decode("utf-8", "backslashreplace")
            if record.value is None or key == TUNING_KEY or intent_from_key(key) is not None:
                continue
            try:
                if key == LEADER_KEY:
                    self._apply_leader(decode_leader(record.value))
                    continue
                if (worker := worker_from_lease_key(key)) is not None:
                    self._apply_lease(worker, decode_lease(record.value))
                    continue
                part, placed = Partition.of_key(key), decode_placed(record.value)
            except (KafkaError, ValueError) as e:
                _log.warning("placement_not_understood", key=key, error=str(e))
                continue
            if text := self._apply_placement(part, placed):
                said[text, placed.why] += 1
                lanes.setdefault((text, placed.why), []).append(part.n)
        for (text, why), count in said.items():
            numbers = ", ".join(map(str, sorted(lanes[text, why])[:8])) + (
                " ..." if count > 8 else ""
            )
            self.acts.append((time.time(), f"{text.format(n=numbers)}{f': {why}' if why else ''}"))

    def _apply_leader(self, leader: Leader) -> None:
        if leader.leader_epoch > self.leader_epoch:
            self.leader_epoch = leader.leader_epoch
            self.acts.append(
                (time.time(), f"a coordinator leads, leader epoch {leader.leader_epoch}")
            )

    def _apply_lease(self, worker: str, lease: Lease) -> None:
        before = self.leases.get(worker)
        self.leases[worker] = lease
        if before is None or before.fenced:
            if not lease.fenced:
                self.acts.append((time.time(), f"{short_name(worker)} has a lease"))
            return
        if lease.fenced or lease.boot != before.boot:
            # A released partition names no worker; one that was taken by a fence still names its
            # last owner.
            self.fences += any(placed.worker == worker for placed in self.placed.values())
            self.acts.append(
                (
                    time.time(),
                    f"{short_name(worker)} is fenced"
                    + ("" if lease.fenced else ", its new process has a lease"),
                )
            )

    def _apply_placement(self, part: Partition, placed: Placed) -> str:
        """Remember the record. Returns what happened, in words with {n} for the numbers of
        partitions."""
        before = self.placed.get(part)
        self.placed[part] = placed
        what = f"{part.unit} {{n}}"
        if before is not None and placed.offset < before.offset and WorkerKind.NODE.works(part):
            self.rewound[part.n] += before.offset - placed.offset
            return f"{what} rewound"
        if before is not None and (before.state, before.worker, before.epoch) == (
            placed.state,
            placed.worker,
            placed.epoch,
        ):
            return ""
        if placed.state is State.ORPHAN:
            return f"{what} taken from {short_name(placed.worker)}" if placed.worker else ""
        if placed.state is State.RELEASING:
            return f"{what} asked back from {short_name(placed.worker)}"
        last = self._last_owner.get(part, "")
        self._last_owner[part] = placed.worker
        if last and last != placed.worker:
            self.moves += 1
            return f"{what} from {short_name(last)} to {short_name(placed.worker)}"
        return f"{what} to {short_name(placed.worker)}"
