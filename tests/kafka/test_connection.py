"""One way to the brokers (SASL over TLS too), and a border that no error of aiokafka crosses."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiokafka.errors as kafka_errors
import pytest
import pytest_asyncio
from aiokafka.client import CoordinationType
from aiokafka.protocol.metadata import MetadataRequest
from msgspec.structs import replace
from structlog.testing import capture_logs

from agents import settings
from agents.base.errors import GeolaneError, KafkaError, KafkaUnavailable, SettingsError
from agents.core.model.messages import PROBE_WINDOW
from agents.kafka.compacted import read_table
from agents.kafka.connection import Link, client_kwargs, is_fenced, to_geolane_error
from agents.kafka.offsets import Offsets
from agents.kafka.placement_log import PlacementLog
from agents.kafka.topics import Topic, ensure_topics
from tests.fixtures.kafka import KafkaServer
from tests.kafka.secured import PASSWORD, USER, SecureBroker, make_certificate, secret
from tests.kafka.support import lease_maker
from tests.kafka.test_paths import probing, until_reported


@dataclass
class Secured:
    kafka: settings.Kafka
    wrong_password: settings.Kafka
    wrong_ca: settings.Kafka


@pytest_asyncio.fixture
async def secured(tmp_path: Path, server_folder: Path) -> AsyncIterator[Secured]:
    broker = SecureBroker(server_folder / "kafka")
    await broker.start()
    make_certificate(tmp_path / "other.pem", tmp_path / "other-ca.pem")

    def kafka(password: str, ca: Path) -> settings.Kafka:
        return settings.Kafka(
            bootstrap=f"127.0.0.1:{broker.secure_port}",
            security="SASL_SSL",
            username=USER,
            password_file=secret(tmp_path / password, password),
            ca_file=str(ca),
        )

    ca = broker.folder / "ca.pem"
    yield Secured(
        kafka(PASSWORD, ca), kafka("wrong", ca), kafka(PASSWORD, tmp_path / "other-ca.pem")
    )
    broker.kill()


async def test_everything_works_over_sasl_and_tls(secured: Secured) -> None:
    """One broker for all of it: topics, a lease, the placement log, offsets, tables; then a wrong
    password and a wrong CA."""
    await ensure_topics(secured.kafka, (Topic("placement", 1, 0, {"cleanup.policy": "compact"}),))
    log = PlacementLog(secured.kafka)
    assert await log.take_leadership() == {}
    await log.write({"leader": b"1"})
    await log.stop()
    assert await read_table(secured.kafka, "placement") == {b"leader": b"1"}
    offsets = Offsets(secured.kafka, "geolane-node")
    await offsets.start()
    await offsets.stop()
    async with probing(secured.kafka, "placement") as probes:
        await until_reported(probes, lambda report: report.probes == PROBE_WINDOW)
    async with lease_maker(secured.kafka) as maker:
        assert (await maker.make_lease("geolane-node-iad-1"))[0] >= 0
    for wrong in (secured.wrong_password, secured.wrong_ca):
        with pytest.raises(KafkaUnavailable, match="certificate and password"):
            await Link(wrong, "test").start(2)


@pytest.mark.parametrize(
    ("kafka", "what"),
    [
        (settings.Kafka(security="TLS"), r"kafka\.security: 'TLS'"),
        (
            settings.Kafka(security="SASL_SSL", sasl_mechanism="GSSAPI"),
            r"kafka\.sasl_mechanism: 'GSSAPI'",
        ),
        (settings.Kafka(security="SASL_PLAINTEXT", username="me"), r"kafka\.password_file"),
        (settings.Kafka(security="SSL", ca_file="/no/such/file"), r"kafka\.ca_file: /no/such/file"),
        (
            settings.Kafka(security="SASL_PLAINTEXT", username="me", password_file="/no/such"),
            "/no/such",
        ),
    ],
)
def test_a_wrong_setting_is_named(kafka: settings.Kafka, what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        client_kwargs(kafka)


def test_without_tls_no_certificate_is_read() -> None:
    assert client_kwargs(settings.Kafka(bootstrap="a:1,b:2")) == {
        "bootstrap_servers": "a:1,b:2",
        "security_protocol": "PLAINTEXT",
    }


def test_tls_checks_the_brokers_name() -> None:
    context = client_kwargs(settings.Kafka(security="SSL"))["ssl_context"]
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def foreign_errors() -> list[BaseException]:
    """One of each that aiokafka has, and what sockets and time-outs raise."""
    kinds = {
        k
        for k in vars(kafka_errors).values()
        if isinstance(k, type) and issubclass(k, kafka_errors.KafkaError)
    }
    return [kind() for kind in kinds - {kafka_errors.BrokerResponseError}] + [
        TimeoutError(),
        OSError("refused"),
    ]


async def test_every_foreign_error_becomes_one_of_ours() -> None:
    for error in foreign_errors():
        ours = to_geolane_error(error, "read the offsets")
        assert isinstance(ours, KafkaError), error
        assert str(ours).startswith("read the offsets: "), error

        async def attempt(error: BaseException = error) -> None:
            raise error

        with pytest.raises(KafkaError):
            await Link(settings.Kafka(), "test").retry_until_done("read the offsets", attempt, 0.01)


def test_our_own_errors_pass_the_border_as_they_are() -> None:
    ours = KafkaError("x")
    assert to_geolane_error(ours, "anything") is ours
    assert isinstance(ours, GeolaneError)


@pytest.mark.parametrize("kind", [kafka_errors.ProducerFenced, kafka_errors.InvalidProducerEpoch])
def test_a_fence_is_known_as_one(kind: type[BaseException]) -> None:
    assert is_fenced(kind())
    assert not is_fenced(TimeoutError())


async def test_a_link_that_was_not_started_says_so() -> None:
    link = Link(settings.Kafka(), "test")
    with pytest.raises(KafkaUnavailable, match="start"):
        await link.find_coordinator(CoordinationType.GROUP, "geolane-node")
    await link.stop()


async def test_every_connection_has_the_socket_buffers_of_the_settings(
    kafka_server: KafkaServer,
) -> None:
    small = replace(kafka_server.kafka, send_buffer_bytes=20_000, receive_buffer_bytes=30_000)
    usual = await _buffers(kafka_server.kafka)
    assert await _buffers(small) == (40_000, 60_000)  # Linux reserves as much again
    assert await _buffers(kafka_server.kafka) == usual


async def _buffers(kafka: settings.Kafka) -> tuple[int, int]:
    """What a client's first connection has."""
    link = Link(kafka, "a-test")
    await link.start()
    try:
        node = link.client.get_random_node()
        await link.send_request(node, MetadataRequest([]))
        (connection,) = link.client._conns.values()
        own = connection._writer.get_extra_info("socket")
        send, receive = (
            own.getsockopt(socket.SOL_SOCKET, x) for x in (socket.SO_SNDBUF, socket.SO_RCVBUF)
        )
        return send, receive
    finally:
        await link.stop()


async def test_a_buffer_that_the_system_does_not_grant_is_told_once(
    kafka_server: KafkaServer,
) -> None:
    large = replace(kafka_server.kafka, receive_buffer_bytes=1 << 30)
    with capture_logs() as logs:
        for _ in range(2):
            await _buffers(large)
    told = [x for x in logs if x["event"] == "socket_buffer_capped"]
    assert [(x["key"], x["raise_first"]) for x in told] == [
        ("kafka.receive_buffer_bytes", "net.core.rmem_max")
    ]
    assert 0 < told[0]["granted"] < 1 << 30
