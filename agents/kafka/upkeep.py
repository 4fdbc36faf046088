"""Brings the topics to what the settings say: makes those that are missing, alters what may be altered, and refuses what may not,
before it changes anything. Twice is once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Literal

import aiokafka.errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient

from agents import settings
from agents.errors import KafkaError, KafkaUnavailable
from agents.kafka.admin import Topic, await_leaders, check_partitions, configs, create, fits, wrong
from agents.kafka.connection import BOUND_S, as_ours, client_kwargs
from agents.kafka.wire import IncrementalAlterConfigs

Did = Literal["made", "changed", "set", "there"]
Tell = Callable[[Did, str], None]

KEYS = (
    "message.timestamp.type", "cleanup.policy", "max.message.bytes", "retention.ms", "min.insync.replicas", "segment.ms",
    "min.cleanable.dirty.ratio",
)  # fmt: skip
"""What is altered where it is wrong, as far as the topic says anything of it."""


async def bring(kafka: settings.Kafka, wanted: tuple[Topic, ...], tell: Tell, *, dry: bool = False) -> None:
    """`kafka`: of an account that may Create, Describe, DescribeConfigs and AlterConfigs topics. `dry`: tell only.

    Raises KafkaError for what cannot be altered and for missing rights, KafkaUnavailable."""
    what = f"provision topics at {kafka.bootstrap}"
    admin: Any = AIOKafkaAdminClient(request_timeout_ms=10_000, **client_kwargs(kafka))  # Any: aiokafka has no types
    try:
        async with asyncio.timeout(3 * BOUND_S):
            await admin.start()
            brokers = len((await admin.describe_cluster())["brokers"])
            copies = kafka.topics.replication or min(3, brokers)
            if copies > brokers:
                raise KafkaError(
                    f"kafka.topics.replication is {copies}, and {kafka.bootstrap} has {brokers} brokers: lower it, or add brokers"
                )
            found = await _found(admin, wanted)
            _refuse(wanted, found, kafka.topics.replication)
            missing = tuple(t for t in wanted if t.name not in found)
            there = tuple(t for t in wanted if t.name in found)
            if missing and not dry:
                await create(admin, missing, copies, False)
                await check_partitions(admin, wanted)
            for topic in missing:
                tell("made", f"topic {topic.name}: partitions {topic.partitions}, copies {copies}")
            await _alter(admin, there, tell, dry)
        if missing and not dry:
            await await_leaders(kafka, missing)
    except TimeoutError as e:
        raise KafkaUnavailable(f"{what}: not done within {3 * BOUND_S:g} s") from e
    except kafka_errors.KafkaConnectionError as e:
        raise KafkaUnavailable(f"{what}: no broker let us in: wrong address, certificate or password?") from e
    except (kafka_errors.KafkaError, OSError) as e:
        raise as_ours(e, what) from e
    finally:
        await admin.close()


async def _found(admin: Any, wanted: tuple[Topic, ...]) -> dict[str, list[int]]:
    """The number of copies of each partition of the topics that are there."""
    found = {}
    for topic in await admin.describe_topics([t.name for t in wanted]):
        error = kafka_errors.for_code(topic["error_code"])
        if error is kafka_errors.UnknownTopicOrPartitionError:
            continue
        if error is not kafka_errors.NoError:
            raise error(topic["topic"])
        found[topic["topic"]] = [len(p["replicas"]) for p in topic["partitions"]]
    return found


def _refuse(wanted: tuple[Topic, ...], found: dict[str, list[int]], replication: int) -> None:
    for problem in _problems(wanted, found, replication):
        raise KafkaError(problem)


def _problems(wanted: tuple[Topic, ...], found: dict[str, list[int]], replication: int) -> Iterator[str]:
    for topic in wanted:
        copies = found.get(topic.name)
        if copies is None:
            continue
        if not fits(topic, len(copies)):
            yield (
                f"topic {topic.name} has {len(copies)} partitions, the settings say {topic.partitions}: correct coordinator.lanes "
                "or coordinator.raw_partitions. Another number would move keys between lanes: where that is wanted, drain "
                "the stream, delete the topic and provision again"
            )
        elif replication and set(copies) != {replication}:
            yield (
                f"topic {topic.name} has {min(copies)} copies, kafka.topics.replication says {replication}: correct it, or let "
                "kafka-reassign-partitions.sh --execute give its partitions other replicas"
            )


async def _alter(admin: Any, there: tuple[Topic, ...], tell: Tell, dry: bool) -> None:
    found = await configs(admin, [t.name for t in there]) if there else {}
    changes = {t.name: change for t in there if (change := wrong(t, found[t.name], KEYS))}
    if changes and not dry:
        response = await admin._send_request(IncrementalAlterConfigs(changes))
        for code, message, _, name in response.responses:
            if code:
                raise KafkaError(
                    f"topic {name} cannot be altered: {kafka_errors.for_code(code).__name__} {message or ''}"
                )
    for topic in there:
        change = changes.get(topic.name, {})
        words = ", ".join(f"{key} {found[topic.name].get(key, '')} -> {value}" for key, value in change.items())
        tell("changed" if change else "there", f"topic {topic.name}" + (f": {words}" if words else ""))
