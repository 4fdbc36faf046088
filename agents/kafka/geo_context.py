"""Writes to the topic geo.context what a geo worker has learnt. These are copies for readers: one
that cannot be written now is dropped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NoReturn

import aiokafka.errors as kafka_errors
from aiokafka import AIOKafkaProducer

from agents import settings
from agents.base import log
from agents.core.geo.context import GeoContext
from agents.core.model.topology import TOPIC_GEO_CONTEXT
from agents.kafka.connection import client_kwargs, retry_until_available, stop_client
from agents.kafka.connection import to_geolane_error as to_ours

WAITING_AT_MOST = 1000
_BOUND_S = 10.0
_log = log.get_logger("kafka.geo_context")


class GeoContextWriter:
    """Call `put` at any time, and `run` until cancelled. `now`: epoch seconds."""

    def __init__(
        self,
        kafka: settings.Kafka,
        topic: str = TOPIC_GEO_CONTEXT,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._kafka, self._topic, self._now = kafka, topic, now
        self._waiting: asyncio.Queue[GeoContext] = asyncio.Queue(WAITING_AT_MOST)

    def put(self, records: Iterable[GeoContext]) -> None:
        """Write these soon; the newest are dropped if too many wait."""
        for record in records:
            with suppress(asyncio.QueueFull):
                self._waiting.put_nowait(record)

    async def run(self) -> NoReturn:
        """Write until cancelled, whether Kafka is away or not."""
        producer: Any = AIOKafkaProducer(  # Any: aiokafka has no types
            acks="all", request_timeout_ms=round(_BOUND_S * 1000), **client_kwargs(self._kafka)
        )
        try:
            await retry_until_available(lambda: _start(producer), _log_unwritten)
            failed = False
            while True:
                record = await self._waiting.get()
                if record.expires_at <= self._now():
                    continue
                try:
                    async with asyncio.timeout(_BOUND_S):
                        await producer.send_and_wait(
                            self._topic, record.encode(), record.key.encode()
                        )
                    failed = False
                except (kafka_errors.KafkaError, OSError, TimeoutError) as e:
                    if not failed:
                        _log_unwritten(to_ours(e, f"write to {self._topic}"))
                    failed = True
        finally:
            await stop_client(producer.stop())


async def _start(producer: Any) -> None:
    """Raises KafkaUnavailable."""
    try:
        async with asyncio.timeout(_BOUND_S):
            await producer.start()
    except (kafka_errors.KafkaError, OSError, TimeoutError) as e:
        raise to_ours(e, "start the producer of geo.context") from e


def _log_unwritten(error: Exception) -> None:
    _log.warning("geo_context_unwritten", error=str(error))
