"""A broker behind the request proxy: any version of Kafka and of its transactions, leases from any
epoch on."""

from __future__ import annotations

import struct
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from agents.kafka.connection import client_kwargs
from agents.local.servers.broker import JARS
from tests.fixtures.kafka import folder_for_servers
from tests.fixtures.proxied_broker import ProxiedBroker
from tests.fixtures.request_proxy import RequestProxy, request_proxy

OURS = "4.3.1"
"""The version that `make install` brings (agents/local/servers/kafka/pom.xml)."""
FIRST_ID = 500
"""Producer ids of leases that begin at an epoch: of the first block of 1,000, which is that of the
broker's first run; the next run takes another block."""
_STATE = "__transaction_state"
_STATE_PARTITIONS = 4  # agents/local/servers/kafka/server.properties


@dataclass(frozen=True, slots=True)
class Setup:
    """A version of Kafka, the level of its feature `transaction.version`, and from which epoch on
    leases are made."""

    kafka: str = OURS
    transactions: int = 2
    first_epoch: int = 0


class LateBroker(ProxiedBroker):
    """Of one version of Kafka and of its transactions."""

    def __init__(self, folder: Path, setup: Setup) -> None:
        super().__init__(folder)
        if setup.kafka != OURS:
            self.jars = JARS.with_name(f"kafka-{setup.kafka}")
        self._transactions = setup.transactions

    def _more_format_arguments(self) -> list[str]:
        return ["--feature", f"transaction.version={self._transactions}"]


@asynccontextmanager
async def late_broker(setup: Setup) -> AsyncIterator[tuple[LateBroker, RequestProxy]]:
    """In a folder of its own, which is gone afterwards."""
    with folder_for_servers() as folder:
        broker = LateBroker(folder / "kafka", setup)
        async with request_proxy(broker.proxy_port, broker.listener_port) as proxy:
            try:
                await broker.start(120)
                yield broker, proxy
            finally:
                await broker.stop()


async def begin_at(broker: LateBroker, epochs: Mapping[str, int]) -> None:
    """Let the next lease of each transactional id be made after this epoch: written to Kafka's own
    log as its coordinator would, which reads it when it starts."""
    producer: Any = AIOKafkaProducer(  # only this client id may write to Kafka's own topics
        client_id="__admin_client", acks="all", **client_kwargs(broker.kafka)
    )
    await producer.start()
    try:
        for i, (name, epoch) in enumerate(epochs.items()):
            key, value = _state(name, FIRST_ID + i, epoch)
            await producer.send_and_wait(_STATE, value, key, _partition(name))
    finally:
        await producer.stop()
    await broker.stop()
    await broker.start(120)


def _partition(name: str) -> int:
    """By Java's String.hashCode, without its sign, as the broker has it."""
    code = 0
    for character in name:
        code = (31 * code + ord(character)) & 0xFFFFFFFF
    return min(code, 0x100000000 - code) % _STATE_PARTITIONS


def _state(name: str, producer_id: int, epoch: int) -> tuple[bytes, bytes]:
    """TransactionLogKey and TransactionLogValue, version 0: a transactional id that has no
    transaction (0, Empty)."""
    now_ms = int(time.time() * 1000)
    text = name.encode()
    value = struct.pack(">hqhibiqq", 0, producer_id, epoch, 10_000, 0, -1, now_ms, -1)
    return struct.pack(">hh", 0, len(text)) + text, value
