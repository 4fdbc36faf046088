"""Faults of a Kafka cluster and of what is in it, made on purpose on one real broker: the doctor
names each."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import OffsetAndMetadata

from agents import settings
from agents.admin.doctor import kafka as kafka_check
from agents.admin.doctor.fleet import FleetCheck
from agents.admin.doctor.judge.roles import Whom
from agents.admin.doctor.judge.verdict import Finding, Level
from agents.admin.doctor.kafka import KafkaCheck
from agents.base import ports
from agents.core.lanes.lane_map import build_lane_map
from agents.core.model.inventory import Inventory
from agents.core.model.placement import (
    LEADER_KEY,
    Leader,
    Placed,
    State,
    encode_leader,
    encode_placed,
)
from agents.core.model.topology import (
    MAIN,
    OPTIONAL_TOPICS,
    Partition,
    Site,
    WorkerKind,
    WorkerSpec,
    kind_from_name,
)
from agents.kafka import compacted
from agents.kafka.connection import client_kwargs
from agents.kafka.offsets import Offsets
from agents.kafka.paths import read_tcp_rtt_ms
from agents.kafka.topics import Topic, fleet_topics
from agents.kafka.verification import KEY
from agents.local.servers.broker import PLAINTEXT, SELF, Listener
from agents.local.servers.delay_proxy import DelayedLink, DelayProxy
from agents.settings import Coordinator
from tests.admin.doctor.support import findings, loaded, named
from tests.fixtures.kafka import folder_for_servers
from tests.fixtures.proxied_broker import ProxiedBroker
from tests.kafka.secured import PASSWORD, USER, SecureBroker, make_certificate, secret
from tests.kafka.support import consumer, fill, unverified

pytestmark = pytest.mark.asyncio(loop_scope="module")
LANE_COUNT = 4
EVENT = b'{"id":"a","ts":0,"origin":{"lat":1,"lon":1}}'
COORDINATOR = Coordinator(lanes=LANE_COUNT, raw_partitions=1, transaction_timeout_ms=60_000)


class Faulty(SecureBroker):
    """With ACLs, none of which lets the one user in; with limits below ours and a certificate that
    expires tomorrow; it makes topics that are asked about; and at `lost_port` it tells clients to
    go on where nobody listens."""

    certificate_days = 1.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.lost_port = ports.find_free_port()

    @property
    def listeners(self) -> Sequence[Listener]:
        lost = Listener("LOST", f"127.0.0.1:{self.lost_port}", "127.0.0.1:1", PLAINTEXT)
        return [*super().listeners, lost]

    def _more_properties(self) -> str:
        return f"""{super()._more_properties()}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:{SELF}
transaction.max.timeout.ms=30000
offsets.retention.minutes=60
auto.create.topics.enable=true
broker.rack=use1-az4
"""


@dataclass
class Place:
    """The broker, its two listeners, and a folder for files."""

    broker: Faulty
    folder: Path

    @property
    def kafka(self) -> settings.Kafka:
        return self.broker.kafka

    def secure(
        self, password: str = PASSWORD, ca: Path | None = None, host: str = "127.0.0.1"
    ) -> settings.Kafka:
        return settings.Kafka(
            bootstrap=f"{host}:{self.broker.secure_port}",
            security="SASL_SSL",
            username=USER,
            password_file=secret(self.folder / password, password),
            ca_file=str(ca or self.broker.folder / "ca.pem"),
        )

    async def make(self, *changed: Topic) -> None:
        """The topics of PROTOCOL 1 anew, empty, with `changed` in place of those of the same name;
        nothing where its partitions are 0."""
        wanted = {t.name: t for t in fleet_topics(LANE_COUNT, 1)} | {t.name: t for t in changed}
        admin: Any = AIOKafkaAdminClient(**client_kwargs(self.kafka))
        await admin.start()
        try:
            there = [t for t in await admin.list_topics() if not t.startswith("__")]
            if there:
                await admin.delete_topics(there)
                async with asyncio.timeout(10):
                    while set(there) & set(await admin.list_topics()):
                        await asyncio.sleep(0.02)
            made = [t for t in wanted.values() if t.partitions]
            new = [
                NewTopic(t.name, t.partitions, 1, topic_configs=t.wanted_config(True)) for t in made
            ]
            await admin.create_topics(new)
        finally:
            await admin.close()
        offsets = Offsets(
            self.kafka, "geolane-test"
        )  # a fresh partition has its leader a moment later
        await offsets.start()
        try:
            await offsets.read_end_offsets(
                [Partition(f"{MAIN}/{t.name}", n) for t in made for n in range(t.partitions)]
            )
        finally:
            await offsets.stop()

    async def topics(self) -> set[str]:
        admin: Any = AIOKafkaAdminClient(**client_kwargs(self.kafka))
        await admin.start()
        try:
            return {t for t in await admin.list_topics() if not t.startswith("__")}
        finally:
            await admin.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place() -> AsyncIterator[Place]:
    with folder_for_servers() as folder:
        broker = Faulty(folder / "kafka")
        try:
            await broker.start()
            yield Place(broker, folder)
        finally:
            broker.kill()


def inventory(*workers: str) -> Inventory:
    return Inventory(
        {}, {w: WorkerSpec(w, kind_from_name(w.partition("-")[0]), "s", 1.0) for w in workers}
    )


async def look(
    kafka: settings.Kafka,
    *names: str,
    account: str = "geolane",
    now: Callable[[], float] = time.time,
    workers: tuple[str, ...] = ("node-a",),
) -> dict[str, Finding]:
    who, made = Whom(account), loaded(kafka=kafka, coordinator=COORDINATOR)
    shell = KafkaCheck(made, who, now, inventory(*workers))
    checks = [
        *shell.list_checks(),
        *FleetCheck(made.settings, who, inventory(*workers), shell, now, 0.7).list_checks(),
    ]
    return await findings(
        [c for c in checks if not any(n.startswith("xmpp") for n in c.needs)], *names
    )


KAFKA = [
    f"kafka {name}"
    for name in (
        "listeners",
        "round trips",
        "topics",
        "rights",
        "time stamps",
        "record sizes",
        "keeping",
        "replicas",
        "limits",
        "socket buffers",
        "late requests",
        "version",
    )
]


# ---- the way there ----


async def test_wrong_ways_to_the_broker_are_told_apart(place: Place) -> None:
    plain, secure, other = place.kafka, place.secure(), place.folder / "other-ca.pem"
    make_certificate(place.folder / "other.pem", other)
    change = msgspec.structs.replace
    for kafka, key, *words in (
        (
            change(plain, bootstrap="127.0.0.1:1"),
            "kafka brokers",
            "127.0.0.1:1: nothing listens there",
            "kafka.bootstrap",
        ),
        (
            change(plain, bootstrap="no-such-host.invalid:1"),
            "kafka brokers",
            "there is no host of this name",
        ),
        (
            change(plain, security="SSL"),
            "kafka certificate",
            "speaks no TLS, kafka.security is SSL",
            "to PLAINTEXT",
        ),
        (
            change(plain, bootstrap=secure.bootstrap),
            "kafka login",
            "speaks TLS, kafka.security is PLAINTEXT",
            "SASL_SSL",
        ),
        (
            change(secure, bootstrap=plain.bootstrap, security="SASL_PLAINTEXT"),
            "kafka login",
            "asks for no password",
        ),
        (change(secure, sasl_mechanism="PLAIN"), "kafka login", "sasl_mechanism"),
        (
            place.secure("wrong"),
            "kafka login",
            f"{USER} (SCRAM-SHA-512): wrong password, or no such account",
        ),
        (
            place.secure(ca=other),
            "kafka certificate",
            f"not signed by an authority in {other}",
            "ca_file",
        ),
        (
            place.secure(host="localhost"),
            "kafka certificate",
            "the certificate is for kafka.test",
            "names localhost",
        ),
        (change(secure, ca_file="/no/such/file"), "kafka certificate", "/no/such/file"),
    ):
        named(await look(kafka, key), key, *words)
    found = await look(place.secure(), "kafka certificate", "kafka login")
    named(found, "kafka certificate", "1.0 days left", "renew it now")
    named(found, "kafka login", f"as {USER} (SCRAM-SHA-512), SASL_SSL", level=Level.OK)


async def test_one_broker_of_two_that_is_away_is_a_warning(place: Place) -> None:
    kafka = settings.Kafka(bootstrap=f"127.0.0.1:1,{place.broker.bootstrap}")
    found = await look(kafka, "kafka login")
    named(found, "kafka brokers", "127.0.0.1:1: nothing listens", level=Level.WARNING)
    named(found, "kafka login", "as anybody", level=Level.OK)


async def test_an_address_that_a_broker_advertises_and_nobody_has_is_named(place: Place) -> None:
    """The usual fault of `advertised.listeners`: the first connection is well, and none after
    it."""
    kafka = settings.Kafka(bootstrap=f"127.0.0.1:{place.broker.lost_port}")
    found = await look(kafka, "kafka listeners", "kafka limits", "fleet placement")
    named(found, "kafka login", "as anybody", level=Level.OK)
    named(
        found,
        "kafka listeners",
        "127.0.0.1:1 is advertised, but nothing listens there",
        "advertised.listeners",
    )
    for key in ("kafka limits", "fleet placement"):
        named(found, key, "`kafka listeners` is at fault", level=Level.SKIPPED)


async def test_a_rack_that_names_no_site_is_told_with_what_to_set(place: Place) -> None:
    sites = {s: Site(s, 1.0, 1.0, s) for s in ("ams", "fra")}
    nodes = {f"node-{s}": WorkerSpec(f"node-{s}", WorkerKind.NODE, s, 1.0) for s in sites}
    made = loaded(kafka=place.kafka, coordinator=COORDINATOR)
    check = KafkaCheck(made, Whom("geolane"), inventory=Inventory(sites, nodes))
    found = await findings(check.list_checks(), "kafka racks")
    named(found, "kafka racks", 'rack "use1-az4" names no site', level=Level.WARNING)
    assert found["kafka racks"].todo.endswith('racks = ["use1-az4"]')


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxied() -> AsyncIterator[ProxiedBroker]:
    """For tests that are the proxy."""
    with folder_for_servers() as folder:
        broker = ProxiedBroker(folder / "kafka", heap_mb=256)
        try:
            await broker.start(120)
            yield broker
        finally:
            broker.kill()


async def test_a_proxy_on_the_way_is_told(proxied: ProxiedBroker) -> None:
    link = DelayedLink("far", proxied.proxy_port, proxied.listener_port, 60)
    async with DelayProxy([link]):
        found = await look(proxied.proxied, "kafka round trips", "kafka socket buffers")
    named(
        found,
        "kafka socket buffers",
        "broker 1 is 6",
        "ms away and has socket.send.buffer.bytes=102400",
        level=Level.WARNING,
    )
    named(
        found,
        "kafka round trips",
        f"broker 1 (127.0.0.1:{proxied.proxy_port}) answers after 6",
        "a proxy, load balancer or TLS terminator is between",
        level=Level.OK,
    )


async def test_a_broker_that_was_only_busy_is_not_far(
    proxied: ProxiedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = asyncio.Event()

    def note_look(connection: object) -> float | None:
        looked.set()
        return read_tcp_rtt_ms(connection)

    monkeypatch.setattr(kafka_check, "read_tcp_rtt_ms", note_look)
    link = DelayedLink("busy", proxied.proxy_port, proxied.listener_port, 60)
    async with DelayProxy([link]) as proxy:
        looking = asyncio.create_task(
            look(proxied.proxied, "kafka round trips", "kafka socket buffers")
        )
        await asyncio.wait_for(looked.wait(), 30)
        await proxy.change_link("busy", rtt_ms=0)
        found = await looking
    named(found, "kafka socket buffers", "no broker is farther", level=Level.OK)
    assert "is between" not in found["kafka round trips"].found


async def _answer_probes(
    port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Pass requests on to `port`, one at a time, but answer each ApiVersions after the first."""
    there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
    known: dict[bytes, bytes] = {}

    async def read_frame(source: asyncio.StreamReader) -> bytes:
        size = await source.readexactly(4)
        return size + await source.readexactly(int.from_bytes(size))

    try:
        while True:
            request = await read_frame(reader)
            kind, number = request[4:8], request[8:12]  # key and version; correlation id
            if (answer := known.get(kind)) is None:
                there_writer.write(request)
                answer = await read_frame(there_reader)
                if kind[:2] == b"\0\x12":
                    known[kind] = answer
            writer.write(answer[:4] + number + answer[8:])
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()
        there_writer.close()


async def test_a_proxy_that_answers_probes_itself_is_a_warning(proxied: ProxiedBroker) -> None:
    far = ports.find_free_port()
    async with DelayProxy([DelayedLink("far", far, proxied.listener_port, 60)]):
        server = await asyncio.start_server(
            partial(_answer_probes, far), "127.0.0.1", proxied.proxy_port
        )
        try:
            found = await look(proxied.proxied, "kafka round trips")
        finally:
            server.close()
    named(
        found,
        "kafka round trips",
        "probes are answered after",
        "answers ApiVersions itself",
        level=Level.WARNING,
    )


async def test_a_user_without_rights_is_told_so(place: Place) -> None:
    await place.make()
    found = await look(place.secure(), *KAFKA, "kafka transactional id", account=USER)
    named(found, "kafka topics", "events.lanes: TopicAuthorizationFailedError", "ACL")
    named(found, "kafka transactional id", f"no right to geolane-{USER}", "--transactional-id")
    named(found, "kafka time stamps", "may not read the topics' settings", level=Level.SKIPPED)
    named(found, "kafka limits", "may not read the broker's settings", level=Level.SKIPPED)
    named(
        found, "kafka late requests", "lacks a right on Cluster kafka-cluster", level=Level.SKIPPED
    )


async def test_a_broker_that_lets_late_requests_in_is_named(place: Place) -> None:
    async with unverified(place.kafka):
        found = await look(place.kafka, "kafka late requests")
    named(found, "kafka late requests", f"broker 1: {KEY} is false", f"set {KEY}=true")


# ---- topics ----


async def test_topics_as_they_must_be_are_ok_and_low_limits_are_named(place: Place) -> None:
    await place.make()
    found = await look(place.kafka, *KAFKA)
    named(
        found,
        "kafka limits",
        "transaction.max.timeout.ms is 30000",
        "is 60000: no lease",
        "offsets.retention.minutes is 60",
    )
    named(found, "kafka limits", "a misspelt topic is created")
    assert re.match(r"broker 1 \d+\.\d ms", found["kafka round trips"].found)
    del found["kafka limits"]
    assert [f for f in found.values() if f.level is not Level.OK] == []


async def test_topics_of_optional_workers_are_missed_only_where_there_is_one(place: Place) -> None:
    await place.make(*(Topic(name, 0, 0) for name in OPTIONAL_TOPICS))
    keys = ("kafka topics", "fleet offsets")
    found = await look(place.kafka, *keys)
    named(found, "kafka topics", "all 8", level=Level.OK)
    assert "geolane-analytics" not in found["fleet offsets"].found
    assert "geolane-geo" not in found["fleet offsets"].found
    found = await look(place.kafka, *keys, workers=("node-a", "geo-1"))
    named(found, "kafka topics", "geo.context is missing")
    assert "geolane-geo" in found["fleet offsets"].found
    found = await look(place.kafka, *keys, workers=("node-a", "analytics-1"))
    named(found, "kafka topics", "hotspots is missing", "hotspots.state is missing")
    assert "geolane-analytics" in found["fleet offsets"].found
    found = await look(place.kafka, "kafka topics", account="analytics-1")
    named(found, "kafka topics", "hotspots.rises is missing")


async def test_each_topic_that_is_wrong_is_named_with_what_makes_it_right(place: Place) -> None:
    await place.make(
        Topic("events.raw", 0, 0),
        Topic("events.lanes", 2, 1),
        Topic("events.clean", LANE_COUNT, 1, {"message.timestamp.type": "CreateTime"}),
        Topic("events.unplaced", 1, 1, {"retention.ms": "600000"}),
        Topic("events.dead", 1, 1, {"max.message.bytes": "100000", "min.insync.replicas": "2"}),
        Topic("placement", 1, 1, {"cleanup.policy": "delete"}),
        Topic("lanemap", 0, 0),
    )
    found = await look(place.kafka, *KAFKA, "fleet lane map")
    named(
        found,
        "kafka topics",
        "events.raw is missing",
        "events.lanes has 2 partitions, the settings say 4",
        "lanemap is",
    )
    named(
        found,
        "kafka time stamps",
        "events.clean has CreateTime",
        "--add-config message.timestamp.type=LogAppendTime",
    )
    named(
        found, "kafka record sizes", "events.dead takes 100,000 bytes", "max.message.bytes=9437184"
    )
    named(
        found,
        "kafka keeping",
        "events.unplaced is kept for 10 minutes",
        "placement: cleanup.policy is delete",
    )
    named(found, "kafka replicas", "events.dead: min.insync.replicas is 2, but there are 1 copies")
    named(found, "fleet lane map", "the topic lanemap is missing", level=Level.SKIPPED)
    there = await place.topics()
    assert not {"events.raw", "lanemap"} & there, (
        "the doctor makes no topic, even of a broker that makes them on demand"
    )


# ---- what is in them ----


async def write(kafka: settings.Kafka, records: dict[str, bytes]) -> None:
    producer: Any = AIOKafkaProducer(**client_kwargs(kafka))
    await producer.start()
    try:
        for key, value in records.items():
            await producer.send_and_wait("placement", value, key.encode())
    finally:
        await producer.stop()


def placed(worker: str, state: State, offset: int = 0) -> bytes:
    return encode_placed(Placed(worker, "boot", 1, 1, state, offset, 0, "test"))


async def commit(kafka: settings.Kafka, group: str, offsets: dict[tuple[str, int], int]) -> None:
    async with consumer(kafka, group, list(offsets)) as c:
        await c.commit({TopicPartition(*p): OffsetAndMetadata(o, "") for p, o in offsets.items()})


@asynccontextmanager
async def leading(kafka: settings.Kafka) -> AsyncIterator[None]:
    """Somebody writes `leader` again and again."""

    async def lead() -> None:
        while True:
            await write(kafka, {LEADER_KEY: encode_leader(Leader(7, "boot"))})
            await asyncio.sleep(0.1)

    task = asyncio.create_task(lead())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_lanes_without_owner_offset_or_progress_and_a_leader_that_is_gone_are_named(
    place: Place,
) -> None:
    await place.make()
    kafka = place.kafka
    owned = {WorkerKind.NODE.partition(n).key: placed("node-a", State.ASSIGNED) for n in (0, 1)}
    owned[WorkerKind.NODE.partition(2).key] = placed("node-strange", State.ASSIGNED, offset=50)
    owned[WorkerKind.NODE.partition(3).key] = placed("node-a", State.ORPHAN)
    await write(kafka, owned | {"main/events.raw/0": placed("router-1", State.ASSIGNED)})
    await fill(kafka, "events.lanes", [b"{}"] * 40, partition=1)
    await commit(kafka, WorkerKind.NODE.group, {("events.lanes", 0): 0, ("events.lanes", 1): 5})
    fleet = [
        f"fleet {name}"
        for name in ("lane map", "leadership", "clock", "owners", "offsets", "progress")
    ]
    found = await look(kafka, *fleet)
    named(found, "fleet lane map", "no lane map is published", "geolane lanes build")
    named(found, "fleet leadership", "no coordinator has ever led")
    named(found, "fleet clock", "no leader writes", level=Level.SKIPPED)
    named(found, "fleet owners", "1 of 5 partitions have no owner: lane 3")
    named(found, "fleet offsets", "lane 2: no committed offset in geolane-node, and not new")
    named(
        found, "fleet progress", "lane 1: 35 records wait, none was processed", level=Level.WARNING
    )

    await compacted.publish_lane_map(kafka, build_lane_map([EVENT], LANE_COUNT + 1, 4, 1))
    owned = {WorkerKind.NODE.partition(3).key: placed("node-a", State.ASSIGNED)}
    await write(kafka, owned | {LEADER_KEY: encode_leader(Leader(7, "boot"))})
    found = await look(kafka, *fleet[:4], now=lambda: time.time() + 60)
    named(found, "fleet lane map", "version 1 is for 5 lanes, coordinator.lanes is 4")
    named(found, "fleet leadership", "no coordinator leads: epoch 7, last written 6", "s ago")
    named(
        found,
        "fleet owners",
        "node-strange, router-1 own lanes but are not in the inventory",
        level=Level.WARNING,
    )

    async with leading(kafka):
        found = await look(kafka, *fleet[1:3], now=lambda: time.time() - 45)
    named(found, "fleet leadership", "epoch 7, renewed", level=Level.OK)
    named(found, "fleet clock", "this clock is 4", "s behind the brokers'")
