"""One way to reach the brokers, and one border: no error of aiokafka's leaves this package, every
wait has a bound."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import aiokafka.errors as kafka_errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType

from agents import settings
from agents.base import log
from agents.base.errors import GeolaneError, KafkaError, KafkaUnavailable, SettingsError
from agents.base.files import read_whole
from agents.kafka import foreign

T = TypeVar("T")

foreign.install()

PAUSE_S = 0.005
"""Between two tries when the broker has answered "not yet" (PROTOCOL 2.2)."""
REST_S = 0.1
"""Between two tries when there was no answer at all."""
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
    """The arguments that producers, consumers, admin and plain clients of aiokafka share.

    Raises SettingsError for a security protocol that does not exist, or a certificate or password
    that cannot be read."""
    if kafka.security not in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
        raise SettingsError(
            f"kafka.security: {kafka.security!r} is none of PLAINTEXT, SSL, SASL_PLAINTEXT and "
            "SASL_SSL"
        )
    kwargs: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap,
        "security_protocol": kafka.security,
    }
    if kafka.security.endswith("SSL"):
        try:
            if kafka.ca_file:
                read_whole(Path(kafka.ca_file))  # OpenSSL would read a device for ever
            kwargs["ssl_context"] = context = ssl.create_default_context(
                cafile=kafka.ca_file or None
            )
            context.sslobject_class = _Hasty
        except (OSError, ssl.SSLError) as e:
            raise SettingsError(
                f"kafka.ca_file: {kafka.ca_file}: no certificates can be read from it ({e})"
            ) from e
    if kafka.security.startswith("SASL"):
        if kafka.sasl_mechanism not in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            raise SettingsError(
                f"kafka.sasl_mechanism: {kafka.sasl_mechanism!r} is none of PLAIN, SCRAM-SHA-256 "
                "and SCRAM-SHA-512"
            )
        if settings.ACCOUNT in kafka.username:
            raise SettingsError(
                f"kafka.username is {kafka.username!r}, each process's own account: `geolane "
                "provision` needs "
                "kafka.admin_username, any other tool an account's name"
            )
        password = settings.secret(kafka.password_file, f"kafka-{kafka.username}", kafka.username)
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


_DENIED = {
    kafka_errors.TopicAuthorizationFailedError: "Topic",
    kafka_errors.GroupAuthorizationFailedError: "Group",
    kafka_errors.TransactionalIdAuthorizationFailed: "TransactionalId",
    kafka_errors.ClusterAuthorizationFailedError: "Cluster",
}


def said(error: BaseException) -> str:
    """An error of aiokafka's in words; a missing right is named, as far as the error knows it."""
    kind = _DENIED.get(type(error))
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
    """Whether the error says that our producer id and epoch are not the newest ones of their
    transactional id."""
    return isinstance(error, _FENCED)


def lacks_right(error: BaseException) -> bool:
    """Whether the broker refused it for want of a right: then it has done nothing."""
    return type(error) in _DENIED


def is_refused(error: BaseException | None) -> bool:
    return type(error) is kafka_errors.KafkaConnectionError


def raise_error(code: int, about: str) -> None:
    """Raise aiokafka's error for the code of an answer about `about`, if it is one."""
    error = kafka_errors.for_code(code)
    if error is not kafka_errors.NoError:
        raise error(about)


def as_ours(error: BaseException, what: str) -> GeolaneError:
    """The error of ours for one of aiokafka's (or a time-out, or a socket's); `what` was being
    done.

    What trying again cannot mend (rights, sizes, versions) is a plain KafkaError, all else
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
    text = said(error)
    return (
        KafkaError(f"{what}: {text}")
        if isinstance(error, hopeless)
        else KafkaUnavailable(f"{what}: {text}")
    )


class _Hasty(ssl.SSLObject):
    """TLS that says goodbye and does not wait to hear it (RFC 8446, 6.1): uvloop would wait 30 s
    for a broker that has just sent something else, with the lane map's reader, and so a router's
    start, behind it."""

    def unwrap(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            super().unwrap()


class Link:
    """One plain client: requests to brokers and coordinators, tried again within a bound. Safe for
    concurrent calls."""

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
        """Reach a broker. Raises KafkaUnavailable within `bound_s`; it may be called again then."""
        client = AIOKafkaClient(
            client_id=self._client_id, request_timeout_ms=5000, **client_kwargs(self._kafka)
        )
        try:
            await self.persist("reach Kafka at " + self._kafka.bootstrap, client.bootstrap, bound_s)
        except BaseException:
            await client.close()
            raise
        self._client = client

    async def stop(self) -> None:
        """Close the connections; harmless when nothing was started."""
        client, self._client = self._client, None
        if client is not None:
            async with asyncio.timeout(BOUND_S):
                await client.close()

    async def coordinator(self, kind: CoordinationType, key: str) -> int:
        """The broker that coordinates a group or a transactional id; remembered until a request
        there fails."""
        node = self._coordinators.get((kind, key))
        if node is None:
            try:
                node = int(await self.client.coordinator_lookup(kind, key))
            except tuple(_DENIED) as e:
                raise type(e)(key) from e  # aiokafka does not say for which
            self._coordinators[kind, key] = node
        return node

    async def ask(
        self, node: int, request: object, group: ConnectionGroup = ConnectionGroup.DEFAULT
    ) -> Any:
        """One request, one response; raises aiokafka's errors, so call it inside `persist`."""
        return await self.client.send(node, request, group=group)

    async def persist(
        self, what: str, attempt: Callable[[], Awaitable[T]], bound_s: float = BOUND_S
    ) -> T:
        """Call `attempt` until it answers. Raises KafkaUnavailable after `bound_s`, KafkaError for
        what cannot mend itself."""
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
                            raise as_ours(e, what) from e
                        last, pause = e, REST_S
                    if not isinstance(last, kafka_errors.ConcurrentTransactions):
                        self._coordinators.clear()
                        self._refresh()
                    await asyncio.sleep(pause)
        except TimeoutError as e:
            # aiokafka keeps the reason of a failed connection (port, certificate, password) to its
            # log.
            why = (
                "no broker let us in: wrong address, certificate or password?"
                if is_refused(last)
                else repr(last)
            )
            raise KafkaUnavailable(f"{what}: not done within {bound_s:g} s ({why})") from e

    def _refresh(self) -> None:
        if self._client is not None:
            self._client.force_metadata_update()


# ---- Ends a client of aiokafka within a bound, whatever state its broker is in: the last step of
# a process must not fail or hang.

_log = log.get("kafka.closing")


async def closed(stop: Coroutine[Any, Any, None], bound_s: float = 5.0) -> None:
    """Run a client's `stop()` in a task of its own and wait for it, `bound_s` seconds at most; what
    it raises is logged.

    aiokafka's consumer lets the CancelledError of its own fetching task out of `stop()` when the
    broker is away. Raised in the caller, that would pass for the caller's own cancellation, and a
    task group would take it for a quiet end."""
    stopping = asyncio.create_task(stop)
    _, late = await asyncio.wait({stopping}, timeout=bound_s)
    if late:
        stopping.cancel()
        _log.warning("client_not_closed", bound_s=bound_s)
    elif not stopping.cancelled() and (error := stopping.exception()) is not None:
        _log.warning("client_not_closed", error=repr(error))
