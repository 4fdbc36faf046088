"""The fleet, seen from outside: what Kafka holds about it, and which workers answer over XMPP.

`watch_placement` reads the topic `placement` with its times: its content, and whether the leader
writes while we watch."""

from __future__ import annotations

import asyncio
import importlib.metadata
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError as AnyKafkaError

from agents import settings
from agents.admin.doctor.check import Check
from agents.admin.doctor.judge.fleet import (
    judge_lane_map,
    judge_leadership,
    judge_offsets,
    judge_owners,
    judge_progress,
)
from agents.admin.doctor.judge.host import judge_clock
from agents.admin.doctor.judge.roles import Role, Whom
from agents.admin.doctor.judge.verdict import NotLookedAt, Verdict, merge_verdicts, ok
from agents.admin.doctor.judge.xmpp import judge_leader, judge_worker_versions, judge_workers
from agents.admin.doctor.kafka import KafkaCheck
from agents.admin.doctor.session import open_session
from agents.admin.doctor.xmpp import ping_all_jids, ping_jid
from agents.base.errors import KafkaError, KafkaUnavailable, NoAnswer
from agents.core.model.inventory import Inventory
from agents.core.model.messages import Health
from agents.core.model.placement import (
    LEADER_KEY,
    PlacementTable,
    is_valid_record,
    table_from_records,
)
from agents.core.model.topology import (
    KAFKA_STREAMS,
    KINDS,
    TOPIC_LANEMAP,
    TOPIC_PLACEMENT,
    Partition,
    WorkerKind,
)
from agents.kafka import compacted
from agents.kafka.connection import make_committed_reader, to_geolane_error
from agents.kafka.offsets import Offsets
from agents.settings import Settings
from plugins import health
from plugins.values import BadStanza

# The topic `placement`.

WATCH_S = 2.5  # the leader writes each second


@dataclass(frozen=True, slots=True)
class Watched:
    """`table`: the newest value of each key. `leader_ms`: when the broker appended the newest
    `leader` record (epoch ms, by its clock); None if there is none. `ahead_s`: how far our clock
    was ahead of that time when a new record arrived while we watched; None if none arrived."""

    table: dict[str, bytes]
    leader_ms: int | None
    ahead_s: float | None


async def watch_placement(
    kafka: settings.Kafka, now: Callable[[], float], watch_s: float = WATCH_S
) -> Watched:
    """Read the topic to its end, then wait up to `watch_s` for the leader's next record.

    Raises KafkaUnavailable, KafkaError."""
    consumer = make_committed_reader(kafka, request_timeout_ms=5000, fetch_max_wait_ms=50)
    partition = TopicPartition(TOPIC_PLACEMENT, 0)
    table: dict[str, bytes] = {}
    leader_ms: int | None = None
    try:
        await consumer.start()
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        # first all that is written, then only what comes
        while await consumer.position(partition) < end:
            for record in await _poll_records(consumer):
                leader_ms = _apply_record(table, record, leader_ms)
        until_s = asyncio.get_running_loop().time() + watch_s
        while asyncio.get_running_loop().time() < until_s:
            batch = await _poll_records(consumer)
            came_s = now()
            for record in batch:
                leader_ms = _apply_record(table, record, leader_ms)
                if record.key == LEADER_KEY.encode() and record.value is not None:
                    return Watched(table, leader_ms, came_s - record.timestamp / 1000)
    except (AnyKafkaError, OSError) as e:
        raise to_geolane_error(e, f"read the topic {TOPIC_PLACEMENT}") from e
    finally:
        await consumer.stop()
    return Watched(table, leader_ms, None)


async def _poll_records(consumer: Any) -> list[Any]:
    return [r for records in (await consumer.getmany(timeout_ms=100)).values() for r in records]


def _apply_record(table: dict[str, bytes], record: Any, leader_ms: int | None) -> int | None:
    if not is_valid_record(record.key or b"", record.value):  # a leader skips it, too
        return leader_ms
    key = record.key.decode()
    if record.value is None:
        table.pop(key, None)
    else:
        table[key] = record.value
    return int(record.timestamp) if key == LEADER_KEY else leader_ms


GROUP = "fleet"
PROGRESS_S = 1.5
ANSWER_S = 2.0


class FleetCheck:
    """`now`: this machine's clock, in epoch seconds. `watch_s`: how long to wait for the leader's
    next record."""

    def __init__(
        self,
        settings: Settings,
        who: Whom,
        inventory: Inventory | None,
        kafka: KafkaCheck,
        now: Callable[[], float] = time.time,
        watch_s: float = WATCH_S,
    ) -> None:
        self._watch_s = watch_s
        self._settings, self._who, self._now, self._kafka = settings, who, now, kafka
        self._workers = list(inventory.workers) if inventory else None
        self._watched: Watched | None = None
        self._written = PlacementTable()

    def list_checks(self) -> list[Check]:
        def check(
            name: str, look: Callable[[], Awaitable[Verdict]], *needs: str, bound_s: float = 5.0
        ) -> Check:
            return Check(GROUP, name, look, needs, bound_s=bound_s)

        return [
            check("leader", self._check_leader, "xmpp login"),
            check("lane map", self._check_lane_map, "kafka listeners"),
            check("placement", self._check_placement, "kafka listeners", bound_s=8.0),
            check("leadership", self._check_leadership, "fleet placement"),
            check("clock", self._check_clock, "fleet placement"),
            check("owners", self._check_owners, "fleet placement"),
            check("offsets", self._check_offsets, "fleet placement"),
            check("progress", self._check_progress, "fleet placement", bound_s=8.0),
            check("workers", self._check_workers, "xmpp login", bound_s=8.0),
            check("workers' versions", self._check_versions, "xmpp login", bound_s=8.0),
        ]

    # By XMPP.

    async def _check_leader(self) -> Verdict:
        jid = f"{self._settings.xmpp.coordinator}/leader"
        async with open_session(self._settings.xmpp, self._bare_jid) as session:
            try:
                await ping_jid(session, jid, ANSWER_S)
            except NoAnswer as e:
                return judge_leader(str(e).removeprefix(f"{jid}: "), jid)
        return judge_leader("", jid)

    @property
    def _bare_jid(self) -> str:
        xmpp = self._settings.xmpp
        return f"{self._who.account}@{xmpp.fleet if self._who.agent else xmpp.domain}"

    @property
    def _known_workers(self) -> list[str]:
        if self._workers is None:
            raise NotLookedAt("no inventory here names them")
        return self._workers

    async def _check_workers(self) -> Verdict:
        jids = {
            f"{w}@{self._settings.xmpp.fleet}/{health.WORKER_RESOURCE}": w
            for w in self._known_workers
        }
        async with open_session(self._settings.xmpp, self._bare_jid) as session:
            answered = await ping_all_jids(session, jids, ANSWER_S)
        return judge_workers(
            {jids[j]: ms for j, ms in answered.items()},
            [w for j, w in jids.items() if j not in answered],
        )

    async def _check_versions(self) -> Verdict:
        """Only the coordinator's account may ask for the workers' presences."""
        if self._who.role is not Role.COORDINATOR:
            raise NotLookedAt("only geolane's account sees their presences (--as geolane)")
        fleet, loop = self._settings.xmpp.fleet, asyncio.get_running_loop()
        wanted = set(self._known_workers)
        found: dict[str, str] = {}
        async with open_session(self._settings.xmpp, self._bare_jid) as session:
            for worker in wanted:
                session.send(session.stream.make_presence(ptype="probe", pto=f"{worker}@{fleet}"))
            until_s = loop.time() + ANSWER_S
            while set(found) < wanted and loop.time() < until_s and session.is_up:
                await asyncio.sleep(0.02)
                for presence in session.presences:
                    name = health.worker_from_jid(presence["from"], fleet)
                    if name is None or presence.xml.get("type"):
                        continue
                    try:
                        said = health.announcement_from_presence(presence, name)
                    except BadStanza:
                        continue
                    if said is not None and said.health is not Health.UNAVAILABLE:
                        found[name] = said.version
        return judge_worker_versions(importlib.metadata.version("geolane"), found)

    # By Kafka.

    async def _check_lane_map(self) -> Verdict:
        self._require_topic(TOPIC_LANEMAP)
        wanted = next(
            t.partitions for t in self._kafka.wanted_topics if t.name == WorkerKind.NODE.kafka_topic
        )
        return judge_lane_map(await compacted.read_newest_lane_map(self._settings.kafka), wanted)

    async def _check_placement(self) -> Verdict:
        self._require_topic(TOPIC_PLACEMENT)
        self._watched = await watch_placement(self._settings.kafka, self._now, self._watch_s)
        self._written = table_from_records(self._watched.table)
        w = self._written
        return ok(f"{len(w.placed)} partitions, {len(w.leases)} leases, {len(w.intents)} intents")

    def _require_topic(self, name: str) -> None:
        """Some brokers create a topic that a consumer asks for, so do not ask for a missing one."""
        if name not in self._kafka.cluster.topics:
            raise NotLookedAt(f"the topic {name} is missing")
        if self._kafka.is_hidden(name):
            raise NotLookedAt(f"this account may not read {name} and need not (--as geolane)")

    async def _check_leadership(self) -> Verdict:
        watched = self._watched or Watched({}, None, None)
        leader, at_ms = self._written.leader, watched.leader_ms
        age_s = None if at_ms is None else max(0.0, self._now() - at_ms / 1000)
        return judge_leadership(
            leader.leader_epoch if leader else None, age_s, watched.ahead_s is not None
        )

    async def _check_clock(self) -> Verdict:
        if self._watched is None or self._watched.ahead_s is None:
            raise NotLookedAt("no leader writes to compare with")
        return judge_clock(self._watched.ahead_s, "the brokers'")

    def _partitions_of(self, kind: WorkerKind) -> list[Partition]:
        counts = {t.name: t.partitions for t in self._kafka.wanted_topics}
        seen = self._kafka.cluster.topics.get(kind.kafka_topic)
        there = seen.partitions if seen else 0
        return [kind.partition(n) for n in range(min(there, counts.get(kind.kafka_topic, 0)))]

    async def _check_owners(self) -> Verdict:
        return judge_owners(
            self._written,
            [p for kind in self._placed_kinds for p in self._partitions_of(kind)],
            self._workers,
        )

    @property
    def _placed_kinds(self) -> list[WorkerKind]:
        """Those whose partitions the coordinator places: not routers on Kafka Streams."""
        streams = self._settings.router.engine == KAFKA_STREAMS
        return [k for k in KINDS if self._uses(k) and not (streams and k == WorkerKind.ROUTER)]

    async def _check_offsets(self) -> Verdict:
        verdicts, said = [], []
        for kind in self._groups:
            committed = {p: c and c[0] for p, c in (await self._read_committed(kind)).items()}
            verdicts.append(judge_offsets(kind, self._written, committed))
            said.append(verdicts[-1].found)
        return merge_verdicts("; ".join(said), *verdicts)

    @property
    def _groups(self) -> tuple[WorkerKind, ...]:
        return tuple(kind for kind in self._who.groups or KINDS if self._uses(kind))

    def _uses(self, kind: WorkerKind) -> bool:
        """Whether the fleet has workers of this kind, as far as is known here."""
        return not kind.optional or any(
            kind.has_account(worker) for worker in (self._who.account, *(self._workers or ()))
        )

    async def _read_committed(self, kind: WorkerKind) -> dict[Partition, tuple[int, str] | None]:
        offsets = Offsets(self._settings.kafka, kind.group)
        try:
            await offsets.start()
            return await offsets.read_committed_offsets(self._partitions_of(kind))
        except KafkaUnavailable:
            raise
        except KafkaError as e:
            if self._who.role is Role.PERSON:
                raise NotLookedAt(f"this account may not read the offsets of {kind.group}") from e
            raise
        finally:
            await offsets.stop()

    async def _check_progress(self) -> Verdict:
        logs = [kind for kind in self._groups if not kind.tasks]
        parts = [p for kind in logs for p in self._partitions_of(kind)]
        reader = Offsets(self._settings.kafka, "geolane-doctor")
        try:
            await reader.start()
            before = await self._read_all_committed(logs)
            ends = await reader.read_end_offsets(parts)
        finally:
            await reader.stop()
        begun = asyncio.get_running_loop().time()
        await asyncio.sleep(PROGRESS_S)
        after = await self._read_all_committed(logs)
        return judge_progress(before, after, ends, asyncio.get_running_loop().time() - begun)

    async def _read_all_committed(self, kinds: Iterable[WorkerKind]) -> dict[Partition, int | None]:
        answers = await asyncio.gather(*(self._read_committed(kind) for kind in kinds))
        return {p: c and c[0] for answer in answers for p, c in answer.items()}
