"""Another user of the machine that `geolane up` runs on: no password, no way in; no file that tells
anything."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError

from agents import settings
from agents.admin.doctor.sockets import listens_to_others
from agents.base.errors import KafkaError, KafkaUnavailable
from agents.base.unprivileged import find_user
from agents.journal.store import Journal
from agents.kafka.compacted import read_table
from agents.kafka.connection import client_kwargs
from agents.kafka.leases import LeaseMaker
from agents.kafka.rights import CLIENT, client_rights
from agents.kafka.topics import fleet_topics, reconcile_topics
from agents.kafka.users import Accounts
from agents.local.servers.broker import USER
from tests.fixtures.kafka import KafkaServer
from tests.kafka.secured import secret


async def test_without_a_password_kafka_answers_nothing(kafka_server: KafkaServer) -> None:
    none = settings.Kafka(bootstrap=kafka_server.broker.bootstrap)
    wrong = msgspec.structs.replace(kafka_server.kafka, username="geolane")

    async def refused(kafka: settings.Kafka, why: str) -> None:
        with pytest.raises(KafkaUnavailable, match=why):
            await LeaseMaker(kafka, 10_000).start(5.0)

    await asyncio.gather(
        refused(none, "reach Kafka"), refused(wrong, "no broker accepted our login")
    )


async def test_a_users_own_programs_may_send_events_and_cannot_be_the_leader(
    kafka_server: KafkaServer, tmp_path: Path
) -> None:
    async with AIOKafkaConsumer(**client_kwargs(kafka_server.kafka)) as consumer:
        there = await consumer.topics()
    missing = tuple(t for t in fleet_topics(2, 1) if t.name not in there)
    await reconcile_topics(kafka_server.kafka, missing, lambda did, what: None)
    accounts = Accounts(kafka_server.kafka)
    await accounts.start()
    await accounts.set_passwords({CLIENT: Path(secret(tmp_path / "client", "the client's own"))})
    await accounts.grant_rights(list(client_rights()), lambda did, what: None)
    await accounts.stop()
    client = msgspec.structs.replace(
        kafka_server.kafka, username=CLIENT, password_file=str(tmp_path / "client")
    )
    async with AIOKafkaProducer(**client_kwargs(client), enable_idempotence=True) as producer:
        await producer.send_and_wait("events.raw", b"{}")
        with pytest.raises(TopicAuthorizationFailedError):
            await producer.send_and_wait("events.clean", b"{}")
    maker = LeaseMaker(client, 10_000)
    await maker.start()
    try:
        for name in ("geolane-coordinator", "geolane-node-iad-1"):
            with pytest.raises(KafkaError, match=f"lacks a right on TransactionalId {name}"):
                await maker.make_lease(name)
    finally:
        await maker.stop()
    with pytest.raises(KafkaError):
        await read_table(client, "placement")


def test_the_broker_is_not_root_and_its_passwords_are_nobody_elses(
    kafka_server: KafkaServer,
) -> None:
    broker = kafka_server.broker
    assert broker.pid is not None
    process = psutil.Process(broker.pid)
    assert process.uids().real == process.uids().effective == find_user(USER).uid
    assert process.uids().real != 0
    passwords = [
        (broker.folder / "secrets" / f"kafka-{name}").read_text().strip()
        for name in ("admin", "broker")
    ]
    assert not [p for p in passwords if p in " ".join(process.cmdline())]
    assert not broker.folder.stat().st_mode & 0o007
    for file in broker.folder.rglob("*"):
        if file.is_file() and any(p.encode() in file.read_bytes() for p in passwords):
            assert not file.stat().st_mode & 0o007, file
    assert {
        c.laddr.ip.removeprefix("::ffff:")
        for c in process.net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    } == {"127.0.0.1"}


async def test_the_journal_is_its_owners_alone_also_one_of_an_earlier_version(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.sqlite3"
    path.touch(mode=0o644)
    async with Journal(path):
        found = {e.name: e.stat().st_mode & 0o777 for e in os.scandir(tmp_path)}
        assert path.name in found
        assert set(found.values()) == {0o600}, found


@pytest.fixture
def listening() -> Iterator[tuple[int, int]]:
    """A port of loopback, and one of all addresses."""
    with (
        socket.create_server(("127.0.0.1", 0)) as ours,
        socket.create_server(("0.0.0.0", 0)) as all_,
    ):
        yield ours.getsockname()[1], all_.getsockname()[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to see all sockets")
def test_the_doctor_tells_a_port_of_loopback_from_an_open_one(listening: tuple[int, int]) -> None:
    assert [listens_to_others(port) for port in listening] == [False, True]
