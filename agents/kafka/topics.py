"""Creates and checks the topics of PROTOCOL 1; doing it twice changes nothing.

`ensure_topics` creates missing topics and refuses existing ones that differ. `reconcile_topics`
also alters the configuration keys that may be altered, and refuses everything else before it
changes anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

from agents import settings
from agents.base.errors import KafkaError, KafkaUnavailable
from agents.base.progress import ReportStep
from agents.core.model.topology import (
    MAIN,
    TOPIC_CLEAN,
    TOPIC_DEAD,
    TOPIC_GEO_CONTEXT,
    TOPIC_HOTSPOT_STATE,
    TOPIC_HOTSPOTS,
    TOPIC_LANEMAP,
    TOPIC_LANES,
    TOPIC_PLACEMENT,
    TOPIC_RAW,
    TOPIC_REPLAYED,
    TOPIC_RISES,
    TOPIC_UNPLACED,
    Partition,
)
from agents.kafka.connection import BOUND_S, client_kwargs, to_geolane_error
from agents.kafka.offsets import Offsets
from agents.kafka.wire import IncrementalAlterConfigs

MIB = 1 << 20
MAX_MESSAGE_BYTES = 8 * MIB
"""The limit of a record (batch) on every topic but `events.dead`; producers' `max_request_size` and
consumers' fetch sizes must be raised with it."""
MAX_DEAD_BYTES = MAX_MESSAGE_BYTES + MIB
"""`events.dead` takes every record of `events.raw`, with more headers that give the reason."""

_SEGMENT = 10 * MIB  # above the largest record, since a batch must fit into one segment
_COMPACTED = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.1",
    "segment.ms": str(10 * 60 * 1000),
}
_WEEK_MS = 7 * 24 * 3_600_000
_SHORT = {"retention.ms": str(15 * 60 * 1000), "segment.ms": str(5 * 60 * 1000)}
"""Providers of maps allow temporary copies only: Kafka deletes a record within about 20 minutes."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it must be. `config` has Kafka's own keys. `keep_mb` bounds each partition on the
    embedded broker's disk."""

    name: str
    partitions: int
    keep_mb: int
    config: dict[str, str] = field(default_factory=dict)

    def wanted_config(self, embedded: bool) -> dict[str, str]:
        """Kafka's settings that it must have. `embedded`: also those that bound its size on
        disk."""
        wanted = {
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
            "cleanup.policy": "delete",
        } | self.config
        if embedded:
            wanted["segment.bytes"] = str(_SEGMENT)
            if "delete" in wanted["cleanup.policy"].split(","):
                wanted["retention.bytes"] = str(self.keep_mb * MIB)
        return wanted


def fleet_topics(
    lanes: int, raw_partitions: int, of: settings.Topics | None = None
) -> tuple[Topic, ...]:
    """The seven topics of PROTOCOL 1, the one with the marks of replayed dead letters, those of
    analytics (its hotspots, every rise, and its state), and what geo workers tell of places.
    `of`: their settings."""
    of = of or settings.Topics()
    isr = {"min.insync.replicas": str(of.min_isr)} if of.min_isr else {}

    def kept(hours: float) -> dict[str, str]:
        return isr | ({"retention.ms": str(round(hours * 3_600_000))} if hours else {})

    return (
        Topic(TOPIC_RAW, raw_partitions, 256, kept(of.raw_retention_h)),
        Topic(TOPIC_LANES, lanes, 32, kept(of.lanes_retention_h)),
        Topic(TOPIC_CLEAN, lanes, 32, kept(of.clean_retention_h)),
        Topic(TOPIC_UNPLACED, 1, 128, kept(of.unplaced_retention_h)),
        Topic(
            TOPIC_DEAD,
            1,
            256,
            kept(of.dead_retention_h) | {"max.message.bytes": str(MAX_DEAD_BYTES)},
        ),
        Topic(TOPIC_REPLAYED, 1, 0, isr | _COMPACTED),
        Topic(TOPIC_PLACEMENT, 1, 0, isr | _COMPACTED),
        Topic(TOPIC_LANEMAP, 1, 0, isr | _COMPACTED),
        # The last record of each hotspot, for a week.
        Topic(
            TOPIC_HOTSPOTS,
            1,
            32,
            isr | _COMPACTED | {"cleanup.policy": "compact,delete", "retention.ms": str(_WEEK_MS)},
        ),
        Topic(TOPIC_RISES, 1, 32, isr | {"retention.ms": str(_WEEK_MS)}),
        Topic(TOPIC_HOTSPOT_STATE, 1, 0, isr | _COMPACTED),
        Topic(TOPIC_GEO_CONTEXT, 1, 32, isr | _SHORT),
    )


async def provision_topics(
    kafka: settings.Kafka, lanes: int, raw_partitions: int, *, embedded: bool = False
) -> None:
    """Create the missing topics, then check all of them and wait until each partition has a leader.

    `embedded` also bounds their size on disk (3 GB in all with 32 lanes). Raises KafkaError if a
    topic exists with another number of partitions or with settings under which records would be
    lost; KafkaUnavailable."""
    await ensure_topics(kafka, fleet_topics(lanes, raw_partitions, kafka.topics), embedded=embedded)


async def ensure_topics(
    kafka: settings.Kafka, wanted: tuple[Topic, ...], *, embedded: bool = False
) -> None:
    """As `provision_topics`, for any topics."""
    async with _open_admin_client(kafka) as (admin, copies, _):
        await create_topics(admin, wanted, copies, embedded)
        await check_partitions(admin, wanted)
        await _check_settings(admin, wanted)
        await await_leaders(kafka, wanted)


@asynccontextmanager
async def _open_admin_client(kafka: settings.Kafka) -> AsyncIterator[tuple[Any, int, int]]:
    """An admin client, the number of replicas of a new topic and the number of brokers. What is
    done with them has a bound. Raises KafkaUnavailable, KafkaError."""
    what = f"provision topics at {kafka.bootstrap}"
    admin: Any = AIOKafkaAdminClient(request_timeout_ms=10_000, **client_kwargs(kafka))
    try:
        async with asyncio.timeout(3 * BOUND_S):
            await admin.start()
            brokers = len((await admin.describe_cluster())["brokers"])
            yield admin, kafka.topics.replication or min(3, brokers), brokers
    except TimeoutError as e:
        raise KafkaUnavailable(f"{what}: not done within {3 * BOUND_S:g} s") from e
    except kafka_errors.KafkaConnectionError as e:
        raise KafkaUnavailable(
            f"{what}: no broker accepted our login: check address, certificate and password"
        ) from e
    except (kafka_errors.KafkaError, OSError) as e:
        raise to_geolane_error(e, what) from e
    finally:
        await admin.close()


async def create_topics(
    admin: Any, wanted: tuple[Topic, ...], replicas: int, embedded: bool
) -> None:
    """Create those that are missing. Raises KafkaError."""
    new = [
        NewTopic(t.name, t.partitions, replicas, topic_configs=t.wanted_config(embedded))
        for t in wanted
    ]
    response = await admin.create_topics(new, timeout_ms=10_000)
    for name, code, message in response.topic_errors:
        error = kafka_errors.for_code(code)
        if error not in (kafka_errors.NoError, kafka_errors.TopicAlreadyExistsError):
            raise KafkaError(
                f"topic {name} cannot be made: {error.__name__} {message or ''}".rstrip()
            )


def has_right_partitions(topic: Topic, partitions: int) -> bool:
    """Whether an existing topic has the right number of partitions. `events.raw` and
    `events.unplaced` may have more, and they are worked too."""
    return partitions == topic.partitions or (
        topic.name in (TOPIC_RAW, TOPIC_UNPLACED) and partitions > topic.partitions
    )


async def check_partitions(admin: Any, wanted: tuple[Topic, ...]) -> None:
    """Wait until all are in the metadata, and compare their numbers of partitions. Raises
    KafkaError."""
    while True:
        found = {
            t["topic"]: len(t["partitions"])
            for t in await admin.describe_topics([t.name for t in wanted])
        }
        if all(found.get(t.name) for t in wanted):
            break
        await asyncio.sleep(0.05)
    for topic in wanted:
        if not has_right_partitions(topic, found[topic.name]):
            raise KafkaError(
                f"topic {topic.name} has {found[topic.name]} partitions, the settings say "
                f"{topic.partitions}: "
                "correct coordinator.lanes or coordinator.raw_partitions (another number moves "
                "keys between lanes)"
            )


async def await_leaders(kafka: settings.Kafka, wanted: tuple[Topic, ...]) -> None:
    """Wait until every partition answers: a new one is in the metadata a moment before its leader
    takes requests."""
    offsets = Offsets(kafka, "geolane-provision")
    await offsets.start()
    try:
        await offsets.read_end_offsets(
            [Partition(f"{MAIN}/{t.name}", n) for t in wanted for n in range(t.partitions)]
        )
    finally:
        await offsets.stop()


async def read_configs(admin: Any, names: list[str]) -> dict[str, dict[str, str]]:
    """Each topic's configuration in effect. Raises KafkaError if a topic cannot be described."""
    found: dict[str, dict[str, str]] = {}
    for answer in await admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    ):
        for code, message, _, name, entries in answer.resources:
            if code:
                raise KafkaError(
                    f"topic {name} cannot be described: {kafka_errors.for_code(code).__name__} "
                    f"{message}"
                )
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


def find_wrong_settings(
    topic: Topic, found: dict[str, str], keys: tuple[str, ...]
) -> dict[str, str]:
    """The `keys` whose value is wrong, with the right value."""
    wanted = topic.wanted_config(False)
    return {
        key: wanted[key]
        for key in keys
        if key in wanted and not is_right_value(key, found.get(key, ""), wanted[key])
    }


def is_right_value(key: str, have: str, want: str) -> bool:
    """Whether a topic's key has a right value: `max.message.bytes` may be larger, and the order of
    clean-up policies does not matter."""
    if key == "max.message.bytes":
        return int(have or 0) >= int(want)
    if key == "cleanup.policy":
        return set(have.split(",")) == set(want.split(","))
    return have == want


async def _check_settings(admin: Any, wanted: tuple[Topic, ...]) -> None:
    """Raise KafkaError for a setting that would lose records: another type of time stamp or
    clean-up policy, or too small a size."""
    found = await read_configs(admin, [t.name for t in wanted])
    for topic in wanted:
        keys = ("message.timestamp.type", "cleanup.policy", "max.message.bytes")
        for key, want in find_wrong_settings(topic, found[topic.name], keys).items():
            raise KafkaError(
                f"topic {topic.name}: {key} is {found[topic.name].get(key) or 'not set'}, it must "
                f"be {want}; run: "
                f"geolane provision --only kafka, or kafka-configs.sh --alter --topic {topic.name} "
                f"--add-config {key}={want}"
            )


# Metadata, version 8: it has our rights on each topic and does not create missing topics. aiokafka
# stops at version 5 and lets the broker create the topics that it asks for. Source: Kafka's
# MetadataRequest.json, KIP-430.

NOT_TOLD = -(1 << 31)
"""The answer of a broker that does not tell our rights."""


class MetadataResponse_v8(Response):  # type: ignore[misc]  # aiokafka has no types; its form of name
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            Array(
                ("node_id", Int32),
                ("host", String("utf-8")),
                ("port", Int32),
                ("rack", String("utf-8")),
            ),
        ),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("authorized_operations", Int32),
    )


class MetadataRequest_v8(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = MetadataResponse_v8
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class DescribeTopics(Request[MetadataRequest_v8]):  # type: ignore[misc]
    """Metadata of these topics; send it with `Link.send_request`."""

    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: Any) -> Any:  # Any: aiokafka has no types
        return request_struct_class(self._topics, False, False, True)


# Bringing topics to what the settings say

KEYS = (
    "message.timestamp.type",
    "cleanup.policy",
    "max.message.bytes",
    "retention.ms",
    "min.insync.replicas",
    "segment.ms",
    "min.cleanable.dirty.ratio",
)
"""The keys that `reconcile_topics` alters where they are wrong, if the topic has a value for
them."""


async def reconcile_topics(
    kafka: settings.Kafka, wanted: tuple[Topic, ...], tell: ReportStep, *, dry: bool = False
) -> None:
    """Create missing topics and alter wrong configurations, and `tell` each step; `dry`: only tell.
    The account of `kafka` needs Create, Describe, DescribeConfigs and AlterConfigs on topics.

    Raises KafkaError for a difference that cannot be altered and for missing rights;
    KafkaUnavailable."""
    async with _open_admin_client(kafka) as (admin, copies, brokers):
        if copies > brokers:
            raise KafkaError(
                f"kafka.topics.replication is {copies}, and {kafka.bootstrap} has {brokers} "
                "brokers: lower it, or add brokers"
            )
        found = await _read_replica_counts(admin, wanted)
        # Before the first change, so that a refusal leaves everything as it was.
        _raise_first_problem(wanted, found, kafka.topics.replication)
        missing = tuple(t for t in wanted if t.name not in found)
        there = tuple(t for t in wanted if t.name in found)
        if missing and not dry:
            await create_topics(admin, missing, copies, False)
            await check_partitions(admin, wanted)
        for topic in missing:
            tell("made", f"topic {topic.name}: partitions {topic.partitions}, copies {copies}")
        await _alter_configs(admin, there, tell, dry)
        if missing and not dry:
            await await_leaders(kafka, missing)


async def _read_replica_counts(admin: Any, wanted: tuple[Topic, ...]) -> dict[str, list[int]]:
    """The number of replicas of each partition, for the topics that exist."""
    found = {}
    for topic in await admin.describe_topics([t.name for t in wanted]):
        error = kafka_errors.for_code(topic["error_code"])
        if error is kafka_errors.UnknownTopicOrPartitionError:
            continue
        if error is not kafka_errors.NoError:
            raise error(topic["topic"])
        found[topic["topic"]] = [len(p["replicas"]) for p in topic["partitions"]]
    return found


def _raise_first_problem(
    wanted: tuple[Topic, ...], found: dict[str, list[int]], replication: int
) -> None:
    for problem in _find_problems(wanted, found, replication):
        raise KafkaError(problem)


def _find_problems(
    wanted: tuple[Topic, ...], found: dict[str, list[int]], replication: int
) -> Iterator[str]:
    for topic in wanted:
        copies = found.get(topic.name)
        if copies is None:
            continue
        if not has_right_partitions(topic, len(copies)):
            yield (
                f"topic {topic.name} has {len(copies)} partitions, the settings say "
                f"{topic.partitions}: correct coordinator.lanes "
                "or coordinator.raw_partitions. Another number would move keys between lanes: "
                "if that is wanted, drain "
                "the stream, delete the topic and provision again"
            )
        elif replication and set(copies) != {replication}:
            yield (
                f"topic {topic.name} has {min(copies)} copies, kafka.topics.replication says "
                f"{replication}: correct it, or let "
                "kafka-reassign-partitions.sh --execute give its partitions other replicas"
            )


async def _alter_configs(admin: Any, there: tuple[Topic, ...], tell: ReportStep, dry: bool) -> None:
    found = await read_configs(admin, [t.name for t in there]) if there else {}
    changes = {
        t.name: change for t in there if (change := find_wrong_settings(t, found[t.name], KEYS))
    }
    if changes and not dry:
        response = await admin._send_request(IncrementalAlterConfigs(changes))
        for code, message, _, name in response.responses:
            if code:
                raise KafkaError(
                    f"topic {name} cannot be altered: {kafka_errors.for_code(code).__name__} "
                    f"{message or ''}"
                )
    for topic in there:
        change = changes.get(topic.name, {})
        words = ", ".join(
            f"{key} {found[topic.name].get(key, '')} -> {value}" for key, value in change.items()
        )
        tell(
            "changed" if change else "unchanged",
            f"topic {topic.name}" + (f": {words}" if words else ""),
        )
