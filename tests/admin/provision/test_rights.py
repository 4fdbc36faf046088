"""What provisioning allows at a Kafka of one's own is enough for each process, and not more."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial

import pytest
from aiokafka.client import AIOKafkaClient

from agents import settings
from agents.admin.doctor.judge.roles import Whom
from agents.base.errors import KafkaError
from agents.coordinator.queries import Rewinding
from agents.core.lanes.dead_letters import LetterQuery
from agents.core.model.messages import LeaseCommand
from agents.core.model.topology import (
    KINDS,
    TOPIC_DEAD,
    TOPIC_GEO_CONTEXT,
    TOPIC_HOTSPOT_STATE,
    TOPIC_HOTSPOTS,
    TOPIC_LANES,
    TOPIC_RAW,
    TOPIC_RISES,
    TOPIC_UNPLACED,
    Partition,
    WorkerKind,
    kind_from_account,
)
from agents.kafka import compacted, verification
from agents.kafka.connection import Link, client_kwargs
from agents.kafka.dead_letters import DeadLetters
from agents.kafka.leases import LeaseMaker
from agents.kafka.markers import OFFSETS, Markers, Open, Reach
from agents.kafka.offsets import Offsets
from agents.kafka.placement_log import PlacementLog
from agents.kafka.producer import LeasedProducer
from agents.kafka.refusals import read_size_limit
from agents.kafka.rights import (
    FLINK_JOB,
    OUTPUTS,
    REPLAYER,
    Right,
    reach_of_lease,
    rights_of,
)
from agents.kafka.topic_watch import StreamLooks
from agents.kafka.wire import CLUSTER_NAME, Operation, Resource
from agents.worker.reader import Reader
from tests.admin.provision.support import ACCOUNTS, LANES, Denying
from tests.kafka.test_paths import probing, until_reported

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def _lead(kafka: settings.Kafka) -> None:
    log = PlacementLog(kafka)
    try:
        await log.take_leadership()
        await log.write({"leader": b"1"})
    finally:
        await log.stop()


async def _lease(kafka: settings.Kafka, account: str) -> LeaseCommand:
    maker = LeaseMaker(kafka, 10_000)
    await maker.start()
    try:
        return LeaseCommand(
            1, "boot", f"geolane-{account}", *await maker.make_lease(f"geolane-{account}")
        )
    finally:
        await maker.stop()


async def _begin_job(kafka: settings.Kafka) -> None:
    """As the sink of Flink's job does, under ids that begin with the job's name."""
    maker = LeaseMaker(kafka, 10_000, lambda _: Reach((), ()))
    await maker.start()
    try:
        await maker.make_lease(f"{FLINK_JOB}-0-1")
    finally:
        await maker.stop()


async def _offsets(kafka: settings.Kafka, kind: WorkerKind) -> None:
    offsets = Offsets(kafka, kind.group)
    await offsets.start()
    try:
        await offsets.read_committed_offsets([Partition(kind.topic, 0)])
        await offsets.read_end_offsets([Partition(kind.topic, 0)])
    finally:
        await offsets.stop()


async def _read(kafka: settings.Kafka, kind: WorkerKind) -> None:
    """As a worker begins a partition: aiokafka's reader alone would wait without a word for what it
    may not read."""
    await _offsets(kafka, kind)
    reader = Reader(kafka, kind.topic)
    await reader.start()
    try:
        reader.assign_partitions({0: 0})
        soon = time.monotonic() + 0.3
        await reader.gather_records(1, soon, soon, lambda: False)
    finally:
        await reader.stop()


async def _transact(kafka: settings.Kafka, admin: settings.Kafka, account: str, topic: str) -> None:
    kind = kind_from_account(account)
    assert kind is not None
    producer = LeasedProducer(kafka, await _lease(admin, account))
    await producer.start()
    try:
        batch = producer.new_batch()
        batch.append(key=b"k", value=b"x", timestamp=None)  # a compacted topic wants a key
        await producer.send_transaction(
            {(topic, 0): [batch]}, {Partition(kind.topic, 0): (0, "")}, kind.group
        )
    finally:
        await producer.stop()
    if kind == WorkerKind.ROUTER:
        await _read_limit(kafka, topic)


async def _read_limit(kafka: settings.Kafka, topic: str) -> None:
    """As a router on Kafka Streams does."""
    client = AIOKafkaClient(**client_kwargs(kafka))
    await client.bootstrap()
    try:
        if not await read_size_limit(client, topic):
            raise KafkaError(f"lacks a right on Topic {topic}")
    finally:
        await client.close()


async def _replay(kafka: settings.Kafka) -> None:
    """Whatever went back before, too; a letter lies there."""
    letters = DeadLetters(kafka)
    await letters.find_letters(LetterQuery(), 10)
    assert await letters.replay_letters(LetterQuery(replayed=True), "ana", 0)


async def _rewind(kafka: settings.Kafka, kind: WorkerKind = WorkerKind.NODE) -> None:
    """The events that come again are counted, then record and offset are set in one transaction."""
    await _offsets(kafka, kind)
    lane, offsets = Partition(kind.topic, 0), Offsets(kafka, kind.group)
    await offsets.start()
    try:
        await Rewinding(kafka, {kind: offsets})._count_events(lane, 0, 1)
    finally:
        await offsets.stop()
    log = PlacementLog(kafka)
    try:
        await log.take_leadership()
        await log.write({"leader": b"1"}, {kind.group: {lane: (0, "")}})
    finally:
        await log.stop()


async def _raw(kafka: settings.Kafka) -> None:
    await _rewind(kafka, WorkerKind.ROUTER)
    await _replay(kafka)


async def _verifies(kafka: settings.Kafka) -> None:
    """A leader goes on without this right, and says so."""
    if any(broker.verifies is None for broker in await verification.read_brokers(kafka)):
        raise KafkaError(verification.UNREADABLE)


Step = Callable[[settings.Kafka], Awaitable[object]]


async def _mend(kafka: settings.Kafka) -> None:
    """As if markers were missing in all that workers write to."""
    link = Link(kafka, "geolane-test")
    await link.start()
    try:
        markers = Markers(link)
        for account in ACCOUNTS[1:]:
            lease, name = await _lease(kafka, account), f"geolane-{account}"
            topics = reach_of_lease(name)

            async def attempt(
                lease: LeaseCommand = lease, name: str = name, topics: Reach = topics
            ) -> None:
                await markers.find_open_transactions(lease.producer_id, topics)
                places = [Open(topic, 0, 0) for topic in topics.topics]
                await markers.write_markers(
                    name,
                    (lease.producer_id, lease.producer_epoch),
                    places,
                    topics.groups,
                    committed=True,
                )

            await link.retry_until_done("mend", attempt)
    finally:
        await link.stop()


async def _read_and_send(kafka: settings.Kafka, topic: str, send: Mapping[str, Step]) -> None:
    await compacted.read_rows(kafka, topic)
    await send[topic](kafka)


def _steps(account: str, admin: settings.Kafka) -> dict[str, Step]:
    """What a process does at Kafka, by the name of what it needs a right on."""
    if account == "geolane":
        return {
            "geolane-coordinator": _lead,
            "placement": _lead,
            "lanemap": compacted.read_newest_lane_map,
            CLUSTER_NAME: _verifies,
            "events.dead": _replay,
            "events.dead.replayed": _replay,
            REPLAYER: _replay,
            "geolane-node-": lambda kafka: _lease(kafka, "node-a"),
            "geolane-router-": lambda kafka: _lease(kafka, "router-1"),
            "geolane-analytics-": lambda kafka: _lease(kafka, "analytics-1"),
            "geolane-geo-": lambda kafka: _lease(kafka, "geo-1"),
            **{
                name: partial(_offsets, kind=kind)
                for kind in KINDS
                for name in (kind.group, kind.topic.removeprefix("main/"))
            },
            WorkerKind.NODE.group: _rewind,
            TOPIC_RAW: _raw,
            OFFSETS: _mend,
            **dict.fromkeys(OUTPUTS, _mend),
        }
    kind = kind_from_account(account)
    assert kind is not None
    out = {
        WorkerKind.NODE: ("events.clean", "events.dead"),
        WorkerKind.ROUTER: ("events.dead", "events.lanes", "events.unplaced"),
        WorkerKind.ANALYTICS: (TOPIC_RISES, TOPIC_HOTSPOTS, TOPIC_HOTSPOT_STATE),
        WorkerKind.GEO: (TOPIC_RAW, TOPIC_DEAD, TOPIC_GEO_CONTEXT),
    }[kind]
    send: dict[str, Step] = {
        topic: partial(_transact, admin=admin, account=account, topic=topic) for topic in out
    }
    more: dict[WorkerKind, dict[str, Step]] = {
        WorkerKind.NODE: {TOPIC_LANES: partial(_read, kind=kind)},
        WorkerKind.ROUTER: {
            TOPIC_RAW: partial(_read, kind=kind),
            "lanemap": compacted.read_newest_lane_map,
        },
        WorkerKind.ANALYTICS: {
            TOPIC_LANES: partial(compacted.read_rows, topic=TOPIC_LANES),
            TOPIC_HOTSPOTS: partial(_read_and_send, topic=TOPIC_HOTSPOTS, send=send),
            TOPIC_HOTSPOT_STATE: partial(_read_and_send, topic=TOPIC_HOTSPOT_STATE, send=send),
            TOPIC_RISES: partial(_read_and_send, topic=TOPIC_RISES, send=send),
            TOPIC_GEO_CONTEXT: partial(compacted.read_rows, topic=TOPIC_GEO_CONTEXT),
            FLINK_JOB: _begin_job,
        },
        WorkerKind.GEO: {TOPIC_UNPLACED: partial(_read, kind=kind)},
    }
    return (
        send
        | {f"geolane-{account}": send[out[0]], kind.group: partial(_offsets, kind=kind)}
        | more[kind]
    )


@pytest.mark.parametrize("account", ACCOUNTS)
async def test_each_right_is_needed_and_together_they_are_enough(
    denying: Denying, account: str
) -> None:
    """Every step that a process takes at Kafka, with all its rights, then without the one for it:
    that is named."""
    every, steps = list(rights_of(account)), _steps(account, denying.kafka.admin)
    assert {right.name for right in every} == set(steps)
    kafka = await denying.account(account, every)
    for step in steps.values():
        await step(kafka)
    poor = {
        f"{account}-without-{i}": (missing, [r for r in every if r != missing])
        for i, missing in enumerate(every)
    }
    await denying.accounts(
        {u: [dataclasses.replace(r, user=u) for r in rest] for u, (_, rest) in poor.items()}
    )
    for user, (missing, _) in poor.items():
        kind = {
            Resource.TOPIC: "Topic",
            Resource.GROUP: "Group",
            Resource.TRANSACTIONAL_ID: "TransactionalId",
            Resource.CLUSTER: "Cluster",
        }
        lacks = (
            rf"lacks a right on {kind[missing.resource]} {missing.name}",
            rf"{missing.name}/0 refuses: this Kafka account lacks the right to write to it",
        )
        with pytest.raises(KafkaError, match="|".join(lacks)):
            await steps[missing.name](denying.kafka.for_account(user))


@pytest.mark.parametrize("account", ACCOUNTS[1:])
async def test_a_worker_may_measure_its_round_trips_with_the_rights_it_has(
    denying: Denying, account: str
) -> None:
    """Without the right to find a coordinator, no broker is found."""
    kafka = await denying.account(account, list(rights_of(account)))
    who, kind = Whom(account), kind_from_account(account)
    assert kind is not None
    topics = (*who.reads, *who.writes)
    async with probing(kafka, *topics, group=kind.group, name=who.transactional_id) as probes:
        await until_reported(probes, lambda x: x.probes > 5)


async def test_a_leader_whose_rights_know_only_nodes_and_routers_works(
    denying: Denying,
) -> None:
    """Provisioned by an earlier version: neither its topics nor its group may be seen."""
    newer = ("hotspots", "analytics", "geolane-geo", "geo.")
    older = [r for r in rights_of("geolane") if not any(word in r.name for word in newer)]
    kafka = await denying.account(
        "geolane-older", [dataclasses.replace(r, user="geolane-older") for r in older]
    )
    await _lead(kafka)
    more = [Right("geolane-older", Resource.TOPIC, TOPIC_HOTSPOTS, Operation.READ)]
    for rights in (older, more):  # `geolane up` may have created the topics meanwhile
        await denying.account(
            "geolane-older", [dataclasses.replace(r, user="geolane-older") for r in rights]
        )
        offsets = {kind: Offsets(kafka, kind.group) for kind in KINDS}
        looks = StreamLooks(kafka, offsets)
        async with AsyncExitStack() as stack:
            parts: list[Offsets | StreamLooks] = [*offsets.values(), looks]
            for part in parts:
                await part.start()
                stack.push_async_callback(part.stop)
            seen = await looks.read_streams()
        assert seen.counts["events.lanes"] == LANES
        assert Partition(WorkerKind.NODE.topic, 0) in seen.committed
        assert not any(kind.works(p) for p in seen.committed for kind in KINDS if kind.optional)
        lanes = {WorkerKind.NODE.partition(n) for n in range(LANES)}
        assert lanes <= seen.leaders.keys()
        assert set(seen.leaders.values()) == set(seen.racks), "its only broker leads them all"
        assert set(seen.racks.values()) == {""}
    for worker in ("analytics-1", "geo-1"):
        with pytest.raises(KafkaError, match=f"lacks a right on TransactionalId geolane-{worker}"):
            await _lease(kafka, worker)
