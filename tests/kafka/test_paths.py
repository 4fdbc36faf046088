"""Round trips to a real broker, at a real delay; and brokers that stop, move or talk nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from agents import settings
from agents.base import ports
from agents.core.model.messages import PROBE_WINDOW, PathReport
from agents.kafka import paths
from agents.kafka.connection import client_kwargs
from agents.kafka.paths import PathProbes, measure_rtt_ms, open_probe, read_tcp_rtt_ms
from agents.local.servers.delay_proxy import DelayedLink, DelayProxy
from tests.fixtures.kafka import KafkaServer, folder_for_servers
from tests.fixtures.proxied_broker import ProxiedBroker
from tests.kafka.support import until

BUSY_MS = 40.0
"""How much longer an answer may take on a busy test machine."""


@asynccontextmanager
async def probing(
    kafka: settings.Kafka, *topics: str, group: str = "geolane-node", name: str = ""
) -> AsyncIterator[PathProbes]:
    probes = PathProbes(kafka, topics, group, lambda: name, period_s=0.05)
    task = asyncio.create_task(probes.run())
    try:
        yield probes
    finally:
        assert not task.done(), "it probes until cancelled"
        task.cancel()
        await asyncio.wait({task})
        assert probes.reports() == ()


async def until_reported(
    probes: PathProbes, condition: Callable[[PathReport], bool], bound_s: float = 30.0
) -> PathReport:
    """The report of the one broker there is, once it is so."""

    async def so() -> PathReport | None:
        return next((x for x in probes.reports() if condition(x)), None)

    found = await until(so, bound_s)
    assert isinstance(found, PathReport)
    return found


def near(true_ms: float) -> Callable[[PathReport], bool]:
    """As near as a busy test machine lets it be, with two answers at least."""
    return lambda x: x.probes > 1 and abs(x.rtt_ms - true_ms) <= BUSY_MS / 2


@pytest.fixture(scope="module")
def proxied_broker() -> Iterator[ProxiedBroker]:
    with folder_for_servers() as folder:
        broker = ProxiedBroker(folder / "kafka", heap_mb=256)
        yield broker
        broker.kill()


@pytest_asyncio.fixture
async def far_broker(proxied_broker: ProxiedBroker) -> ProxiedBroker:
    """At work, also where a test before has stopped it."""
    await proxied_broker.start(120)
    return proxied_broker


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "LOOK_AT_MOST_S", 0.3)
    monkeypatch.setattr(paths, "LOOK_S", 1.0)
    monkeypatch.setattr(paths, "REST_S", 1.0)


async def test_a_broker_is_probed_while_it_leads_or_coordinates_something(
    kafka_server: KafkaServer,
) -> None:
    topic = await kafka_server.topic("paths", 3)
    async with probing(kafka_server.kafka, topic, name=kafka_server.name("tid")) as probes:
        assert probes.reports() == ()
        first = await until_reported(probes, lambda x: x.probes >= 1)
        full = await until_reported(probes, lambda x: x.probes == PROBE_WINDOW)
        assert first.broker == full.broker == 1
        assert 0.05 < full.min_ms <= full.rtt_ms < BUSY_MS
        assert 0 <= full.age_s < 5


async def test_a_topic_that_is_missing_is_no_reason_not_to_probe(kafka_server: KafkaServer) -> None:
    async with probing(kafka_server.kafka, kafka_server.name("missing")) as probes:
        await until_reported(probes, lambda x: x.probes >= 2)


async def test_the_told_distance_is_the_true_one_and_follows_it(far_broker: ProxiedBroker) -> None:
    """The connection itself is made at once: TCP sees the proxy, ApiVersions the broker."""
    link = DelayedLink("far", far_broker.proxy_port, far_broker.listener_port, 80)
    async with DelayProxy([link]) as proxy:
        async with open_probe(
            client_kwargs(far_broker.proxied), ("127.0.0.1", far_broker.proxy_port)
        ) as connection:
            rtt_ms = [await measure_rtt_ms(connection) for _ in range(5)]
            tcp_ms = read_tcp_rtt_ms(connection)
        assert 80 <= min(rtt_ms) < 80 + BUSY_MS
        assert tcp_ms is not None
        assert tcp_ms < 20
        async with probing(far_broker.proxied, "events.lanes") as probes:
            for true_ms in (80, 150, 20):
                await proxy.change_link("far", rtt_ms=true_ms)
                await until_reported(probes, near(true_ms))
            told = await until_reported(
                probes, lambda x: x.probes == PROBE_WINDOW and x.min_ms < 20 + BUSY_MS
            )
            assert told.min_ms >= 20

        async def closed() -> bool:
            return (await proxy.read_counts())["far"].open == 0

        await until(closed)


async def test_a_broker_that_stops_is_forgotten_and_found_again(
    far_broker: ProxiedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "FORGET_S", 6.0)  # long enough to be seen growing old
    link = DelayedLink("far", far_broker.proxy_port, far_broker.listener_port, 1)
    async with DelayProxy([link]), probing(far_broker.proxied, "events.lanes") as probes:
        await until_reported(probes, lambda x: x.probes == PROBE_WINDOW)
        await far_broker.stop()
        await until_reported(probes, lambda x: x.age_s >= 1)

        async def forgotten() -> bool:
            return probes.reports() == ()

        await until(forgotten, 20)
        await far_broker.start(120)
        await until_reported(probes, lambda x: x.probes >= 2)


async def test_a_broker_that_moves_is_measured_anew_where_it_is(far_broker: ProxiedBroker) -> None:
    """The old address still answers: only metadata tells."""
    old, new = far_broker.proxy_port, ports.find_free_port()
    links = [
        DelayedLink("old", old, far_broker.listener_port, 60),
        DelayedLink("new", new, far_broker.listener_port, 5),
    ]
    async with DelayProxy(links), probing(far_broker.proxied, "events.lanes") as probes:
        told = await until_reported(probes, lambda x: x.probes == PROBE_WINDOW)
        assert told.min_ms >= 60
        await far_broker.stop()
        far_broker.proxy_port = new
        await far_broker.start(120)
        await until_reported(probes, lambda x: x.rtt_ms < 40)


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"\0\0\0\x18HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()
    await reader.read()


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize("answer", [garbage, silence])
async def test_a_server_that_is_not_a_broker_is_no_distance(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(paths, "ANSWER_S", 0.3)
    served: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.append(task)
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    addresses = {
        1: ("127.0.0.1", server.sockets[0].getsockname()[1]),
        2: ("127.0.0.1", 70_000),
        3: ("x" * 100, 9092),
        4: ("127.0.0.1", 1),
    }
    probes = PathProbes(settings.Kafka(), ["events.lanes"], "group", period_s=0.05)
    async with asyncio.TaskGroup() as tasks:
        probes._follow_brokers(addresses, client_kwargs(settings.Kafka()), tasks)
        await asyncio.sleep(2.0)
        assert probes.reports() == ()
        assert 2 <= len(served) <= 12, "it tries again, and backs off"
        assert all(path.task and not path.task.done() for path in probes._paths.values())
        probes._follow_brokers({}, {}, tasks)
    server.close()
    async with asyncio.timeout(10):
        await asyncio.gather(*served, return_exceptions=True)
