"""Settings of topics that change while events flow: each only for a while, drawn from a seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from agents import settings
from agents.core.model.topology import TOPIC_CLEAN, TOPIC_DEAD, TOPIC_LANES, TOPIC_UNPLACED
from agents.kafka.connection import client_kwargs
from agents.kafka.topics import MAX_DEAD_BYTES, MAX_MESSAGE_BYTES
from agents.kafka.wire import IncrementalAlterConfigs

FOR_S, BETWEEN_S = 4.0, 4.0
USUAL = {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"}


@asynccontextmanager
async def changing(
    kafka: settings.Kafka, seed: int, say: Callable[[str], None]
) -> AsyncIterator[None]:
    """Something is changed every few seconds; all is as usual when this ends."""
    client: Any = AIOKafkaAdminClient(**client_kwargs(kafka))  # Any: aiokafka has no types
    await client.start()
    task = asyncio.create_task(_change(client, random.Random(seed), say))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        for topic in (TOPIC_CLEAN, TOPIC_LANES, TOPIC_DEAD, TOPIC_UNPLACED):
            await _alter(client, topic, _usual(topic))
        await client.close()


async def _change(client: Any, rng: random.Random, say: Callable[[str], None]) -> None:
    while True:
        topic = rng.choice((TOPIC_CLEAN, TOPIC_LANES, TOPIC_DEAD, TOPIC_UNPLACED))
        keys = rng.choice(
            (
                {"max.message.bytes": str(rng.choice((100, 1_000, 3_000, 20_000, 200_000)))},
                {"max.message.bytes": "3000"},
                {"cleanup.policy": "compact"},
                {"message.timestamp.type": "CreateTime"},
            )
        )
        say(f"{topic}: {keys}")
        await _alter(client, topic, keys)
        await asyncio.sleep(rng.uniform(0.5, FOR_S))
        await _alter(client, topic, _usual(topic))
        await asyncio.sleep(rng.uniform(0.5, BETWEEN_S))


def _usual(topic: str) -> dict[str, str]:
    large = MAX_DEAD_BYTES if topic == TOPIC_DEAD else MAX_MESSAGE_BYTES
    return USUAL | {"max.message.bytes": str(large)}


async def _alter(client: Any, topic: str, keys: dict[str, str]) -> None:
    response = await client._send_request(IncrementalAlterConfigs({topic: keys}))
    for code, message, *_ in response.responses:
        if code:
            raise ValueError(f"{topic}: {keys}: {message}")
