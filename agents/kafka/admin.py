"""The topics of PROTOCOL 1, made and checked: doing it twice changes nothing, and a topic that is there but wrong
is an error."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from agents import settings
from agents.core.model import (
    CLUSTER,
    TOPIC_CLEAN,
    TOPIC_DEAD,
    TOPIC_LANEMAP,
    TOPIC_LANES,
    TOPIC_PLACEMENT,
    TOPIC_RAW,
    TOPIC_REPLAYED,
    TOPIC_UNPLACED,
    Partition,
)
from agents.errors import KafkaError, KafkaUnavailable
from agents.kafka.connection import BOUND_S, as_ours, client_kwargs
from agents.kafka.offsets import Offsets

MIB = 1 << 20
MAX_MESSAGE_BYTES = 8 * MIB
"""The limit of a record (batch) on every topic; producers' `max_request_size` and consumers' fetches are raised with
it."""
MAX_DEAD_BYTES = MAX_MESSAGE_BYTES + MIB
"""`events.dead` takes whatever `events.raw` took, and the headers that say why."""

_SEGMENT = 10 * MIB  # above the largest record: a batch must fit into one segment
_COMPACTED = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.ms": str(10 * 60 * 1000)}


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic to be; `config` holds Kafka's own keys. `keep_mb` bounds each partition on the embedded broker's disk."""

    name: str
    partitions: int
    keep_mb: int
    config: dict[str, str] = field(default_factory=dict)

    def settings(self, embedded: bool) -> dict[str, str]:
        wanted = {
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
            "cleanup.policy": "delete",
        } | self.config
        if embedded:
            wanted["segment.bytes"] = str(_SEGMENT)
            if wanted["cleanup.policy"] == "delete":
                wanted["retention.bytes"] = str(self.keep_mb * MIB)
        return wanted


def topics(lanes: int, raw_partitions: int, of: settings.Topics | None = None) -> tuple[Topic, ...]:
    """The seven topics of PROTOCOL 1, and the marks of dead letters that went back; `of`: what the settings say of them."""
    of = of or settings.Topics()
    isr = {"min.insync.replicas": str(of.min_isr)} if of.min_isr else {}

    def kept(hours: float) -> dict[str, str]:
        return isr | ({"retention.ms": str(round(hours * 3_600_000))} if hours else {})

    return (
        Topic(TOPIC_RAW, raw_partitions, 256, kept(of.raw_retention_h)),
        Topic(TOPIC_LANES, lanes, 32, kept(of.lanes_retention_h)),
        Topic(TOPIC_CLEAN, lanes, 32, kept(of.clean_retention_h)),
        Topic(TOPIC_UNPLACED, 1, 128, kept(of.unplaced_retention_h)),
        Topic(TOPIC_DEAD, 1, 256, kept(of.dead_retention_h) | {"max.message.bytes": str(MAX_DEAD_BYTES)}),
        Topic(TOPIC_REPLAYED, 1, 0, isr | _COMPACTED),
        Topic(TOPIC_PLACEMENT, 1, 0, isr | _COMPACTED),
        Topic(TOPIC_LANEMAP, 1, 0, isr | _COMPACTED),
    )


async def provision_topics(kafka: settings.Kafka, lanes: int, raw_partitions: int, *, embedded: bool = False) -> None:
    """Make what is missing of the topics, then check all of them and wait until each partition has a leader.

    `embedded` also bounds their size on disk (3 GB in all with 32 lanes). Raises KafkaError for a topic that exists
    with another number of partitions or with settings under which records would be lost; KafkaUnavailable."""
    await provision(kafka, topics(lanes, raw_partitions, kafka.topics), embedded=embedded)


async def provision(kafka: settings.Kafka, wanted: tuple[Topic, ...], *, embedded: bool = False) -> None:
    """As `provision_topics`, for any topics."""
    admin: Any = AIOKafkaAdminClient(request_timeout_ms=10_000, **client_kwargs(kafka))
    try:
        async with asyncio.timeout(3 * BOUND_S):
            await admin.start()
            brokers = len((await admin.describe_cluster())["brokers"])
            await create(admin, wanted, kafka.topics.replication or min(3, brokers), embedded)
            await check_partitions(admin, wanted)
            await _check_settings(admin, wanted)
        await await_leaders(kafka, wanted)
    except TimeoutError as e:
        raise KafkaUnavailable(f"provision topics at {kafka.bootstrap}: not done within {3 * BOUND_S:g} s") from e
    except (kafka_errors.KafkaError, OSError) as e:
        raise as_ours(e, f"provision topics at {kafka.bootstrap}") from e
    finally:
        await admin.close()


async def create(admin: Any, wanted: tuple[Topic, ...], replicas: int, embedded: bool) -> None:
    new = [NewTopic(t.name, t.partitions, replicas, topic_configs=t.settings(embedded)) for t in wanted]
    response = await admin.create_topics(new, timeout_ms=10_000)
    for name, code, message in response.topic_errors:
        error = kafka_errors.for_code(code)
        if error not in (kafka_errors.NoError, kafka_errors.TopicAlreadyExistsError):
            raise KafkaError(f"topic {name} cannot be made: {error.__name__} {message or ''}".rstrip())


def fits(topic: Topic, partitions: int) -> bool:
    """Whether a topic that is there has as many as it must; of events.raw more are worked, too."""
    return partitions == topic.partitions or (topic.name == TOPIC_RAW and partitions > topic.partitions)


async def check_partitions(admin: Any, wanted: tuple[Topic, ...]) -> None:
    while True:
        found = {t["topic"]: len(t["partitions"]) for t in await admin.describe_topics([t.name for t in wanted])}
        if all(found.get(t.name) for t in wanted):
            break
        await asyncio.sleep(0.05)
    for topic in wanted:
        if not fits(topic, found[topic.name]):
            raise KafkaError(
                f"topic {topic.name} has {found[topic.name]} partitions, the settings say {topic.partitions}: "
                "correct coordinator.lanes or coordinator.raw_partitions (another number moves keys between lanes)"
            )


async def await_leaders(kafka: settings.Kafka, wanted: tuple[Topic, ...]) -> None:
    """Until every partition answers: a fresh one is in the metadata a moment before its leader takes requests."""
    offsets = Offsets(kafka, "geolane-provision")
    await offsets.start()
    try:
        await offsets.ends([Partition(f"{CLUSTER}/{t.name}", n) for t in wanted for n in range(t.partitions)])
    finally:
        await offsets.stop()


async def configs(admin: Any, names: list[str]) -> dict[str, dict[str, str]]:
    """Each topic's configuration in effect. Raises KafkaError when one may not be described."""
    found: dict[str, dict[str, str]] = {}
    for answer in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names]):
        for code, message, _, name, entries in answer.resources:
            if code:
                raise KafkaError(f"topic {name} cannot be described: {kafka_errors.for_code(code).__name__} {message}")
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


def wrong(topic: Topic, found: dict[str, str], keys: tuple[str, ...]) -> dict[str, str]:
    """Those of `keys` that are not as they must be, with what they must be; a size may be larger."""
    out = {}
    for key in keys:
        want, have = topic.settings(False).get(key), found.get(key, "")
        if want is not None and have != want and not (key == "max.message.bytes" and int(have or 0) >= int(want)):
            out[key] = want
    return out


async def _check_settings(admin: Any, wanted: tuple[Topic, ...]) -> None:
    """What would lose records if it were different: the time stamp's type, clean-up, and sizes below ours."""
    found = await configs(admin, [t.name for t in wanted])
    for topic in wanted:
        keys = ("message.timestamp.type", "cleanup.policy", "max.message.bytes")
        for key, want in wrong(topic, found[topic.name], keys).items():
            raise KafkaError(
                f"topic {topic.name}: {key} is {found[topic.name].get(key) or 'not set'}, it must be {want}; run: "
                f"geolane provision --only kafka, or kafka-configs.sh --alter --topic {topic.name} --add-config {key}={want}"
            )
