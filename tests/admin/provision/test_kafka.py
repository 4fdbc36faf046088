"""A Kafka of one's own that denies what nobody allowed: what provisioning makes there is enough for
each process, and not more."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
import uvloop
from aiokafka import AIOKafkaProducer

from agents import settings
from agents.admin.doctor.judge.roles import Whom
from agents.base.errors import KafkaError, KafkaUnavailable, SettingsError
from agents.coordinator.queries import Rewinding
from agents.core.lanes.dead_letters import LetterQuery
from agents.core.lanes.lane_map import build_lane_map
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
from agents.kafka.rights import (
    FLINK_JOB,
    OUTPUTS,
    REPLAYER,
    Right,
    reach_of_lease,
    rights_of,
    rights_of_accounts,
)
from agents.kafka.topic_watch import StreamLooks
from agents.kafka.topics import fleet_topics, reconcile_topics
from agents.kafka.users import Accounts
from agents.kafka.wire import CLUSTER_NAME, Operation, Resource
from agents.local.demo import flights
from agents.worker.reader import Reader
from tests.fixtures.kafka import folder_for_servers
from tests.kafka.secured import PASSWORD, USER, SecureBroker, secret
from tests.kafka.test_paths import probing, until_reported

LANES, RAW = 6, 2
ACCOUNTS = ("geolane", "node-a", "router-1", "analytics-1", "geo-1")


class Denying:
    """The broker, and what `geolane provision` heard about it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = SecureBroker(folder / "kafka", denies=True)
        self.told: list[str] = []

    @property
    def kafka(self) -> settings.Kafka:
        return settings.Kafka(
            bootstrap=f"127.0.0.1:{self.broker.secure_port}",
            security="SASL_SSL",
            username="{account}",
            password_file=str(self.folder / "kafka-{account}"),
            ca_file=str(self.broker.folder / "ca.pem"),
            admin_username=USER,
            admin_password_file=secret(self.folder / "admin", PASSWORD),
        )

    def tell(self, did: str, what: str) -> None:
        self.told.append(f"{did}: {what}")

    async def account(self, user: str, wanted: list[Right]) -> settings.Kafka:
        """An account with just these rights."""
        await self.accounts({user: wanted})
        return self.kafka.for_account(user)

    async def accounts(self, wanted: dict[str, list[Right]]) -> None:
        """Each user with its rights."""
        accounts = Accounts(self.kafka.admin)
        await accounts.start()
        files = {user: Path(secret(self.folder / f"kafka-{user}", "its own")) for user in wanted}
        await accounts.provision_users(files, self.tell)
        await accounts.grant_rights(
            [right for rights in wanted.values() for right in rights], self.tell
        )
        await accounts.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def denying() -> AsyncIterator[Denying]:
    with folder_for_servers() as folder:
        denying = Denying(folder)
        try:
            await denying.broker.start()
            await _fill(denying)
            yield denying
        finally:
            denying.broker.kill()


async def _fill(denying: Denying) -> None:
    await reconcile_topics(denying.kafka.admin, fleet_topics(LANES, RAW), denying.tell)
    await compacted.publish_lane_map(
        denying.kafka.admin, build_lane_map(flights.sample_events(), LANES, 4, 1, total_eps=1000.0)
    )
    async with AIOKafkaProducer(**client_kwargs(denying.kafka.admin)) as producer:
        await producer.send_and_wait(TOPIC_LANES, b"{}", partition=0)
        await producer.send_and_wait(TOPIC_DEAD, b"{", headers=[("geolane-reason", b"no_id")])


pytestmark = pytest.mark.asyncio(loop_scope="module")


# ---- topics ----


async def test_topics_are_made_once_and_altered_where_they_may_be(denying: Denying) -> None:
    assert denying.told[:8] == [
        f"made: topic {name}: partitions {n}, copies 1"
        for name, n in (
            ("events.raw", RAW),
            ("events.lanes", LANES),
            ("events.clean", LANES),
            ("events.unplaced", 1),
            ("events.dead", 1),
            ("events.dead.replayed", 1),
            ("placement", 1),
            ("lanemap", 1),
        )
    ]
    wanted = fleet_topics(LANES, RAW, settings.Topics(raw_retention_h=48.0, min_isr=1))
    for dry, did in (
        (True, "changed"),
        (False, "changed"),
        (False, "unchanged"),
        (True, "unchanged"),
    ):
        denying.told.clear()
        await reconcile_topics(denying.kafka.admin, wanted, denying.tell, dry=dry)
        words = ": retention.ms 604800000 -> 172800000" if did == "changed" else ""
        assert denying.told[0] == f"{did}: topic events.raw{words}"
        assert denying.told[1:] == [f"unchanged: topic {t.name}" for t in wanted[1:]]


async def test_a_topic_that_would_lose_records_is_put_right(denying: Denying) -> None:
    [raw, *_] = fleet_topics(LANES, RAW)
    theirs = dataclasses.replace(
        raw,
        name="theirs",
        config={"message.timestamp.type": "CreateTime", "max.message.bytes": "1000"},
    )
    await reconcile_topics(denying.kafka.admin, (theirs,), denying.tell)
    denying.told.clear()
    await reconcile_topics(
        denying.kafka.admin, (dataclasses.replace(raw, name="theirs"),), denying.tell
    )
    assert denying.told == [
        "changed: topic theirs: message.timestamp.type CreateTime -> LogAppendTime, "
        "max.message.bytes 1000 -> 8388608"
    ]


async def test_what_cannot_be_altered_is_refused_before_anything_is(denying: Denying) -> None:
    kafka = denying.kafka.admin
    copies = msgspec.structs.replace(kafka, topics=settings.Topics(replication=3))
    for with_, wanted, why in (
        (
            kafka,
            fleet_topics(LANES + 2, RAW),
            r"events\.lanes has 6 partitions, the settings say 8: correct coordinator\.lanes",
        ),
        (
            copies,
            fleet_topics(LANES, RAW),
            r"kafka\.topics\.replication is 3, and .* has 1 brokers",
        ),
    ):
        denying.told.clear()
        with pytest.raises(KafkaError, match=why):
            await reconcile_topics(with_, wanted, denying.tell)
        assert denying.told == []


async def test_who_may_not_provision_is_told_what_is_missing(denying: Denying) -> None:
    kafka = await denying.account("nobody", [])
    with pytest.raises(
        KafkaError, match=r"lacks a right on Topic \S+ \(`geolane provision` gives rights\)"
    ):
        await reconcile_topics(kafka, fleet_topics(LANES, RAW), denying.tell)
    accounts = Accounts(kafka)
    await accounts.start()
    with pytest.raises(
        KafkaError,
        match=r"cannot be read: nobody lacks a right; it needs Alter and Describe on Cluster",
    ):
        await accounts.grant_rights(rights_of_accounts(ACCOUNTS), denying.tell)
    file = Path(secret(denying.folder / "kafka-other", "x"))
    with pytest.raises(
        KafkaError,
        match=r"account other cannot be made: nobody lacks a right; it needs Alter .*--print",
    ):
        await accounts.provision_users({"other": file}, denying.tell)
    await accounts.stop()


async def test_without_an_admins_right_password_it_says_so(denying: Denying) -> None:
    wrong = msgspec.structs.replace(
        denying.kafka.admin, password_file=secret(denying.folder / "wrong", "wrong")
    )
    with pytest.raises(
        KafkaUnavailable,
        match="no broker accepted our login: check address, certificate and password",
    ):
        await reconcile_topics(wrong, fleet_topics(LANES, RAW), denying.tell)


# ---- accounts and rights ----


async def test_accounts_and_rights_twice_are_once(denying: Denying) -> None:
    for first in (True, False):
        denying.told.clear()
        await denying.account("node-b", rights_of_accounts(["node-b"]))
        account, given = denying.told
        assert account.startswith(
            "set: Kafka's account node-b" if first else "unchanged: Kafka's account node-b"
        )
        assert given.startswith(
            "made: rights of node-b: Write on Topic events.clean"
            if first
            else "unchanged: rights of node-b"
        )


async def test_a_new_password_takes_the_old_ones_place(denying: Denying) -> None:
    await denying.account("node-c", [])
    secret(denying.folder / "kafka-node-c", "another")
    accounts = Accounts(denying.kafka.admin)
    await accounts.start()
    denying.told.clear()
    await accounts.provision_users({"node-c": denying.folder / "kafka-node-c"}, denying.tell)
    await accounts.stop()
    assert denying.told[0].startswith("set: Kafka's account node-c")


async def test_an_account_that_was_not_made_here_keeps_its_password(denying: Denying) -> None:
    """Somebody else's at this Kafka, also with another mechanism than ours; the folder of passwords
    may be another machine's."""
    await denying.accounts({"theirs": [], "node-e": []})
    other = msgspec.structs.replace(denying.kafka.admin, sasl_mechanism="SCRAM-SHA-256")
    for kafka, user in ((denying.kafka.admin, "node-d"), (other, "node-f")):
        accounts = Accounts(denying.kafka.admin)
        await accounts.start()
        accounts._kafka = kafka
        await accounts.set_passwords(
            {user: Path(secret(denying.folder / "kafka-theirs", "its own"))}
        )
        await accounts.stop()
    folder = denying.folder / "elsewhere"
    folder.mkdir()
    secret(folder / "kafka-node-e", "its own")
    files = {user: folder / f"kafka-{user}" for user in ("node-d", "node-e", "node-f", "node-new")}
    accounts = Accounts(denying.kafka.admin)
    await accounts.start()
    try:
        denying.told.clear()
        for dry in (True, False):
            with pytest.raises(SettingsError) as refused:
                await accounts.provision_users(files, denying.tell, dry=dry)
            assert str(refused.value).splitlines() == [
                f"Kafka's account {user} exists and was not made here: there is no "
                f"{folder}/kafka-{user}. Put its password "
                "into that file (mode 0600), or give --reset-password to replace it"
                for user in ("node-d", "node-f")
            ]
        assert denying.told == []
        assert [file.name for file in folder.iterdir()] == ["kafka-node-e"], (
            "nothing is made for the others either"
        )
        assert await accounts._can_log_in("node-d", denying.folder / "kafka-theirs")

        for dry in (True, False):
            await accounts.provision_users(files, denying.tell, dry=dry, reset=True)
        said = [
            line.partition(":")[0] + line.partition("account")[2].partition(":")[0]
            for line in denying.told
        ]
        assert said == 2 * ["set node-d", "unchanged node-e", "set node-f", "set node-new"]
        assert not await accounts._can_log_in("node-d", denying.folder / "kafka-theirs")
        for user, file in files.items():
            assert await accounts._can_log_in(user, file)

        denying.told.clear()
        await accounts.provision_users(files, denying.tell)
        assert {line.partition(":")[0] for line in denying.told} == {"unchanged"}
    finally:
        await accounts.stop()


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


async def test_a_connection_over_tls_ends_at_once(denying: Denying) -> None:
    """Under uvloop, as processes run: it waited 30 s for a broker that had just sent something
    else."""

    async def read() -> float:
        longest = 0.0
        for _ in range(8):
            began = time.monotonic()
            await compacted.read_newest_lane_map(denying.kafka.admin)
            longest = max(longest, time.monotonic() - began)
        return longest

    assert await asyncio.to_thread(uvloop.run, read()) < 10
