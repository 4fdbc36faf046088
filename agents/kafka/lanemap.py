"""The topic `lanemap`: every version that was ever published stays readable, the highest holds (PROTOCOL 2.12)."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError as AnyKafkaError

from agents import settings
from agents.core.lanemap import LaneMap
from agents.core.model import TOPIC_LANEMAP
from agents.errors import SettingsError
from agents.kafka.connection import BOUND_S, as_ours, client_kwargs
from agents.kafka.tables import read_table


async def publish(kafka: settings.Kafka, lanemap: LaneMap, *, topic: str = TOPIC_LANEMAP) -> None:
    """Write `lanemap` under its version; writing the same again is harmless.

    Raises SettingsError when that version is there with other content (routers may hold it), KafkaUnavailable."""
    key, value = str(lanemap.version).encode(), lanemap.encode()
    there = (await read_table(kafka, topic, _is_map)).get(key)
    if there == value:
        return
    if there is not None:
        raise SettingsError(f"lane map: version {lanemap.version} is published with other content; choose a higher one")
    producer: Any = AIOKafkaProducer(acks="all", enable_idempotence=True, **client_kwargs(kafka))  # Any: no types
    try:
        async with asyncio.timeout(BOUND_S):
            await producer.start()
            await producer.send_and_wait(topic, value, key)
    except (AnyKafkaError, OSError, TimeoutError) as e:
        raise as_ours(e, f"publish lane map {lanemap.version}") from e
    finally:
        await producer.stop()


async def newest(kafka: settings.Kafka, *, topic: str = TOPIC_LANEMAP) -> LaneMap | None:
    """The map that holds; None before the first is published. What is not a lane map is passed over.
    Raises KafkaUnavailable."""
    rows = await read_table(kafka, topic, _is_map)
    versions = {int(key): value for key, value in rows.items()}
    return LaneMap.decode(versions[max(versions)]) if versions else None


def _is_map(key: bytes, value: bytes | None) -> bool:
    try:
        return value is not None and str(LaneMap.decode(value).version).encode() == key
    except SettingsError:
        return False
