"""The brokers as this account finds them. The doctor sends only requests that describe. It
produces, commits and creates nothing. It requests no producer id, since that would fence the worker
that uses it (PROTOCOL 2.1)."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka.admin.config_resource import ConfigResourceType
from aiokafka.client import CoordinationType
from aiokafka.conn import create_conn
from aiokafka.protocol.admin import ApiVersionRequest, DescribeConfigsRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest

from agents.admin.doctor.check import Check
from agents.admin.doctor.judge.certificate import judge_certificate
from agents.admin.doctor.judge.kafka import (
    FAR_MS,
    Cluster,
    RoundTrip,
    TopicDescription,
    judge_addresses,
    judge_buffers,
    judge_existence,
    judge_limits,
    judge_listeners,
    judge_racks,
    judge_replicas,
    judge_retention,
    judge_rights,
    judge_round_trips,
    judge_sizes,
    judge_time_stamps,
    judge_verification,
    judge_version,
)
from agents.admin.doctor.judge.roles import Role, Whom
from agents.admin.doctor.judge.verdict import NotLookedAt, Verdict, fault, ok
from agents.admin.doctor.sockets import examine_tls, try_addresses
from agents.base.errors import KafkaUnavailable
from agents.base.text import counted
from agents.core.model.inventory import Inventory
from agents.core.model.messages import PATHS_AT_MOST
from agents.core.model.topology import (
    KINDS,
    OPTIONAL_TOPICS,
    TOPIC_LANES,
    TOPIC_RAW,
    WorkerKind,
)
from agents.kafka import verification
from agents.kafka.connection import client_kwargs, to_geolane_error
from agents.kafka.paths import measure_rtt_ms, open_probe, read_tcp_rtt_ms
from agents.kafka.topics import NOT_TOLD, DescribeTopics, Topic, fleet_topics
from agents.settings import Loaded
from agents.settings.sources import DEFAULT

GROUP = "kafka"
ANSWER_MS = 4000
PROBES = 7
PROBE_AGAIN_S, PROBE_PAUSE_S = 3.0, 0.1
"""How long a broker that seems to be behind something is asked again: it may only be busy."""
HIDDEN = kafka_errors.TopicAuthorizationFailedError.__name__
_CLOSED = (kafka_errors.KafkaConnectionError, OSError)


class KafkaCheck:
    """`now`: this machine's clock, in epoch seconds. `cluster` is known once the check `kafka
    cluster` was ok."""

    def __init__(
        self,
        loaded: Loaded,
        who: Whom,
        now: Callable[[], float] = time.time,
        inventory: Inventory | None = None,
    ) -> None:
        self._loaded, self._who, self._now, self._inventory = loaded, who, now, inventory
        self._uses = {
            kind
            for kind in KINDS
            if kind.has_account(who.account)
            or (inventory is not None and inventory.workers_of(kind))
        }
        self._kafka = loaded.settings.kafka
        self._address: tuple[str, int] = ("", 0)  # of the first broker that was reached
        self._no_tls = False
        self.cluster = Cluster({}, {})
        self._trips: list[RoundTrip] = []
        self._limits: dict[str, str] | None = None

    def list_checks(self) -> list[Check]:
        def check(name: str, look: Callable[[], Awaitable[Verdict]], *needs: str) -> Check:
            return Check(GROUP, name, look, tuple(f"{GROUP} {need}" for need in needs))

        return [
            check("brokers", self._check_brokers),
            check("certificate", self._check_certificate, "brokers"),
            Check(GROUP, "login", self._check_login, ("kafka brokers",), ("kafka certificate",)),
            check("version", self._check_version, "login"),
            check("cluster", self._describe_cluster, "login"),
            check("listeners", self._check_listeners, "cluster"),
            Check(
                *(GROUP, "round trips", self._check_round_trips, (f"{GROUP} listeners",)),
                bound_s=12.0,
            ),
            check("racks", self._check_racks, "cluster"),
            check("topics", self._topics_check(judge_existence), "cluster"),
            check("rights", self._check_rights, "cluster"),
            check("time stamps", self._topics_check(judge_time_stamps), "cluster"),
            check("record sizes", self._check_sizes, "cluster"),
            check("keeping", self._topics_check(self._judge_retention), "cluster"),
            check("replicas", self._topics_check(judge_replicas), "cluster"),
            check("limits", self._check_limits, "listeners"),
            check("socket buffers", self._check_buffers, "round trips"),
            check("late requests", self._check_late_requests, "listeners"),
            check("transactional id", self._check_transactional_id, "cluster"),
        ]

    @property
    def wanted_topics(self) -> tuple[Topic, ...]:
        """The topics as they must be. If this account's settings do not state a topic's number of
        partitions, any number is right. Topics that this account does not need and may not see are
        left out, and so are missing ones of kinds of worker that the fleet does not have."""
        c = self._loaded.settings.coordinator
        every = fleet_topics(
            self._partition_count("coordinator.lanes", TOPIC_LANES, c.lanes),
            self._partition_count("coordinator.raw_partitions", TOPIC_RAW, c.raw_partitions),
        )
        return tuple(
            topic
            for topic in every
            if not self.is_hidden(topic.name) and not self._is_unused(topic.name)
        )

    def _is_unused(self, topic: str) -> bool:
        """Whether it is a topic of an optional kind of worker, is not there, and need not be."""
        seen = self.cluster.topics.get(topic)
        there = seen is not None and seen.error != HIDDEN
        return topic in OPTIONAL_TOPICS and not there and OPTIONAL_TOPICS[topic] not in self._uses

    def is_hidden(self, topic: str) -> bool:
        """Whether brokers hide this topic from an account that does not need it."""
        seen = self.cluster.topics.get(topic)
        needed = not self._who.worker or topic in (*self._who.reads, *self._who.writes)
        return not needed and seen is not None and seen.error == HIDDEN

    def _partition_count(self, key: str, topic: str, said: int) -> int:
        seen = self.cluster.topics.get(topic)
        told = self._who.role is Role.COORDINATOR or self._loaded.origins[key] != DEFAULT
        return said if told or seen is None else seen.partitions

    # The connection.

    async def _check_brokers(self) -> Verdict:
        addresses = [_address_from_text(text) for text in self._kafka.bootstrap.split(",")]
        answers = await try_addresses(addresses)
        there = [a for a in addresses if not answers[f"{a[0]}:{a[1]}"]]
        self._address = there[0] if there else addresses[0]
        return judge_addresses(answers)

    async def _check_certificate(self) -> Verdict:
        if not self._kafka.security.endswith("SSL"):
            return ok(f"none is asked for: kafka.security is {self._kafka.security}")
        host, port = self._address
        context = (await asyncio.to_thread(client_kwargs, self._kafka))["ssl_context"]
        seen = await examine_tls(host, port, context)
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
        return judge_certificate(
            host,
            seen.certificate,
            seen.refused,
            now,
            self._kafka.ca_file or "the system's authorities",
        )

    async def _check_login(self) -> Verdict:
        if self._no_tls:
            raise NotLookedAt("the certificate is not trusted, so there is no login")
        kafka = self._kafka
        if self._who.role is Role.PERSON and kafka.username == self._who.account:
            raise NotLookedAt("people have no account in Kafka")
        who = (
            f"{kafka.username} ({kafka.sasl_mechanism})"
            if kafka.security.startswith("SASL")
            else "anybody"
        )
        try:
            async with self._connect() as conn:
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
            return await self._explain_closed(e)

    async def _explain_closed(self, error: BaseException) -> Verdict:
        (host, port), security = self._address, self._kafka.security
        if (
            not security.endswith("SSL")
            and (await examine_tls(host, port, None)).certificate is not None
        ):
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
    async def _connect(
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
    async def _connect_to_ask(
        self, what: str, address: tuple[str, int] | None = None
    ) -> AsyncIterator[Any]:
        """As `_connect`, but raises our errors."""
        try:
            async with self._connect(address) as conn:
                yield conn
        except (kafka_errors.KafkaError, OSError, TimeoutError) as e:
            raise to_geolane_error(e, what) from e

    # What the brokers hold.

    async def _check_version(self) -> Verdict:
        async with self._connect_to_ask("ask for its versions") as conn:
            response = await conn.send(ApiVersionRequest())
        return judge_version({api[0] for api in response.api_versions})

    async def _describe_cluster(self) -> Verdict:
        names = [topic.name for topic in fleet_topics(1, 1)]
        async with self._connect_to_ask("describe the topics") as conn:
            metadata = await conn.send(DescribeTopics(names))
            there = [
                t
                for t in metadata.topics
                if kafka_errors.for_code(t[0]) is not kafka_errors.UnknownTopicOrPartitionError
            ]
            configs = (
                await _describe_configs(conn, ConfigResourceType.TOPIC, [t[1] for t in there])
                if there
                else {}
            )
        brokers = {node: (host, port) for node, host, port, _ in metadata.brokers}
        self.cluster = Cluster(
            brokers,
            {t[1]: _description_from_metadata(t, configs.get(t[1])) for t in there},
            {node: rack or "" for node, _, _, rack in metadata.brokers},
        )
        return ok(f"{counted(len(brokers), 'broker')}, {len(there)} of our {len(names)} topics")

    async def _check_listeners(self) -> Verdict:
        return judge_listeners(await try_addresses(self.cluster.brokers.values()))

    async def _check_round_trips(self) -> Verdict:
        kwargs = await asyncio.to_thread(client_kwargs, self._kafka)
        silent = dict[str, str]()

        async def measure(broker: int, address: tuple[str, int]) -> RoundTrip | None:
            host_and_port = f"{address[0]}:{address[1]}"
            try:
                async with asyncio.timeout(10), open_probe(kwargs, address) as connection:
                    rtts = [await measure_rtt_ms(connection) for _ in range(PROBES)]
                    metadata_ms = await _measure_metadata_ms(connection)
                    until = time.monotonic() + PROBE_AGAIN_S
                    while True:
                        trip = RoundTrip(
                            broker,
                            host_and_port,
                            statistics.median(rtts),
                            min(rtts),
                            read_tcp_rtt_ms(connection),
                            metadata_ms,
                        )
                        between = trip.behind_something or trip.answered_on_the_way
                        if not between or time.monotonic() >= until:
                            return trip
                        await asyncio.sleep(PROBE_PAUSE_S)
                        rtts.append(await measure_rtt_ms(connection))
                        metadata_ms = min(metadata_ms, await _measure_metadata_ms(connection))
            except (kafka_errors.KafkaError, OSError, TimeoutError) as e:
                silent[host_and_port] = str(to_geolane_error(e, "does not answer a probe"))
                return None

        brokers = sorted(self.cluster.brokers.items())[:PATHS_AT_MOST]
        trips = await asyncio.gather(*(measure(*broker) for broker in brokers))
        self._trips = [trip for trip in trips if trip is not None]
        return judge_round_trips(self._trips, silent)

    async def _check_racks(self) -> Verdict:
        if self._who.role is not Role.COORDINATOR:
            raise NotLookedAt("only the coordinator places lanes")
        if self._inventory is None:
            raise NotLookedAt("there is no valid inventory here")
        if self._loaded.settings.coordinator.data_at != "kafka":
            return ok("none is needed: coordinator.data_at is origin")
        return judge_racks(self._inventory, self.cluster.racks)

    def _topics_check(
        self, judged: Callable[[tuple[Topic, ...], Cluster], Verdict]
    ) -> Callable[[], Awaitable[Verdict]]:
        async def judge_topics() -> Verdict:
            return judged(self.wanted_topics, self.cluster)

        return judge_topics

    def _judge_retention(self, wanted: Sequence[Topic], cluster: Cluster) -> Verdict:
        wait_h = self._loaded.settings.geo.wait_h if WorkerKind.GEO in self._uses else 0.0
        return judge_retention(wanted, cluster, wait_h)

    async def _check_rights(self) -> Verdict:
        return judge_rights(self._who.reads, self._who.writes, self.cluster)

    async def _check_sizes(self) -> Verdict:
        return judge_sizes(
            self.wanted_topics, self.cluster, self._loaded.settings.worker.max_event_bytes
        )

    async def _check_limits(self) -> Verdict:
        node, address = next(iter(self.cluster.brokers.items()))
        async with self._connect_to_ask("read the broker's settings", address) as conn:
            found = await _describe_configs(conn, ConfigResourceType.BROKER, [str(node)])
        return judge_limits(
            found.get(str(node)), self._loaded.settings.coordinator.transaction_timeout_ms
        )

    async def _check_buffers(self) -> Verdict:
        async def read_settings(trip: RoundTrip) -> Mapping[str, str] | None:
            address = self.cluster.brokers[trip.broker]
            async with self._connect_to_ask("read the broker's settings", address) as conn:
                found = await _describe_configs(conn, ConfigResourceType.BROKER, [str(trip.broker)])
            return found.get(str(trip.broker))

        far = [trip for trip in self._trips if trip.min_ms > FAR_MS]
        return judge_buffers(far, await asyncio.gather(*map(read_settings, far)))

    async def _check_late_requests(self) -> Verdict:
        return judge_verification(await verification.read_brokers(self._kafka))

    async def _check_transactional_id(self) -> Verdict:
        name = self._who.transactional_id
        if not name:
            raise NotLookedAt("people have none")
        async with self._connect_to_ask(f"ask who coordinates {name}") as conn:
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


async def _measure_metadata_ms(connection: Any) -> float:
    """The round trip of a request for metadata of no topic. Raises as `open_probe`."""
    begun = time.perf_counter()
    await connection.send(DescribeTopics([]))
    return (time.perf_counter() - begun) * 1000


def _address_from_text(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


async def _describe_configs(
    conn: Any, kind: ConfigResourceType, names: list[str]
) -> dict[str, dict[str, str]]:
    """Name -> its settings, without those that may not be read."""
    response = await conn.send(DescribeConfigsRequest([(kind, name, None) for name in names]))
    found: dict[str, dict[str, str]] = {}
    for code, _, _, name, entries in response.resources:
        if not code:
            found[name] = {entry[0]: entry[1] for entry in entries if entry[1] is not None}
    return found


def _description_from_metadata(
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
