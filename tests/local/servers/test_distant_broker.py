"""A real broker with a site behind the delaying proxy: what a client there sees."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer

from agents.geodata import RTT_TABLE
from agents.kafka.connection import client_kwargs
from agents.local.servers.delay_proxy import DelayProxy
from agents.local.servers.delays import Delays, DistantBroker

RTT_MS = 60.0


@pytest.mark.stack
async def test_each_request_of_a_far_client_takes_the_round_trip(server_folder: Path) -> None:
    delays = Delays("near", {"near": 0.0, "far": RTT_MS}, RTT_TABLE)
    broker = DistantBroker(server_folder, delays)
    try:
        async with DelayProxy(broker.links) as proxy:
            await broker.start(120)
            assert await _metadata_ms(broker, "near") < RTT_MS / 2
            far_ms = await _metadata_ms(broker, "far")
            assert RTT_MS - 2 < far_ms < 2 * RTT_MS
            before = (await proxy.read_counts())["far"].connections
            broker.kill()  # the site is reached on the same port afterwards
            await broker.start(120)
            assert await _metadata_ms(broker, "far") > RTT_MS - 2
            assert (await proxy.read_counts())["far"].connections > before
    finally:
        broker.kill()


async def _metadata_ms(broker: DistantBroker, site: str) -> float:
    """How long a metadata request takes at that site. Kafka tells the site's own port."""
    kafka = msgspec.structs.replace(broker.kafka, bootstrap=broker.bootstrap_at(site))
    consumer: Any = AIOKafkaConsumer(**client_kwargs(kafka))  # aiokafka has no types
    await consumer.start()
    try:
        took = []
        for _ in range(7):
            begun = time.perf_counter()
            await consumer._client.force_metadata_update()
            took.append((time.perf_counter() - begun) * 1000)
        (told,) = consumer._client.cluster.brokers()
        assert f"{told.host}:{told.port}" == kafka.bootstrap
        assert told.rack == "near"
        return statistics.median(took)
    finally:
        await consumer.stop()
