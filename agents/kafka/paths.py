"""Round trips to brokers, measured with ApiVersions on connections of their own: the broker answers
it at once, without its disk or a queue, and a proxy or TLS terminator on the way passes it on.

One answer can take a second on a busy machine. So the figure is the median of the last
PROBE_WINDOW, beside their minimum; never an average."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import statistics
import struct
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import aiokafka.errors as kafka_errors
from aiokafka.client import CoordinationType
from aiokafka.conn import create_conn
from aiokafka.protocol.admin import ApiVersionRequest

from agents import settings
from agents.base import log
from agents.base.errors import KafkaError
from agents.core.model.messages import PATHS_AT_MOST, PROBE_WINDOW, PathReport
from agents.kafka.connection import (
    Link,
    client_kwargs,
    retry_until_available,
    stop_client,
    to_geolane_error,
)
from agents.kafka.topics import DescribeTopics

PERIOD_S = 2.0
ANSWER_S = 5.0
"""An answer that takes longer is none: the connection is made anew."""
FORGET_S = 60.0
"""An older answer says nothing about the path as it is now."""
LOOK_S = 30.0
"""How often the leaders, coordinators and their addresses are looked up: at once if a broker does
not answer, but not more often than every LOOK_AT_MOST_S."""
LOOK_AT_MOST_S = 5.0
REST_S = 30.0
"""The longest pause before a connection is tried again."""
_LOOK_BOUND_S = 4.0
_CLOSE_S = 1.0
_STOP_BOUND_S = 2.0

_FAILURES = (
    kafka_errors.KafkaError,
    OSError,
    TimeoutError,
    # What metadata or an answer can hold: a port above 65,535, a host that is not a valid name,
    # versions out of order (aiokafka asserts).
    OverflowError,
    ValueError,
    AssertionError,
)

_log = log.get_logger("kafka.paths")

Address = tuple[str, int]


# One connection


@contextlib.asynccontextmanager
async def open_probe(
    kwargs: Mapping[str, Any], address: Address
) -> AsyncIterator[Any]:  # Any: aiokafka's connection
    """A connection for probes only, logged in as all our clients are. `kwargs`: those of
    `client_kwargs`. Raises aiokafka's errors, OSError, TimeoutError."""
    own = {key: value for key, value in kwargs.items() if key != "bootstrap_servers"}
    async with asyncio.timeout(2 * ANSWER_S):
        connection = await create_conn(
            *address, client_id="geolane-paths", request_timeout_ms=round(ANSWER_S * 1000), **own
        )
    try:
        yield connection
    finally:
        if (closed := connection.close()) is not None:
            await asyncio.wait([closed], timeout=_CLOSE_S)


async def measure_rtt_ms(connection: Any) -> float:
    """The round trip of one request and its answer. Raises as `open_probe`."""
    begun = time.perf_counter()
    await connection.send(ApiVersionRequest())
    return (time.perf_counter() - begun) * 1000


_TCP_INFO_BYTES, _MIN_RTT_AT = 152, 148


def read_tcp_rtt_ms(connection: Any) -> float | None:
    """The least round trip that TCP itself has seen on this connection, to wherever it ends:
    `tcpi_min_rtt` of TCP_INFO (Linux 4.6). None where the system does not tell."""
    if not sys.platform.startswith("linux") or connection._writer is None:
        return None
    of = connection._writer.transport.get_extra_info("socket")
    with socket.socket(fileno=socket.dup(of.fileno())) as own:
        told = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    if len(told) < _TCP_INFO_BYTES:
        return None
    (least_us,) = struct.unpack_from("=I", told, _MIN_RTT_AT)
    return float(least_us) / 1000


# A worker's paths


@dataclass(slots=True)
class _Path:
    """The probes of one broker. `answers`: when each came (monotonic s), and the round trip in
    ms."""

    address: Address
    answers: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=PROBE_WINDOW))
    task: asyncio.Task[None] | None = None

    def report(self, broker: int, now: float) -> PathReport | None:
        told = [(at, rtt_ms) for at, rtt_ms in self.answers if now - at <= FORGET_S]
        if not told:
            return None
        rtts = [rtt_ms for _, rtt_ms in told]
        return PathReport(
            broker,
            round(statistics.median(rtts), 3),
            round(min(rtts), 3),
            len(rtts),
            round(now - told[-1][0], 1),
        )


class PathProbes:
    """Probes the brokers that lead partitions of `topics`, or coordinate `group` or the
    transactional id, up to PATHS_AT_MOST; leaders of the first topics come first.

    `transactional_id`: returns the id, or an empty text while there is none yet. Each broker has a
    connection and a task of its own, so one that does not answer delays no other."""

    def __init__(
        self,
        kafka: settings.Kafka,
        topics: Sequence[str],
        group: str,
        transactional_id: Callable[[], str] = str,
        *,
        period_s: float = PERIOD_S,
    ) -> None:
        self._kafka, self._topics, self._group = kafka, list(dict.fromkeys(topics)), group
        self._transactional_id = transactional_id
        self._period_s = period_s
        self._paths: dict[int, _Path] = {}
        self._silent = asyncio.Event()
        self._failed = ""

    def reports(self) -> tuple[PathReport, ...]:
        """For telemetry: the round trip to each of these brokers that has answered lately."""
        now = time.monotonic()
        found = (path.report(broker, now) for broker, path in sorted(self._paths.items()))
        return tuple(report for report in found if report is not None)

    async def run(self) -> NoReturn:
        """Probe until cancelled, whatever the brokers do. Raises SettingsError."""
        link = Link(self._kafka, "geolane-paths")
        await retry_until_available(link.start, lambda e: self._note_failure(str(e)))
        # After that: the password may have been corrected meanwhile.
        kwargs = await asyncio.to_thread(client_kwargs, self._kafka)
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    try:
                        self._follow_brokers(await self._find_brokers(link), kwargs, tasks)
                        self._failed = ""
                    except KafkaError as e:
                        self._note_failure(str(e))
                    await self._wait_until_next_look()
        finally:
            self._paths.clear()
            await stop_client(link.stop(), _STOP_BOUND_S)

    async def _wait_until_next_look(self) -> None:
        await asyncio.sleep(LOOK_AT_MOST_S)
        self._silent.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_jitter(LOOK_S - LOOK_AT_MOST_S)):
                await self._silent.wait()

    def _note_failure(self, error: str) -> None:
        if not self._failed:
            _log.warning("brokers_not_found", error=error)
        self._failed = error

    # Which brokers

    async def _find_brokers(self, link: Link) -> dict[int, Address]:
        """The brokers to probe. Raises KafkaError."""

        async def attempt() -> dict[int, Address]:
            node = link.client.get_random_node()
            if node is None:
                raise kafka_errors.NodeNotReadyError("no broker is known")
            metadata = await link.send_request(node, DescribeTopics(self._topics))
            wanted = [await link.client.coordinator_lookup(CoordinationType.GROUP, self._group)]
            if name := self._transactional_id():
                kind = CoordinationType.TRANSACTION
                wanted.append(await link.client.coordinator_lookup(kind, name))
            order = {name: i for i, name in enumerate(self._topics)}
            for topic in sorted(metadata.topics, key=lambda t: order.get(t[1], len(order))):
                # error_code, partition, leader, ...: a topic or leader that is missing is none
                wanted += [partition[2] for partition in topic[3] if partition[2] >= 0]
            there = {broker: (host, port) for broker, host, port, _ in metadata.brokers}
            return {broker: there[broker] for broker in dict.fromkeys(wanted) if broker in there}

        found = await link.retry_until_done("find the brokers to probe", attempt, _LOOK_BOUND_S)
        return dict(list(found.items())[:PATHS_AT_MOST])

    def _follow_brokers(
        self, wanted: Mapping[int, Address], kwargs: Mapping[str, Any], tasks: asyncio.TaskGroup
    ) -> None:
        """Probe these brokers and no others. One that has moved is measured anew."""
        for broker, path in list(self._paths.items()):
            if wanted.get(broker) != path.address:
                if path.task is not None:
                    path.task.cancel()
                del self._paths[broker]
        for broker, address in wanted.items():
            if broker not in self._paths:
                path = self._paths[broker] = _Path(address)
                path.task = tasks.create_task(self._probe(broker, path, kwargs))

    # One broker

    async def _probe(self, broker: int, path: _Path, kwargs: Mapping[str, Any]) -> None:
        """Probe one broker until cancelled."""
        failures = 0
        while True:
            try:
                async with open_probe(kwargs, path.address) as connection:
                    while True:
                        rtt_ms = await measure_rtt_ms(connection)
                        path.answers.append((time.monotonic(), rtt_ms))
                        if failures:
                            _log.info("broker_answers", broker=broker)
                        failures = 0
                        await asyncio.sleep(_jitter(self._period_s))
            except _FAILURES as e:
                if not failures:
                    error = str(to_geolane_error(e, f"probe {path.address[0]}:{path.address[1]}"))
                    _log.warning("broker_silent", broker=broker, error=error)
            failures += 1
            self._silent.set()
            # Full jitter: after a restart, not all workers come back at once.
            most_s = min(REST_S, self._period_s * 2.0 ** min(failures, 10))
            await asyncio.sleep(random.uniform(min(0.5, most_s), most_s))


def _jitter(period_s: float) -> float:
    return period_s * random.uniform(0.75, 1.25)
