"""A broker behind the request proxy: any version of Kafka and of its transactions, leases from any
epoch on."""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer

from agents import ports, settings
from agents.embedded.broker import JARS, Broker
from agents.kafka.connection import client_kwargs
from tests.fixtures.request_proxy import RequestProxy, request_proxy

OURS = "4.3.1"
"""The version that `make install` brings (agents/embedded/kafka/pom.xml)."""
_STATE = "__transaction_state"
_STATE_PARTITIONS = 4  # agents/embedded/kafka/server.properties
_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Setup:
    """A version of Kafka, the level of its feature `transaction.version`, and from which epoch on
    leases are made."""

    kafka: str = OURS
    transactions: int = 2
    first_epoch: int = 0


class LateBroker(Broker):
    """Has one more listener, of which clients are told the proxy's port."""

    def __init__(self, folder: Path, setup: Setup) -> None:
        super().__init__(folder)
        if setup.kafka != OURS:
            self.jars = JARS.with_name(f"kafka-{setup.kafka}")
        self._transactions = setup.transactions
        self.listener_port, self.proxy_port = ports.free(), ports.free()

    @property
    def proxied(self) -> settings.Kafka:
        return msgspec.structs.replace(self.kafka, bootstrap=f"127.0.0.1:{self.proxy_port}")

    def _more_properties(self) -> str:
        port, controller_port = self._choose_ports()
        clients = f"CLIENTS://127.0.0.1:{port}"
        module = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        return f"""
listeners={clients},CONTROLLER://127.0.0.1:{controller_port},PROXIED://127.0.0.1:{self.listener_port}
advertised.listeners={clients},PROXIED://127.0.0.1:{self.proxy_port}
listener.security.protocol.map=CONTROLLER:SASL_PLAINTEXT,CLIENTS:SASL_PLAINTEXT,PROXIED:SASL_PLAINTEXT
listener.name.proxied.scram-sha-512.sasl.jaas.config={module}
"""

    def _more_format_arguments(self) -> list[str]:
        return ["--feature", f"transaction.version={self._transactions}"]


@asynccontextmanager
async def late_broker(setup: Setup) -> AsyncIterator[tuple[LateBroker, RequestProxy]]:
    """In a folder of its own, which is gone afterwards."""
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="geolane-late-"))
    os.chmod(folder, 0o711)  # the user that the broker runs as passes through
    broker = LateBroker(folder, setup)
    try:
        await broker.start(120)
        async with request_proxy(broker.proxy_port, broker.listener_port) as proxy:
            yield broker, proxy
    finally:
        await broker.stop()
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def begin_at(broker: LateBroker, epochs: Mapping[str, int]) -> None:
    """Let the next lease of each transactional id be made after this epoch: written to Kafka's own
    log as its coordinator would, which reads it when it starts."""
    producer: Any = AIOKafkaProducer(  # only this client id may write to Kafka's own topics
        client_id="__admin_client", acks="all", **client_kwargs(broker.kafka)
    )
    await producer.start()
    try:
        for i, (name, epoch) in enumerate(epochs.items()):
            # The first block of 1,000 ids is this run of the broker's; the next run takes another.
            key, value = _state(name, 500 + i, epoch)
            await producer.send_and_wait(_STATE, value, key, _partition(name))
    finally:
        await producer.stop()
    await broker.stop()
    await broker.start(120)


def _partition(name: str) -> int:
    """Java's String.hashCode, as the broker takes it."""
    code = 0
    for character in name:
        code = (31 * code + ord(character)) & 0xFFFFFFFF
    return (code & 0x7FFFFFFF) % _STATE_PARTITIONS


def _state(name: str, producer_id: int, epoch: int) -> tuple[bytes, bytes]:
    """TransactionLogKey and TransactionLogValue, version 0: a transactional id that has no
    transaction (0, Empty)."""
    now_ms = int(time.time() * 1000)
    text = name.encode()
    value = struct.pack(">hqhibiqq", 0, producer_id, epoch, 10_000, 0, -1, now_ms, -1)
    return struct.pack(">hh", 0, len(text)) + text, value
