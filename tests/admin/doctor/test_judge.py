"""What figures mean, by values: each threshold, and what is said on either side of it."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import msgspec
import pytest

from agents.admin.doctor.judge import fleet, host, kafka, xmpp
from agents.admin.doctor.judge.certificate import Certificate, judge_certificate
from agents.admin.doctor.judge.kafka import Cluster, RoundTrip, TopicDescription
from agents.admin.doctor.judge.roles import Role, Whom, with_passwords
from agents.admin.doctor.judge.verdict import (
    Finding,
    Level,
    Report,
    Verdict,
    fault,
    merge_verdicts,
    ok,
    skipped,
    warning,
)
from agents.core.model.inventory import Inventory
from agents.core.model.placement import Placed, PlacementTable, State
from agents.core.model.topology import (
    KINDS,
    TOPIC_UNPLACED,
    TOPICS_OF_ANALYTICS,
    Partition,
    Site,
    WorkerKind,
    WorkerSpec,
)
from agents.kafka.topics import Topic, fleet_topics
from agents.kafka.verification import BrokerLooked
from agents.settings import Kafka, Settings, Xmpp

OK, WARNING, FAULT, SKIPPED = Level.OK, Level.WARNING, Level.FAULT, Level.SKIPPED
SMALL = {"socket.send.buffer.bytes": "102400", "socket.receive.buffer.bytes": "102400"}
FAR = RoundTrip(2, "b:1", 152.0, 150.0, None)
MIB = 1 << 20
NOW = datetime.datetime(2026, 7, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


def refused(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError("no")
    error.verify_code, error.verify_message = code, "no"
    return error


@pytest.mark.parametrize(
    ("days", "since", "error", "level", "said"),
    [
        (30, -1, None, OK, "30 days left"),
        (21, -1, None, OK, "21 days"),
        (20.9, -1, None, WARNING, "20.9 days left"),
        (3, -1, None, WARNING, "3.0 days"),
        (2.9, -1, None, FAULT, "2.9 days left"),
        (-0.5, -9, refused(10), FAULT, "expired 0.5 days ago"),
        (30, 1, refused(9), FAULT, "not valid before 2026-07-02"),
        (30, -1, refused(62), FAULT, "is for b.test"),
        (30, -1, refused(64), FAULT, "is for b.test"),
        (30, -1, refused(20), FAULT, "not signed by an authority in ca.pem"),
    ],
)
def test_certificates(
    days: float, since: float, error: ssl.SSLCertVerificationError, level: Level, said: str
) -> None:
    verdict = judge_certificate(
        "a.test",
        Certificate(("b.test",), NOW + since * DAY, NOW + days * DAY),
        error,
        NOW,
        "ca.pem",
    )
    assert (verdict.level, said in verdict.found, bool(verdict.todo)) == (
        level,
        True,
        level is not OK,
    ), verdict


def test_versions_are_compared_as_versions() -> None:
    wanted = ["slixmpp>=1.17,<2", "other>=1; python_version < '3'", "aiokafka<0.15,>=0.14"]
    assert host.judge_versions(wanted, {"slixmpp": "1.100", "aiokafka": "0.14.0"}).level is OK
    verdict = host.judge_versions(wanted, {"slixmpp": "1.9"})
    assert (verdict.level, verdict.todo) == (FAULT, "run: make install")
    assert "slixmpp is 1.9, it must be <2,>=1.17" in verdict.found
    assert "aiokafka is missing" in verdict.found


@pytest.mark.parametrize(
    ("verdict", "level"),
    [
        (host.judge_disk(Path("/d"), 199 * MIB, 0, 0), FAULT),
        (host.judge_disk(Path("/d"), 300 * MIB, 0, 256), WARNING),
        (host.judge_disk(Path("/d"), 300 * MIB, 200 * MIB, 256), OK),
        (host.judge_memory(63 * MIB), FAULT),
        (host.judge_memory(255 * MIB), WARNING),
        (host.judge_memory(256 * MIB), OK),
        (host.judge_open_files(255), FAULT),
        (host.judge_open_files(1023), WARNING),
        (host.judge_open_files(1024), OK),
        (host.judge_open_files(-1), OK),
        (host.judge_clock(1.9, "x"), OK),
        (host.judge_clock(-2.0, "x"), WARNING),
        (host.judge_clock(-30.0, "x"), FAULT),
        (xmpp.judge_speed(192_000, 192_000, 0.3, agent=True), OK),
        (xmpp.judge_speed(100_000, 192_000, 1.0, agent=True), WARNING),
        (xmpp.judge_speed(29_000, 192_000, 1.0, agent=True), FAULT),
        (xmpp.judge_pings([], None, 9), FAULT),
        (xmpp.judge_pings([2.0], None, 9), FAULT),
        (xmpp.judge_pings([5.0], 7.9, 9), WARNING),
        (xmpp.judge_pings([2.0], 8.5, 9), WARNING),
        (xmpp.judge_pings([2.0, 4.0], 6.0, 9), WARNING),
        (xmpp.judge_pings([2.0], 6.0, 9), OK),
        (xmpp.judge_resumption(True, "h"), FAULT),
        (xmpp.judge_resumption(False, "h"), OK),
        (xmpp.judge_leader("", "l"), OK),
        (xmpp.judge_leader("recipient-unavailable", "l"), FAULT),
        (xmpp.judge_workers({}, []), SKIPPED),
        (xmpp.judge_workers({}, ["node-a"]), FAULT),
        (xmpp.judge_workers({"node-b": 2.0}, ["node-a"]), WARNING),
        (xmpp.judge_workers({"node-b": 2.0}, []), OK),
        (xmpp.judge_worker_versions("1", {}), SKIPPED),
        (xmpp.judge_worker_versions("1", {"node-a": "1"}), OK),
        (xmpp.judge_worker_versions("1", {"node-a": "1", "node-b": "0.9"}), WARNING),
        (xmpp.judge_roster(["a"], ["a", "b"]), OK),
        (xmpp.judge_roster(["a", "c"], ["a"]), FAULT),
        (xmpp.judge_login("a", xmpp.LoginOutcome("stuck"), ""), FAULT),
        (kafka.judge_version({1, 65}), OK),
        (kafka.judge_version({1}), WARNING),
        (kafka.judge_addresses({"a:1": ""}), OK),
        (kafka.judge_addresses({"a:1": "", "b:1": "away"}), WARNING),
        (kafka.judge_addresses({"a:1": "away"}), FAULT),
        (kafka.judge_listeners({"a:1": ""}), OK),
        (kafka.judge_listeners({"a:1": "", "b:1": "nothing listens there"}), FAULT),
        (kafka.judge_round_trips([RoundTrip(1, "a:1", 12.6, 12.1, 12.0)], {}), OK),
        (kafka.judge_round_trips([RoundTrip(1, "a:1", 82.6, 81.9, 0.1)], {}), OK),
        (kafka.judge_round_trips([RoundTrip(1, "a:1", 12.6, 12.1, None)], {"b:1": "x"}), WARNING),
        (kafka.judge_round_trips([], {"b:1": "does not answer"}), WARNING),
        (kafka.judge_limits({"transaction.max.timeout.ms": "10000"}, 10_000), OK),
        (kafka.judge_limits({"transaction.max.timeout.ms": "9999"}, 10_000), FAULT),
        (kafka.judge_limits({"offsets.retention.minutes": "1439"}, 10_000), FAULT),
        (kafka.judge_limits({"auto.create.topics.enable": "true"}, 10_000), WARNING),
        (kafka.judge_limits(None, 10_000), SKIPPED),
        (kafka.judge_buffers([], []), OK),
        (kafka.judge_buffers([FAR], [{"socket.send.buffer.bytes": "-1"}]), OK),
        (kafka.judge_buffers([FAR], [{"socket.send.buffer.bytes": "1048575"}]), WARNING),
        (kafka.judge_buffers([FAR], [{"socket.receive.buffer.bytes": "1048576"}]), OK),
        (kafka.judge_buffers([FAR], [None]), SKIPPED),
        (kafka.judge_buffers([FAR, FAR], [None, SMALL]), WARNING),
        (kafka.judge_verification([BrokerLooked(1, 10, 5, 2, True)]), OK),
        (kafka.judge_verification([BrokerLooked(1, 8, 3, 0, True)]), WARNING),
        (
            kafka.judge_verification(
                [BrokerLooked(1, 10, 5, 2, True), BrokerLooked(2, 9, 4, 0, True)]
            ),
            WARNING,
        ),
        (kafka.judge_verification([BrokerLooked(1, 10, 5, 0, True)]), WARNING),
        (kafka.judge_verification([BrokerLooked(1, 10, 5, 2, None)]), SKIPPED),
        (
            kafka.judge_verification(
                [BrokerLooked(1, 10, 5, 2, True), BrokerLooked(2, 10, 5, 2, False)]
            ),
            FAULT,
        ),
        (kafka.judge_verification([BrokerLooked(1, 7, 3, 0, None)]), FAULT),
        (fleet.judge_leadership(None, None, False), FAULT),
        (fleet.judge_leadership(3, 1.0, True), OK),
        (fleet.judge_leadership(3, 4.9, False), WARNING),
        (fleet.judge_leadership(3, 5.0, False), FAULT),
        (fleet.judge_lane_map(None, 4), FAULT),
    ],
)
def test_levels(verdict: Verdict, level: Level) -> None:
    assert verdict.level is level, verdict
    assert bool(verdict.todo) == (level in (WARNING, FAULT)), verdict


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("item-not-found", "ops@r is missing"),
        ("registration-required", "ana is not a member"),
        ("forbidden", "ana is banned"),
        ("conflict", "ops@r: conflict"),
    ],
)
def test_the_room(condition: str, said: str) -> None:
    assert said in xmpp.judge_room(Whom("ana"), "ops@r", condition).found


# ---- Kafka ----

STREAM, TABLE = Topic("events.raw", 2, 1), Topic("placement", 1, 0, {"cleanup.policy": "compact"})
SHORT = next(t for t in fleet_topics(1, 1) if t.name == "geo.context")
GOOD = {
    "message.timestamp.type": "LogAppendTime",
    "max.message.bytes": str(8 * MIB),
    "cleanup.policy": "delete",
    "retention.ms": str(7 * kafka.DAY_MS),
    "retention.bytes": "-1",
    "min.insync.replicas": "2",
}


def cluster(
    config: dict[str, str] | None = None, of: Topic | None = None, **seen: object
) -> Cluster:
    shown: dict[str, object] = {
        "replicas": (3, 3),
        "in_sync": (3, 3),
        "config": GOOD | (config or {}),
    }
    return Cluster(
        dict.fromkeys(range(3), ("h", 1)),
        {(of or STREAM).name: TopicDescription(2, **(shown | seen))},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("verdict", "level"),
    [
        (kafka.judge_existence([STREAM], cluster()), OK),
        (kafka.judge_existence([STREAM, TABLE], cluster()), FAULT),
        (kafka.judge_existence([STREAM], cluster(error="TopicAuthorizationFailedError")), FAULT),
        (kafka.judge_time_stamps([STREAM], cluster()), OK),
        (
            kafka.judge_time_stamps([STREAM], Cluster({}, {STREAM.name: TopicDescription(2)})),
            SKIPPED,
        ),
        (kafka.judge_sizes([STREAM], cluster(), MIB), OK),
        (kafka.judge_sizes([STREAM], cluster({"max.message.bytes": str(MIB)}), MIB), FAULT),
        (
            kafka.judge_sizes([STREAM], cluster({"max.message.bytes": str(MIB + (64 << 10))}), MIB),
            WARNING,
        ),
        (kafka.judge_retention([STREAM], cluster()), OK),
        (kafka.judge_retention([STREAM], cluster({"cleanup.policy": "compact"})), FAULT),
        (kafka.judge_retention([STREAM], cluster({"retention.ms": "-1"})), WARNING),
        (
            kafka.judge_retention(
                [STREAM], cluster({"retention.ms": "-1", "retention.bytes": "1000"})
            ),
            OK,
        ),
        (kafka.judge_retention([STREAM], cluster({"retention.ms": str(kafka.HOUR_MS - 1)})), FAULT),
        (
            kafka.judge_retention([STREAM], cluster({"retention.ms": str(kafka.DAY_MS - 1)})),
            WARNING,
        ),
        (kafka.judge_retention([SHORT], cluster(SHORT.config, SHORT)), OK),
        *(
            (kafka.judge_retention([SHORT], cluster({**SHORT.config, key: ms}, SHORT)), WARNING)
            for key in ("retention.ms", "segment.ms")
            for ms in ("-1", "3600000")
        ),
        (kafka.judge_replicas([STREAM], cluster()), OK),
        (kafka.judge_replicas([STREAM], cluster(in_sync=(3, 2))), WARNING),
        (
            kafka.judge_replicas(
                [STREAM],
                cluster(replicas=(1, 1), in_sync=(1, 1), config={"min.insync.replicas": "1"}),
            ),
            WARNING,
        ),
        (kafka.judge_replicas([STREAM], cluster({"min.insync.replicas": "1"})), WARNING),
        (kafka.judge_replicas([STREAM], cluster({"min.insync.replicas": "4"})), FAULT),
        (
            kafka.judge_replicas([STREAM], cluster({"unclean.leader.election.enable": "true"})),
            WARNING,
        ),
        (kafka.judge_replicas([STREAM], cluster(leaderless=(1,))), FAULT),
        (kafka.judge_rights(["events.raw"], [], cluster(rights=1 << 3)), OK),
        (kafka.judge_rights(["events.raw"], ["events.raw"], cluster(rights=1 << 3)), FAULT),
        (kafka.judge_rights(["events.raw"], [], cluster(rights=None)), SKIPPED),
        (kafka.judge_rights([], [], cluster()), SKIPPED),
    ],
)
def test_topics(verdict: Verdict, level: Level) -> None:
    assert verdict.level is level, verdict
    assert bool(verdict.todo) == (level in (WARNING, FAULT)), verdict


@pytest.mark.parametrize(("wait_h", "level"), [(0, OK), (168, OK), (200, WARNING)])
def test_events_may_not_wait_for_longer_than_kafka_keeps_them(wait_h: float, level: Level) -> None:
    topic = Topic(TOPIC_UNPLACED, 1, 128)
    there = cluster({"retention.ms": str(7 * kafka.DAY_MS)}, topic)
    verdict = kafka.judge_retention([topic], there, wait_h)
    assert verdict.level is level
    if level is WARNING:
        assert "keeps events for 168 h, and geo.wait_h lets them wait for 200 h" in verdict.found
        assert "retention.ms=1440000000" in verdict.todo


def test_what_provisioning_makes_is_ok() -> None:
    wanted = fleet_topics(4, 2)
    seen = {
        t.name: TopicDescription(
            t.partitions,
            (1,) * t.partitions,
            (1,) * t.partitions,
            config={"retention.ms": "-1"} | t.wanted_config(True),
        )
        for t in wanted
    }
    there = Cluster({1: ("h", 1)}, seen)
    for judged in (
        kafka.judge_existence,
        kafka.judge_time_stamps,
        kafka.judge_retention,
        kafka.judge_replicas,
    ):
        assert judged(wanted, there).level is OK
    assert kafka.judge_sizes(wanted, there, 8 * MIB - kafka.HEADERS_BYTES).level is OK


# ---- the fleet ----


def lane(
    n: int, offset: int = 0, state: State = State.ASSIGNED, worker: str = "node-a"
) -> dict[Partition, Placed]:
    return {WorkerKind.NODE.partition(n): Placed(worker, "b", 1, 1, state, offset, 0, "")}


def test_owners_offsets_and_progress() -> None:
    a, b = Partition(WorkerKind.NODE.topic, 0), Partition(WorkerKind.NODE.topic, 1)
    assert (
        fleet.judge_owners(PlacementTable(placed=lane(0) | lane(1)), [a, b], ["node-a"]).level is OK
    )
    assert "lane 1" in fleet.judge_owners(PlacementTable(placed=lane(0)), [a, b], None).found
    assert (
        fleet.judge_owners(
            PlacementTable(placed=lane(0, state=State.RELEASING)), [a], ["node-a"]
        ).level
        is OK
    )
    assert fleet.judge_owners(PlacementTable(placed=lane(0)), [a], []).level is WARNING
    assert fleet.judge_owners(PlacementTable(placed=lane(0)), [a], None).level is OK, (
        "no inventory here"
    )
    assert (
        fleet.judge_offsets(WorkerKind.NODE, PlacementTable(placed=lane(0)), {a: None}).level is OK
    ), "new"
    assert (
        fleet.judge_offsets(WorkerKind.NODE, PlacementTable(placed=lane(0, 5)), {a: None}).level
        is FAULT
    )
    assert fleet.judge_progress({a: 5}, {a: 5}, {a: 5 + fleet.MARKERS}, 1.5).level is OK, (
        "markers of transactions"
    )
    assert fleet.judge_progress({a: 5}, {a: 5}, {a: 6 + fleet.MARKERS}, 1.5).level is WARNING
    assert fleet.judge_progress({a: 5}, {a: 6}, {a: 600}, 1.5).level is OK
    assert fleet.judge_progress({a: None}, {a: None}, {a: 600}, 1.5).level is WARNING


# ---- who looks, and what is shown ----


def test_an_account_must_be_allowed_what_provisioning_gives_it() -> None:
    node, router, leader = Whom("node-a"), Whom("router-1"), Whom("geolane")
    assert (node.reads, node.writes) == (("events.lanes",), ("events.clean", "events.dead"))
    assert set(router.writes) == {"events.lanes", "events.unplaced", "events.dead"}
    assert {"placement", "events.dead"} <= set(leader.reads) & set(leader.writes)
    analytics = Whom("analytics-1")
    assert set(analytics.reads) == {"events.lanes", *TOPICS_OF_ANALYTICS, "geo.context"}
    assert set(analytics.writes) == set(TOPICS_OF_ANALYTICS)
    assert set(analytics.writes) <= set(leader.reads) & set(leader.writes)
    geo = Whom("geo-1")
    assert geo.reads == ("events.unplaced",)
    assert set(geo.writes) == {"events.raw", "events.dead", "geo.context"}
    assert set(geo.writes) <= set(leader.reads) & set(leader.writes)
    assert leader.groups == KINDS
    assert [x.groups for x in (node, router, analytics, geo)] == [(kind,) for kind in KINDS]
    assert (Whom("ana").reads, Whom("ana").groups) == ((), ())


def test_an_account_says_what_it_must_find() -> None:
    assert [Whom(a).role for a in ("geolane", "node-a", "router-1", "ana", "node")] == [
        Role.COORDINATOR,
        Role.NODE,
        Role.ROUTER,
        Role.PERSON,
        Role.PERSON,
    ]
    assert xmpp.expected_feeds(Whom("node-a"), [])["telemetry/node-a"][0] == "publish-only"
    assert set(xmpp.expected_feeds(Whom("geolane"), ["node-a"])) >= {
        "telemetry/node-a",
        "tuning",
        "fleet",
    }
    assert "tuning" not in xmpp.expected_feeds(Whom("ana"), ["node-a"])


def test_a_folder_of_passwords_stands_in_for_credentials(tmp_path: Path) -> None:
    """`--secrets` for an account whose password the settings do not name, as where systemd gives
    it."""
    (tmp_path / "acme").touch()
    shared = Settings(
        xmpp=Xmpp(password_file="x/geolane"), kafka=Kafka(security="SASL_SSL", username="acme")
    )
    made = with_passwords(shared, Whom("node-a"), tmp_path)
    assert (made.xmpp.password_file, made.kafka.password_file) == (
        f"{tmp_path}/node-a",
        f"{tmp_path}/acme",
    )
    assert with_passwords(shared, Whom("geolane"), tmp_path).xmpp.password_file == "x/geolane"
    assert with_passwords(shared, Whom("node-a"), None) == shared


def test_each_process_looks_with_its_own_account_at_kafka(tmp_path: Path) -> None:
    (tmp_path / "kafka-node-a").write_text("its own")
    own = Settings(kafka=Kafka(security="SASL_SSL", username="{account}"))
    made = with_passwords(own, Whom("node-a"), tmp_path).kafka
    assert (made.username, made.password_file) == ("node-a", str(tmp_path / "kafka-node-a"))


def test_one_verdict_for_many_is_the_gravest() -> None:
    assert merge_verdicts("fine", ok("a"), ok("b")) == ok("fine")
    assert merge_verdicts("fine", ok("a"), warning("b", "do b"), fault("c", "do c")) == fault(
        "b; c", "do b; do c"
    )


def test_what_was_skipped_for_one_reason_is_one_line() -> None:
    why = skipped("`kafka login` is at fault").found
    found = [
        Finding("kafka", "login", FAULT, "no", "do"),
        *(Finding("kafka", n, SKIPPED, why) for n in ("a", "b")),
    ]
    assert "  skipped  2 checks  not checked, because `kafka login` is at fault: a, b" in [
        *Report("x", found).to_text().replace("2 checks ", "2 checks ").splitlines()
    ]


def test_a_report_in_words_in_json_and_as_an_exit_code() -> None:
    found = [
        Finding("kafka", "login", OK, "as anybody"),
        Finding("kafka", "topics", FAULT, "two\nlines", "make it"),
        Finding("xmpp", "clock", SKIPPED, skipped("of this").found),
    ]
    report = Report("geolane", found)
    assert report.to_text().splitlines() == [
        "kafka",
        "  ok       login   as anybody",
        "  fault    topics  two | lines",
        "                   -> make it",
        "xmpp",
        "  skipped  clock   not checked, because of this",
        "as geolane: 1 ok, 1 fault, 1 skipped",
    ]
    assert (
        report.code,
        Report("a", found[:1]).code,
        Report("a", found, settings_wrong=True).code,
    ) == (1, 0, 2)
    assert '"counts":{"ok":1,"warning":0,"fault":1,"skipped":1}' in report.to_json()


def test_a_small_stack_of_ejabberds_is_a_warning() -> None:
    assert host.judge_stack(8192).level is OK
    verdict = host.judge_stack(host.STACK_USUAL)
    assert (verdict.level, "1 MB of stack" in verdict.found, "+sss 8192" in verdict.todo) == (
        WARNING,
        True,
        True,
    )


@pytest.mark.parametrize(
    ("min_ms", "tcp_ms", "between"),
    [
        (81.9, 0.1, True),
        (12.1, 0.1, True),
        (9.9, 0.1, False),  # a busy broker needs this long, too
        (150.0, 76.0, False),
        (150.0, 74.0, True),
        (80.0, 80.4, False),
        (80.0, None, False),
    ],
)
def test_a_gap_between_the_broker_and_tcp_is_told(
    min_ms: float, tcp_ms: float | None, between: bool
) -> None:
    trips = [RoundTrip(3, "c:1", min_ms + 0.5, min_ms, tcp_ms), RoundTrip(4, "d:1", 1, 1, 1)]
    said = kafka.judge_round_trips(trips, {}).found
    assert said.startswith("broker 4 1.0 ms, broker 3 ")
    assert ("broker 3 (c:1)" in said and "proxy" in said) is between


@pytest.mark.parametrize(
    ("metadata_ms", "level"), [(0.4, OK), (9.0, OK), (60.8, WARNING), (None, OK)]
)
def test_a_proxy_that_answers_probes_itself_is_a_warning(
    metadata_ms: float | None, level: Level
) -> None:
    trips = [RoundTrip(3, "c:1", 0.6, 0.3, 0.1, metadata_ms), RoundTrip(4, "d:1", 60, 60, 1, 61)]
    verdict = kafka.judge_round_trips(trips, {})
    assert verdict.level is level
    assert verdict.found.startswith("broker 3 0.6 ms, broker 4 60.0 ms")
    if level is WARNING:
        assert "broker 3 (c:1): probes are answered after 0.3 ms" in verdict.found
        assert "the broker answers after 60.8 ms" in verdict.found
        assert "answers ApiVersions itself" in verdict.todo


def test_many_brokers_are_told_in_a_line() -> None:
    trips = [RoundTrip(i, f"b{i}:1", 1.0 + i, 1.0 + i, 0.9 + i) for i in range(64)]
    assert kafka.judge_round_trips(trips, {}).found.endswith(", 56 more up to 64.0 ms")


def test_a_far_broker_with_small_buffers_is_told_with_what_passes() -> None:
    verdict = kafka.judge_buffers([FAR], [SMALL])
    assert "broker 2 is 150 ms away and has socket.send.buffer.bytes=102400" in verdict.found
    assert "at most 683 kB/s" in verdict.found
    assert "set socket.receive.buffer.bytes to -1" in verdict.todo


TWO_SITES = Inventory(
    {n: Site(n, 50.0, 8.0, region) for n, region in (("ams", "west"), ("fra", "west"))},
    {
        w.worker: w
        for n in ("ams", "fra")
        for w in (WorkerSpec(f"node-{n}", WorkerKind.NODE, n, 1.0),)
    },
)


def test_a_rack_that_names_no_site_is_told_with_what_to_set() -> None:
    verdict = kafka.judge_racks(
        TWO_SITES, {1: "ams", 2: "use1-az4", 3: "use1-az4", 4: "", 5: "west"}
    )
    assert verdict.level is WARNING
    assert 'broker 2, 3: rack "use1-az4" names no site' in verdict.found
    assert 'broker 5: rack "west" names no site' in verdict.found, "two sites are in that region"
    assert "broker 4: no rack" in verdict.found
    assert 'racks = ["use1-az4"]' in verdict.todo
    assert "set broker.rack to the site's name" in verdict.todo


def test_racks_that_name_sites_and_a_fleet_at_one_site_need_nothing() -> None:
    assert kafka.judge_racks(TWO_SITES, {1: "ams", 2: "fra"}) == ok("brokers are at ams, fra")
    one = msgspec.structs.replace(TWO_SITES, workers={"node-ams": TWO_SITES.workers["node-ams"]})
    assert kafka.judge_racks(one, {1: "", 2: "use1-az4"}).level is OK
