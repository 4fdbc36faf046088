"""The one way to reach the brokers, and the border to aiokafka: none of its errors leaves this
package, and every wait has a bound."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import aiokafka.errors as kafka_errors
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType

from agents import settings
from agents.base import log
from agents.base.errors import (
    GeolaneError,
    KafkaError,
    KafkaUnavailable,
    SettingsError,
    system_reason,
)
from agents.base.tls import verifying_context
from agents.kafka import fetched, foreign, sockets

T = TypeVar("T")

foreign.install_batch_reader()
fetched.install()
sockets.install()

PAUSE_S = 0.005
"""Pause before a retry when the broker has answered "not yet" (PROTOCOL 2.2)."""
REST_S = 0.1
"""Pause before a retry when no broker has answered."""
BOUND_S = 10.0

_FENCED = (
    kafka_errors.ProducerFenced,
    kafka_errors.InvalidProducerEpoch,
    kafka_errors.InvalidProducerIdMapping,
)
NOT_YET = (
    kafka_errors.ConcurrentTransactions,
    kafka_errors.CoordinatorLoadInProgressError,
    kafka_errors.NotCoordinatorError,
    kafka_errors.CoordinatorNotAvailableError,
    kafka_errors.LeaderNotAvailableError,
    kafka_errors.NotLeaderForPartitionError,
    kafka_errors.UnknownTopicOrPartitionError,
)


def client_kwargs(kafka: settings.Kafka) -> dict[str, Any]:
    """The arguments that all of aiokafka's clients share. The connections of this process have the
    socket buffers of `kafka` from now on.

    Raises SettingsError for an unknown security protocol or SASL mechanism, and for a certificate
    or password that is missing or cannot be read."""
    if kafka.security not in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
        raise SettingsError(
            f"kafka.security: {kafka.security!r} is not one of PLAINTEXT, SSL, SASL_PLAINTEXT and "
            "SASL_SSL"
        )
    sockets.use_buffers(kafka.send_buffer_bytes, kafka.receive_buffer_bytes)
    kwargs: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap,
        "security_protocol": kafka.security,
    }
    if kafka.security.endswith("SSL"):
        kwargs["ssl_context"] = context = verifying_context("kafka.ca_file", kafka.ca_file)
        context.sslobject_class = _Hasty
    if kafka.security.startswith("SASL"):
        if kafka.sasl_mechanism not in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            raise SettingsError(
                f"kafka.sasl_mechanism: {kafka.sasl_mechanism!r} is not one of PLAIN, "
                "SCRAM-SHA-256 and SCRAM-SHA-512"
            )
        if settings.ACCOUNT in kafka.username:
            raise SettingsError(
                f"kafka.username is {kafka.username!r}, each process's own account: `geolane "
                "provision` needs "
                "kafka.admin_username, any other tool an account's name"
            )
        password = settings.read_secret(
            kafka.password_file, f"kafka-{kafka.username}", kafka.username
        )
        if not (kafka.username and password):
            raise SettingsError(
                f"kafka.security is {kafka.security}: kafka.username and kafka.password_file are "
                "needed (or, for the password, "
                "a systemd credential kafka-USERNAME)"
            )
        kwargs |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.username,
            "sasl_plain_password": password,
        }
    return kwargs


def make_committed_reader(kafka: settings.Kafka, **options: int | str) -> Any:  # Any: no types
    """A consumer of committed records. It joins no group, commits no offset, and reads what it is
    told to `assign`, from the first record on unless it is told to `seek`. `options`: further
    arguments of AIOKafkaConsumer. Raises SettingsError, as `client_kwargs` does."""
    own = {
        "group_id": None,
        "enable_auto_commit": False,
        "isolation_level": "read_committed",
        "auto_offset_reset": "earliest",
    }
    return AIOKafkaConsumer(**own | client_kwargs(kafka) | options)


_BOOTSTRAP = re.compile(r"\('([^']+)', (\d+), <AddressFamily")
"""The addresses in aiokafka's error when no broker of them answers."""
_DENIED = {
    kafka_errors.TopicAuthorizationFailedError: "Topic",
    kafka_errors.GroupAuthorizationFailedError: "Group",
    kafka_errors.TransactionalIdAuthorizationFailed: "TransactionalId",
    kafka_errors.ClusterAuthorizationFailedError: "Cluster",
}


def describe_error(error: BaseException) -> str:
    """The text of an aiokafka error; for a missing right, it names the resource if the error
    does."""
    kind = _DENIED.get(type(error))
    if kind is None and (tried := _BOOTSTRAP.findall(str(error))):
        brokers = ", ".join(f"{host}:{port}" for host, port in tried)
        # aiokafka does not raise which of the two it was; its log says so.
        return f"no broker answers at {brokers} (kafka.bootstrap), or none accepts our login"
    if kind is None and isinstance(error, OSError):
        return system_reason(error)
    if kind is None:
        return str(error) or type(error).__name__
    of = error.args[0] if error.args else ""
    name = (
        ", ".join(sorted(map(str, of)))
        if isinstance(of, set | frozenset | list | tuple)
        else str(of)
    )
    return (
        f"this Kafka account lacks a right on {f'{kind} {name}'.strip()} (`geolane provision` "
        "gives rights)"
    )


def is_fenced(error: BaseException) -> bool:
    """Whether the error says that a newer producer id or epoch of our transactional id exists."""
    return isinstance(error, _FENCED)


def lacks_right(error: BaseException) -> bool:
    """Whether the broker refused the request because a right is missing; it then has changed
    nothing."""
    return type(error) in _DENIED


def is_connection_refused(error: BaseException | None) -> bool:
    return type(error) is kafka_errors.KafkaConnectionError


def raise_for_code(code: int, about: str) -> None:
    """Raise aiokafka's error for this code, unless the code means success. `about` is its text."""
    error = kafka_errors.for_code(code)
    if error is not kafka_errors.NoError:
        raise error(about)


def to_geolane_error(error: BaseException, what: str) -> GeolaneError:
    """Map an error of aiokafka, a socket or a time-out to one of ours; `what` names the failed
    action.

    Errors that a retry cannot mend (rights, sizes, versions) become a plain KafkaError, all others
    KafkaUnavailable."""
    if isinstance(error, GeolaneError):
        return error
    hopeless = (
        kafka_errors.TopicAuthorizationFailedError,
        kafka_errors.GroupAuthorizationFailedError,
        kafka_errors.ClusterAuthorizationFailedError,
        kafka_errors.TransactionalIdAuthorizationFailed,
        kafka_errors.AuthenticationFailedError,
        kafka_errors.UnsupportedSaslMechanismError,
        kafka_errors.MessageSizeTooLargeError,
        kafka_errors.InvalidTopicError,
        kafka_errors.IncompatibleBrokerVersion,
        kafka_errors.UnsupportedVersionError,
    )
    text = describe_error(error)
    return (
        KafkaError(f"{what}: {text}")
        if isinstance(error, hopeless)
        else KafkaUnavailable(f"{what}: {text}")
    )


class _Hasty(ssl.SSLObject):
    """TLS that sends close_notify without waiting for the peer's (RFC 8446, 6.1).

    uvloop would wait 30 s when the broker has just sent something else. The reader of the lane map,
    and with it the start of a router, would wait as long."""

    def unwrap(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            super().unwrap()


class Link:
    """One plain client for requests to brokers and coordinators, with retries within a bound. Safe
    for concurrent calls."""

    def __init__(self, kafka: settings.Kafka, client_id: str) -> None:
        self._kafka = kafka
        self._client_id = client_id
        self._client: Any = None  # aiokafka has no types
        self._coordinators: dict[tuple[int, str], int] = {}

    @property
    def client(self) -> Any:
        if self._client is None:
            raise KafkaUnavailable(f"{self._client_id}: start() has not been called")
        return self._client

    async def start(self, bound_s: float = BOUND_S) -> None:
        """Reach a broker. Raises KafkaUnavailable after `bound_s`; it may then be called again."""
        client = AIOKafkaClient(
            client_id=self._client_id, request_timeout_ms=5000, **client_kwargs(self._kafka)
        )
        try:
            await self.retry_until_done(
                "reach Kafka at " + self._kafka.bootstrap, client.bootstrap, bound_s
            )
        except BaseException:
            await client.close()
            raise
        self._client = client

    async def stop(self) -> None:
        """Close the connections; idempotent."""
        client, self._client = self._client, None
        if client is not None:
            async with asyncio.timeout(BOUND_S):
                await client.close()

    async def find_coordinator(self, kind: CoordinationType, key: str) -> int:
        """The broker that coordinates a group or a transactional id, cached until a request
        fails."""
        node = self._coordinators.get((kind, key))
        if node is None:
            try:
                node = int(await self.client.coordinator_lookup(kind, key))
            except tuple(_DENIED) as e:
                raise type(e)(key) from e  # aiokafka's error does not name the resource
            self._coordinators[kind, key] = node
        return node

    async def send_request(
        self, node: int, request: object, group: ConnectionGroup = ConnectionGroup.DEFAULT
    ) -> Any:
        """Send one request and return its response. Raises aiokafka's errors, so call it inside
        `retry_until_done`."""
        return await self.client.send(node, request, group=group)

    async def retry_until_done(
        self, what: str, attempt: Callable[[], Awaitable[T]], bound_s: float = BOUND_S
    ) -> T:
        """Retry `attempt` until it succeeds. Raises KafkaUnavailable after `bound_s`, KafkaError if
        a retry cannot help."""
        last: BaseException | None = None
        try:
            async with asyncio.timeout(bound_s):
                while True:
                    try:
                        return await attempt()
                    except NOT_YET as e:
                        last, pause = e, PAUSE_S
                    except (kafka_errors.KafkaError, OSError, TimeoutError) as e:
                        if not getattr(e, "retriable", True):
                            raise to_geolane_error(e, what) from e
                        last, pause = e, REST_S
                    # The coordinator is known and only busy then; any other error may mean that
                    # another broker leads or coordinates now.
                    if not isinstance(last, kafka_errors.ConcurrentTransactions):
                        self._coordinators.clear()
                        self._refresh_metadata()
                    await asyncio.sleep(pause)
        except TimeoutError as e:
            # aiokafka logs why a connection failed (port, certificate, password) but does not
            # raise it.
            why = (
                "no broker accepted our login: check address, certificate and password"
                if is_connection_refused(last)
                else repr(last)
            )
            raise KafkaUnavailable(f"{what}: not done within {bound_s:g} s ({why})") from e

    def _refresh_metadata(self) -> None:
        if self._client is not None:
            self._client.force_metadata_update()


# Closing a client

_log = log.get_logger("kafka.closing")


async def stop_client(stop: Coroutine[Any, Any, None], bound_s: float = 5.0) -> None:
    """Run a client's `stop()` for up to `bound_s` seconds and log its errors: the last step of a
    process must not fail or hang.

    `stop()` gets a task of its own. When the broker is away, aiokafka's consumer lets the
    CancelledError of its fetching task out of `stop()`. In the caller it would look like the
    caller's own cancellation, and a task group would end without an error."""
    stopping = asyncio.create_task(stop)
    _, late = await asyncio.wait({stopping}, timeout=bound_s)
    if late:
        stopping.cancel()
        _log.warning("client_not_closed", bound_s=bound_s)
    elif not stopping.cancelled() and (error := stopping.exception()) is not None:
        _log.warning("client_not_closed", error=repr(error))


async def retry_until_available(
    attempt: Callable[[], Awaitable[T]], tell: Callable[[KafkaUnavailable], None]
) -> T:
    """Retry `attempt` while it raises KafkaUnavailable; `tell` hears of the first time."""
    told = False
    while True:
        try:
            return await attempt()
        except KafkaUnavailable as e:
            if not told:
                tell(e)
                told = True
            await asyncio.sleep(random.uniform(0.1, 0.5))
