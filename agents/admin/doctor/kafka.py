"""The brokers as this account finds them. The doctor sends only requests that describe. It
produces, commits and creates nothing. It requests no producer id, since that would fence the worker
that uses it (PROTOCOL 2.1)."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka.admin.config_resource import ConfigResourceType
from aiokafka.client import CoordinationType
from aiokafka.conn import create_conn
from aiokafka.protocol.admin import ApiVersionRequest, DescribeConfigsRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest

from agents.admin.doctor.check import Check
from agents.admin.doctor.judge import kafka as judge
from agents.admin.doctor.judge.certificate import certificate
from agents.admin.doctor.judge.kafka import Cluster, TopicDescription
from agents.admin.doctor.judge.roles import Role, Whom
from agents.admin.doctor.judge.verdict import NotLookedAt, Verdict, fault, ok
from agents.admin.doctor.sockets import reach, tls
from agents.base.errors import KafkaUnavailable
from agents.base.text import counted
from agents.core.model.topology import TOPIC_LANES, TOPIC_RAW
from agents.kafka import verification
from agents.kafka.connection import as_ours, client_kwargs
from agents.kafka.topics import NOT_TOLD, DescribeTopics, Topic, topics
from agents.settings import Loaded
from agents.settings.sources import DEFAULT

GROUP = "kafka"
ANSWER_MS = 4000
HIDDEN = kafka_errors.TopicAuthorizationFailedError.__name__
_CLOSED = (kafka_errors.KafkaConnectionError, OSError)


class KafkaCheck:
    """`now`: this machine's clock, in epoch seconds. `cluster` is known once the check `kafka
    cluster` was ok."""

    def __init__(self, loaded: Loaded, who: Whom, now: Callable[[], float] = time.time) -> None:
        self._loaded, self._who, self._now = loaded, who, now
        self._kafka = loaded.settings.kafka
        self._address: tuple[str, int] = ("", 0)  # of the first broker that was reached
        self._no_tls = False
        self.cluster = Cluster({}, {})
        self._limits: dict[str, str] | None = None

    def checks(self) -> list[Check]:
        def check(name: str, look: Callable[[], Awaitable[Verdict]], *needs: str) -> Check:
            return Check(GROUP, name, look, tuple(f"{GROUP} {need}" for need in needs))

        return [
            check("brokers", self._reached),
            check("certificate", self._certificate, "brokers"),
            Check(GROUP, "login", self._login, ("kafka brokers",), ("kafka certificate",)),
            check("version", self._version, "login"),
            check("cluster", self._describe, "login"),
            check("listeners", self._listeners, "cluster"),
            check("topics", self._on_topics(judge.existence), "cluster"),
            check("rights", self._rights, "cluster"),
            check("time stamps", self._on_topics(judge.time_stamps), "cluster"),
            check("record sizes", self._sizes, "cluster"),
            check("keeping", self._on_topics(judge.keeping), "cluster"),
            check("replicas", self._on_topics(judge.replicas), "cluster"),
            check("limits", self._limit, "listeners"),
            check("late requests", self._late_requests, "listeners"),
            check("transactional id", self._transactional_id, "cluster"),
        ]

    @property
    def wanted(self) -> tuple[Topic, ...]:
        """The topics as they must be. If this account's settings do not state a topic's number of
        partitions, any number is right. Topics that this account does not need and may not see are
        left out."""
        c = self._loaded.settings.coordinator
        every = topics(
            self._count("coordinator.lanes", TOPIC_LANES, c.lanes),
            self._count("coordinator.raw_partitions", TOPIC_RAW, c.raw_partitions),
        )
        return tuple(topic for topic in every if not self.hidden(topic.name))

    def hidden(self, topic: str) -> bool:
        """Whether brokers hide this topic from an account that does not need it."""
        seen = self.cluster.topics.get(topic)
        needed = not self._who.worker or topic in (*self._who.reads, *self._who.writes)
        return not needed and seen is not None and seen.error == HIDDEN

    def _count(self, key: str, topic: str, said: int) -> int:
        seen = self.cluster.topics.get(topic)
        told = self._who.role is Role.COORDINATOR or self._loaded.origins[key] != DEFAULT
        return said if told or seen is None else seen.partitions

    # The connection.

    async def _reached(self) -> Verdict:
        addresses = [_address(text) for text in self._kafka.bootstrap.split(",")]
        answers = await reach(addresses)
        there = [a for a in addresses if not answers[f"{a[0]}:{a[1]}"]]
        self._address = there[0] if there else addresses[0]
        return judge.addresses(answers)

    async def _certificate(self) -> Verdict:
        if not self._kafka.security.endswith("SSL"):
            return ok(f"none is asked for: kafka.security is {self._kafka.security}")
        host, port = self._address
        context = (await asyncio.to_thread(client_kwargs, self._kafka))["ssl_context"]
        seen = await tls(host, port, context)
        self._no_tls = seen.certificate is None or seen.refused is not None
        if seen.certificate is None:
            plain = self._kafka.security.replace("SASL_SSL", "SASL_PLAINTEXT").replace(
                "SSL", "PLAINTEXT"
            )
            return fault(
                f"{host}:{port} speaks no TLS, kafka.security is {self._kafka.security}",
                "correct the port in kafka.bootstrap, or set kafka.security to "
                f"{plain if 'SASL' in plain else 'PLAINTEXT'}",
            )
        now = datetime.datetime.fromtimestamp(self._now(), datetime.UTC)
        return certificate(
            host,
            seen.certificate,
            seen.refused,
            now,
            self._kafka.ca_file or "the system's authorities",
        )

    async def _login(self) -> Verdict:
        if self._no_tls:
            raise NotLookedAt("the certificate is not trusted, so there is no login")
        kafka = self._kafka
        who = (
            f"{kafka.username} ({kafka.sasl_mechanism})"
            if kafka.security.startswith("SASL")
            else "anybody"
        )
        try:
            async with self._connected() as conn:
                await conn.send(DescribeTopics([]))
            return ok(f"as {who}, {kafka.security}")
        except (kafka_errors.AuthenticationFailedError, kafka_errors.SaslAuthenticationFailed):
            return fault(
                f"{who}: wrong password, or no such account (Kafka says the same of both)",
                f"correct {kafka.password_file or 'the systemd credential'} or kafka.username",
            )
        except kafka_errors.UnsupportedSaslMechanismError as e:
            return fault(str(e), "correct kafka.sasl_mechanism")
        except kafka_errors.IllegalSaslStateError:
            return fault(
                f"the broker asks for no password there, kafka.security is {kafka.security}",
                "take SASL_ out of it",
            )
        except _CLOSED as e:
            return await self._why_closed(e)

    async def _why_closed(self, error: BaseException) -> Verdict:
        (host, port), security = self._address, self._kafka.security
        if not security.endswith("SSL") and (await tls(host, port, None)).certificate is not None:
            return fault(
                f"{host}:{port} speaks TLS, kafka.security is {security}",
                "set kafka.security to SSL or SASL_SSL, and kafka.ca_file",
            )
        if not security.startswith("SASL"):
            return fault(
                f"{host}:{port} ends the connection: it may want a password, kafka.security is "
                f"{security}",
                "set kafka.security to SASL_..., with username and password_file",
            )
        return fault(
            f"{host}:{port} ends the connection ({error or type(error).__name__})",
            "look at the broker's log",
        )

    @contextlib.asynccontextmanager
    async def _connected(
        self, address: tuple[str, int] | None = None
    ) -> AsyncIterator[Any]:  # Any: aiokafka's connection
        """A connection to the broker that was reached first, or to `address`. Raises aiokafka's
        errors."""
        kwargs = await asyncio.to_thread(client_kwargs, self._kafka)
        del kwargs["bootstrap_servers"]
        host, port = address or self._address
        conn = await create_conn(
            host, port, client_id="geolane-doctor", request_timeout_ms=ANSWER_MS, **kwargs
        )
        try:
            yield conn
        finally:
            if (closed := conn.close()) is not None:
                await closed

    @contextlib.asynccontextmanager
    async def _asking(
        self, what: str, address: tuple[str, int] | None = None
    ) -> AsyncIterator[Any]:
        """As `_connected`, but raises our errors."""
        try:
            async with self._connected(address) as conn:
                yield conn
        except (kafka_errors.KafkaError, OSError, TimeoutError) as e:
            raise as_ours(e, what) from e

    # What the brokers hold.

    async def _version(self) -> Verdict:
        async with self._asking("ask for its versions") as conn:
            response = await conn.send(ApiVersionRequest())
        return judge.version({api[0] for api in response.api_versions})

    async def _describe(self) -> Verdict:
        names = [topic.name for topic in topics(1, 1)]
        async with self._asking("describe the topics") as conn:
            metadata = await conn.send(DescribeTopics(names))
            there = [
                t
                for t in metadata.topics
                if kafka_errors.for_code(t[0]) is not kafka_errors.UnknownTopicOrPartitionError
            ]
            configs = (
                await _configs(conn, ConfigResourceType.TOPIC, [t[1] for t in there])
                if there
                else {}
            )
        brokers = {node: (host, port) for node, host, port, _ in metadata.brokers}
        self.cluster = Cluster(brokers, {t[1]: _seen(t, configs.get(t[1])) for t in there})
        return ok(f"{counted(len(brokers), 'broker')}, {len(there)} of our {len(names)} topics")

    async def _listeners(self) -> Verdict:
        return judge.listeners(await reach(self.cluster.brokers.values()))

    def _on_topics(
        self, judged: Callable[[tuple[Topic, ...], Cluster], Verdict]
    ) -> Callable[[], Awaitable[Verdict]]:
        async def look() -> Verdict:
            return judged(self.wanted, self.cluster)

        return look

    async def _rights(self) -> Verdict:
        return judge.rights(self._who.reads, self._who.writes, self.cluster)

    async def _sizes(self) -> Verdict:
        return judge.sizes(self.wanted, self.cluster, self._loaded.settings.worker.max_event_bytes)

    async def _limit(self) -> Verdict:
        node, address = next(iter(self.cluster.brokers.items()))
        async with self._asking("read the broker's settings", address) as conn:
            found = await _configs(conn, ConfigResourceType.BROKER, [str(node)])
        return judge.limits(
            found.get(str(node)), self._loaded.settings.coordinator.transaction_timeout_ms
        )

    async def _late_requests(self) -> Verdict:
        return judge.verification(await verification.look(self._kafka))

    async def _transactional_id(self) -> Verdict:
        name = self._who.transactional_id
        if not name:
            raise NotLookedAt("people have none")
        async with self._asking(f"ask who coordinates {name}") as conn:
            response = await conn.send(FindCoordinatorRequest(name, CoordinationType.TRANSACTION))
        error = kafka_errors.for_code(response.error_code)
        if error is kafka_errors.NoError:
            return ok(f"{name}, coordinated by broker {response.coordinator_id}")
        if error is kafka_errors.TransactionalIdAuthorizationFailed:
            return fault(
                f"no right to {name}",
                "kafka-acls.sh --add --allow-principal User:NAME --operation Write --operation "
                f"Describe --transactional-id {name}",
            )
        raise KafkaUnavailable(f"{name}: {error.__name__}")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


async def _configs(
    conn: Any, kind: ConfigResourceType, names: list[str]
) -> dict[str, dict[str, str]]:
    """Name -> its settings, without those that may not be read."""
    response = await conn.send(DescribeConfigsRequest([(kind, name, None) for name in names]))
    found: dict[str, dict[str, str]] = {}
    for code, _, _, name, entries in response.resources:
        if not code:
            found[name] = {entry[0]: entry[1] for entry in entries if entry[1] is not None}
    return found


def _seen(
    topic: Any, config: dict[str, str] | None
) -> TopicDescription:  # Any: a tuple of aiokafka's
    code, _, _, partitions, rights = topic
    error = kafka_errors.for_code(code)
    by: dict[str, list[int]] = defaultdict(list)
    for _, n, leader, _, replicas, in_sync, _ in sorted(partitions, key=lambda p: int(p[1])):
        by["replicas"].append(len(replicas))
        by["in_sync"].append(len(in_sync))
        if leader < 0:
            by["leaderless"].append(n)
    return TopicDescription(
        len(partitions),
        tuple(by["replicas"]),
        tuple(by["in_sync"]),
        tuple(by["leaderless"]),
        None if rights == NOT_TOLD else rights,
        config,
        "" if error is kafka_errors.NoError else error.__name__,
    )
