"""Kafka's limits against ours. A limit that loses records is a fault; one that may lose some later
is a warning."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agents.admin.doctor.judge.verdict import Verdict, fault, merge_verdicts, ok, skipped, warning
from agents.base.text import counted, to_one_line
from agents.core.model.inventory import Inventory, find_site_of_rack, find_unknown_racks
from agents.core.model.topology import TOPIC_GEO_CONTEXT, TOPIC_UNPLACED
from agents.kafka.topics import Topic, has_right_partitions, is_right_value
from agents.kafka.verification import BEFORE_4_0, UNREADABLE, BrokerLooked, find_danger
from agents.kafka.wire import Operation

HEADERS_BYTES = 64 << 10
"""Our headers and the record batch's own, around the largest event."""
FAR_MS, LARGE_BUFFER_BYTES = 10.0, 1 << 20
_NO_BROKER_CONFIG = (
    "this account may not read the broker's settings (ACL DescribeConfigs on the cluster)"
)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
OFFSETS_AT_LEAST_MIN = 24 * 60  # idle lanes' offsets are committed again daily (PROTOCOL 2.7)


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic as the brokers describe it. `replicas`, `in_sync`: their number for each partition.
    `leaderless`: partitions without a leader. `rights`: one bit per AclOperation; None if the
    broker does not report them. `config`: None if it may not be read."""

    partitions: int
    replicas: tuple[int, ...] = ()
    in_sync: tuple[int, ...] = ()
    leaderless: tuple[int, ...] = ()
    rights: int | None = None
    config: Mapping[str, str] | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Cluster:
    """`brokers`: id -> address. `topics`: by name, only those that exist. `racks`: by broker, empty
    if it has none."""

    brokers: Mapping[int, tuple[str, int]]
    topics: Mapping[str, TopicDescription]
    racks: Mapping[int, str] = field(default_factory=dict)


def _alter_command(topic: str, key: str, value: str) -> str:
    return f"kafka-configs.sh --alter --topic {topic} --add-config {key}={value}"


_APIS = ((75, "3.8"), (71, "3.7"), (65, "3.0"))
"""API keys, each with the version of Kafka that introduced it."""


def judge_version(apis: Collection[int]) -> Verdict:
    """`apis`: the keys of the requests that the broker answers. It does not report its version."""
    for key, number in _APIS:
        if key in apis:
            return ok(f"Kafka {number} or newer")
    return warning("Kafka is older than 3.0", "update the brokers to 3.6.1 or newer")


def judge_existence(wanted: Sequence[Topic], cluster: Cluster) -> Verdict:
    """Whether the topics exist with the right number of partitions."""
    verdicts = []
    for topic in wanted:
        seen = cluster.topics.get(topic.name)
        if seen is None:
            verdicts.append(
                fault(
                    f"{topic.name} is missing", "create it: run `geolane provision` or `geolane up`"
                )
            )
        elif seen.error:
            verdicts.append(
                fault(f"{topic.name}: {seen.error}", "let this account describe it (ACL Describe)")
            )
        elif not has_right_partitions(topic, seen.partitions):
            verdicts.append(
                fault(
                    f"{topic.name} has {seen.partitions} partitions, the settings say "
                    f"{topic.partitions}",
                    "correct coordinator.lanes or coordinator.raw_partitions (another number moves "
                    "keys between lanes)",
                )
            )
    return merge_verdicts(
        f"all {len(wanted)}, {sum(t.partitions for t in wanted)} partitions", *verdicts
    )


def judge_rights(reads: Sequence[str], writes: Sequence[str], cluster: Cluster) -> Verdict:
    """Whether this account may read and write the topics that it needs."""
    bad, known = [], 0
    for operation, names in ((Operation.READ, reads), (Operation.WRITE, writes)):
        for name in names:
            seen = cluster.topics.get(name)
            if seen is None or seen.rights is None:
                continue
            known += 1
            if not seen.rights >> operation & 1:
                bad.append(f"may not {operation.name.lower()} {name}")
    if bad:
        return fault(
            "; ".join(bad),
            "add the ACLs: kafka-acls.sh --add --allow-principal User:NAME --operation ... --topic "
            "...",
        )
    if not known:
        return skipped(
            "the broker does not report rights" if reads or writes else "people need none in Kafka"
        )
    return ok(f"{known} rights on topics, all as required")


def _topics_with_config(
    wanted: Sequence[Topic], cluster: Cluster
) -> list[tuple[Topic, Mapping[str, str]]]:
    return [
        (t, seen.config)
        for t in wanted
        if (seen := cluster.topics.get(t.name)) is not None and seen.config is not None
    ]


NO_CONFIG = "this account may not read the topics' settings (ACL DescribeConfigs)"


def judge_time_stamps(wanted: Sequence[Topic], cluster: Cluster) -> Verdict:
    """Every topic must use LogAppendTime. With an event's own time, Kafka deletes old data at once
    and latencies mean nothing."""
    topics = _topics_with_config(wanted, cluster)
    if not topics:
        return skipped(NO_CONFIG)
    key = "message.timestamp.type"
    return merge_verdicts(
        f"LogAppendTime on {len(topics)} topics",
        *(
            fault(
                f"{t.name} has {config.get(key, 'none')}",
                _alter_command(t.name, key, "LogAppendTime"),
            )
            for t, config in topics
            if config.get(key) != "LogAppendTime"
        ),
    )


def judge_sizes(wanted: Sequence[Topic], cluster: Cluster, max_event_bytes: int) -> Verdict:
    """`max_event_bytes`: the largest event that is processed; its headers come on top. Provisioning
    refuses to start below the size of PROTOCOL 1."""
    topics = _topics_with_config(wanted, cluster)
    if not topics:
        return skipped(NO_CONFIG)
    key, need = "max.message.bytes", max_event_bytes + HEADERS_BYTES
    verdicts = []
    for t, config in topics:
        have, ours = int(config.get(key, "0")), t.wanted_config(False)[key]
        todo = _alter_command(t.name, key, ours)
        if have < need:
            verdicts.append(
                fault(
                    f"{t.name} takes {have:,} bytes, an event may have {need:,} with headers", todo
                )
            )
        elif have < int(ours):
            verdicts.append(
                warning(f"{t.name} takes {have:,} bytes, it should {int(ours):,}", todo)
            )
    return merge_verdicts(f"records of {need:,} bytes fit everywhere", *verdicts)


def judge_retention(wanted: Sequence[Topic], cluster: Cluster, wait_h: float = 0.0) -> Verdict:
    """Clean-up: tables must be compacted and streams deleted, neither too soon nor never. `wait_h`:
    how long events may wait in events.unplaced."""
    topics = _topics_with_config(wanted, cluster)
    if not topics:
        return skipped(NO_CONFIG)
    verdicts = []
    for t, config in topics:
        policy, have = (
            t.wanted_config(False)["cleanup.policy"],
            config.get("cleanup.policy", "none"),
        )
        if not is_right_value("cleanup.policy", have, policy):
            verdicts.append(
                fault(
                    f"{t.name}: cleanup.policy is {have}",
                    _alter_command(t.name, "cleanup.policy", policy),
                )
            )
            continue
        if t.name == TOPIC_GEO_CONTEXT:
            verdicts += _judge_short_retention(t, config)
        elif policy == "delete":
            ms = int(config.get("retention.ms", "-1"))
            size = int(config.get("retention.bytes", "-1"))
            verdicts.append(_judge_stream_retention(t.name, ms, size))
            if t.name == TOPIC_UNPLACED and 0 <= ms < wait_h * HOUR_MS:
                verdicts.append(_warn_of_wait(ms, wait_h))
    return merge_verdicts(f"{len(topics)} topics compacted or deleted as required", *verdicts)


def _judge_short_retention(topic: Topic, config: Mapping[str, str]) -> Iterator[Verdict]:
    """Kafka deletes a record with its segment: both have to be short."""
    for key in ("retention.ms", "segment.ms"):
        have, most = int(config.get(key, "-1")), int(topic.config[key])
        if not 0 <= have <= most:
            kept = f"for {have / 60_000:,.0f} minutes" if have >= 0 else "without limit"
            yield warning(
                f"{topic.name} keeps records ({key}) {kept}: some providers of maps allow "
                "temporary copies only",
                _alter_command(topic.name, key, str(most)),
            )


def _warn_of_wait(ms: int, wait_h: float) -> Verdict:
    return warning(
        f"{TOPIC_UNPLACED} keeps events for {ms / HOUR_MS:,.0f} h, and geo.wait_h lets them wait "
        f"for {wait_h:,.0f} h: Kafka deletes them before they become dead letters",
        "lower geo.wait_h, or run "
        + _alter_command(TOPIC_UNPLACED, "retention.ms", str(round(2 * wait_h * HOUR_MS))),
    )


def _judge_stream_retention(topic: str, ms: int, size: int) -> Verdict:
    if ms < 0 and size < 0:
        return warning(
            f"{topic} is kept without limit: the disk will fill",
            _alter_command(topic, "retention.ms", str(7 * DAY_MS)),
        )
    if 0 <= ms < DAY_MS:
        said = (
            f"{topic} is kept for {ms / 60_000:,.0f} minutes: what is not processed by then is lost"
        )
        return (fault if ms < HOUR_MS else warning)(
            said, _alter_command(topic, "retention.ms", str(7 * DAY_MS))
        )
    return ok(topic)


def judge_replicas(wanted: Sequence[Topic], cluster: Cluster) -> Verdict:
    """The number of copies of each partition, and whether they are in sync."""
    verdicts, brokers = [], len(cluster.brokers)
    for t in wanted:
        if (seen := cluster.topics.get(t.name)) is None or seen.error:
            continue
        if seen.leaderless:
            verdicts.append(
                fault(
                    f"{t.name}: {len(seen.leaderless)} partitions have no leader",
                    "start the missing brokers",
                )
            )
        behind = sum(have < want for have, want in zip(seen.in_sync, seen.replicas, strict=True))
        if behind:
            verdicts.append(
                warning(
                    f"{t.name}: {behind} partitions are under-replicated",
                    "look at the brokers' logs",
                )
            )
        copies = min(seen.replicas, default=1)
        if copies == 1 and brokers > 1:
            verdicts.append(
                warning(
                    f"{t.name} has only one copy, on {brokers} brokers",
                    "raise its replication factor: kafka-reassign-partitions.sh",
                )
            )
        config = seen.config or {}
        least = int(config.get("min.insync.replicas", "1"))
        if least > copies:
            verdicts.append(
                fault(
                    f"{t.name}: min.insync.replicas is {least}, but there are {copies} copies: "
                    "nothing can be written",
                    _alter_command(t.name, "min.insync.replicas", str(max(1, copies - 1))),
                )
            )
        elif copies >= 3 and least < 2:
            verdicts.append(
                warning(
                    f"{t.name}: min.insync.replicas is 1",
                    _alter_command(t.name, "min.insync.replicas", "2"),
                )
            )
        if config.get("unclean.leader.election.enable") == "true" and brokers > 1:
            verdicts.append(
                warning(
                    f"{t.name}: a broker that is behind may become leader, and records are lost",
                    _alter_command(t.name, "unclean.leader.election.enable", "false"),
                )
            )
    copies = min((min(s.replicas, default=1) for s in cluster.topics.values()), default=1)
    return merge_verdicts(
        f"{counted(copies, 'copy', 'copies')} on {counted(brokers, 'broker')}, all in sync",
        *verdicts,
    )


def judge_limits(found: Mapping[str, str] | None, transaction_timeout_ms: int) -> Verdict:
    """The broker's own settings. `transaction_timeout_ms`: the time-out that we request."""
    if found is None:
        return skipped(_NO_BROKER_CONFIG)
    verdicts = []
    most = int(found.get("transaction.max.timeout.ms", "900000"))
    if most < transaction_timeout_ms:
        verdicts.append(
            fault(
                f"transaction.max.timeout.ms is {most}, coordinator.transaction_timeout_ms is "
                f"{transaction_timeout_ms}: no lease",
                f"set the broker's to {transaction_timeout_ms} or more, or lower ours",
            )
        )
    minutes = int(found.get("offsets.retention.minutes", "10080"))
    if minutes < OFFSETS_AT_LEAST_MIN:
        verdicts.append(
            fault(
                f"offsets.retention.minutes is {minutes}: idle lanes' offsets expire",
                f"set it to {OFFSETS_AT_LEAST_MIN} or more (10080 is Kafka's default)",
            )
        )
    if found.get("auto.create.topics.enable") == "true":
        verdicts.append(
            warning(
                "auto.create.topics.enable is true: a misspelt topic is created, with wrong "
                "settings",
                "set it to false on the brokers",
            )
        )
    return merge_verdicts(
        f"transactions of {most / 1000:,.0f} s, offsets kept for {minutes // 1440} days", *verdicts
    )


def judge_verification(brokers: Sequence[BrokerLooked]) -> Verdict:
    """Whether a request that arrives late is kept out of the next transaction. On a fault the
    coordinator refuses to lead, and dead letters cannot be replayed."""
    if (wrong := find_danger(brokers)) is not None:
        return fault(*wrong)
    if any(b.verifies is None for b in brokers):
        return skipped(UNREADABLE)
    if any(b.before_4_0 for b in brokers):
        return warning(BEFORE_4_0, "update the brokers to 4.0 or newer")
    if any(b.could_do_better for b in brokers):
        return warning(
            "transaction.version is below 2: an unanswered request costs a worker its lease",
            "once all brokers are 4.0 or newer: kafka-features.sh upgrade --feature "
            "transaction.version=2",
        )
    level = min(b.transaction_version for b in brokers)
    return ok(f"{counted(len(brokers), 'broker')} verify transactions, of version {level}")


def judge_addresses(all_of_them: Mapping[str, str]) -> Verdict:
    """`all_of_them`: HOST:PORT -> why it could not be reached; empty if it could."""
    away = {address: why for address, why in all_of_them.items() if why}
    if not away:
        return ok(", ".join(all_of_them))
    said = "; ".join(f"{address}: {why}" for address, why in away.items())
    if len(away) == len(all_of_them):
        return fault(said, "start Kafka, correct kafka.bootstrap, or open the firewall")
    return warning(said, "start that broker, or correct kafka.bootstrap")


def judge_listeners(all_of_them: Mapping[str, str]) -> Verdict:
    """As `judge_addresses`, for the addresses that the brokers advertise to clients."""
    away = {address: why for address, why in all_of_them.items() if why}
    if not away:
        return ok(
            f"{len(all_of_them)} reached at their advertised addresses: {', '.join(all_of_them)}"
        )
    said = "; ".join(f"{address} is advertised, but {why}" for address, why in away.items())
    return fault(said, "correct advertised.listeners on that broker, or its name (DNS) here")


def judge_racks(inventory: Inventory, racks: Mapping[int, str]) -> Verdict:
    """Whether the brokers' racks name sites of the inventory. `racks`: by broker."""
    verdicts = []
    for rack, brokers in find_unknown_racks(inventory, racks).items():
        few = ", ".join(map(str, brokers[:NAMED_AT_MOST]))
        named = f"broker {few}" + (" and more" if brokers[NAMED_AT_MOST:] else "")
        if rack:
            shown = to_one_line(rack, 40)
            found = f'{named}: rack "{shown}" names no site of the inventory'
            todo = f'add it to the [[site]] where it is: racks = ["{shown}"]'
        else:
            found = f"{named}: no rack, so its site is not known"
            todo = "set broker.rack to the site's name in its server.properties, and restart it"
        verdicts.append(warning(found, todo))
    sites = sorted({s for rack in racks.values() if (s := find_site_of_rack(inventory, rack))})
    return merge_verdicts(
        f"brokers are at {', '.join(sites[:NAMED_AT_MOST])}"
        if sites
        else "all nodes are at one site",
        *verdicts,
    )


NAMED_AT_MOST = 8
GAP_MS, GAP_SHARE = 10.0, 0.5
"""A broker is behind something if TCP's round trip is shorter by more than both."""


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """To one broker, from here. `rtt_ms`, `min_ms`: of requests that it answers at once, median and
    minimum, as workers' probes are. `tcp_ms`: the least that TCP saw on the same connection; None
    if the system does not tell. `metadata_ms`: the minimum for another such request, which a proxy
    that answers probes itself still passes on; None if it was not measured."""

    broker: int
    address: str
    rtt_ms: float
    min_ms: float
    tcp_ms: float | None
    metadata_ms: float | None = None

    @property
    def behind_something(self) -> bool:
        return self.tcp_ms is not None and _is_much_below(self.tcp_ms, self.min_ms)

    @property
    def answered_on_the_way(self) -> bool:
        return self.metadata_ms is not None and _is_much_below(self.min_ms, self.metadata_ms)


def _is_much_below(ms: float, other_ms: float) -> bool:
    return other_ms - ms > max(GAP_MS, GAP_SHARE * other_ms)


def judge_round_trips(found: Sequence[RoundTrip], silent: Mapping[str, str]) -> Verdict:
    """`silent`: address -> why it did not answer. What lies between is told, and is no warning:
    placement rests on the brokers' own answers. It is one if it answers in their place."""
    near_first = sorted(found, key=lambda trip: trip.rtt_ms)
    texts = [f"broker {x.broker} {x.rtt_ms:.1f} ms" for x in near_first[:NAMED_AT_MOST]]
    if near_first[NAMED_AT_MOST:]:
        texts.append(f"{len(near_first) - NAMED_AT_MOST} more up to {near_first[-1].rtt_ms:.1f} ms")
    between = [x for x in near_first if x.behind_something]
    said = ", ".join(texts)
    if between:
        x = between[0]
        said += (
            f"; broker {x.broker} ({x.address}) answers after {x.min_ms:.1f} ms at least, but TCP "
            f"reaches only as far as {x.tcp_ms:.1f} ms: a proxy, load balancer or TLS terminator "
            "is between, or the broker is overloaded"
        )
        if between[1:]:
            said += f"; {counted(len(between) - 1, 'more broker')} likewise"
    answered = [x for x in near_first if x.answered_on_the_way]
    verdicts = [
        warning(
            f"broker {x.broker} ({x.address}): probes are answered after {x.min_ms:.1f} ms, but "
            f"the broker answers after {x.metadata_ms:.1f} ms",
            "a proxy on the way answers ApiVersions itself, so workers behind it report too short "
            "round trips: let it pass them on, or connect workers to the broker without it",
        )
        for x in answered[:NAMED_AT_MOST]
    ]
    verdicts += [
        warning(f"{address}: {why}", "look at that broker's log and load")
        for address, why in list(silent.items())[:NAMED_AT_MOST]
    ]
    merged = merge_verdicts(said, *verdicts)
    return merged if not (verdicts and said) else replace(merged, found=f"{said}; {merged.found}")


def judge_buffers(far: Sequence[RoundTrip], configs: Sequence[Mapping[str, str] | None]) -> Verdict:
    """Whether the brokers that are `far` from here have socket buffers large enough for the
    distance. `configs`: their own settings; None where they may not be read."""
    verdicts = []
    for trip, config in zip(far, configs, strict=True):
        away = f"broker {trip.broker} is {trip.min_ms:.0f} ms away"
        if config is None:
            verdicts.append(skipped(f"{away}, and {_NO_BROKER_CONFIG}"))
            continue
        for key in ("socket.send.buffer.bytes", "socket.receive.buffer.bytes"):
            size = int(config.get(key, "-1"))
            if 0 <= size < LARGE_BUFFER_BYTES:
                verdicts.append(
                    warning(
                        f"{away} and has {key}={size}: at most {size / trip.min_ms:,.0f} kB/s in "
                        "one direction",
                        f"set {key} to -1 (the system's) or {LARGE_BUFFER_BYTES} in its "
                        "server.properties, and restart it",
                    )
                )
    if not far:
        return ok(f"no broker is farther than {FAR_MS:g} ms")
    return merge_verdicts(
        f"large at {counted(len(far), 'broker')} farther than {FAR_MS:g} ms", *verdicts
    )
