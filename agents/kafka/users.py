"""Gives and removes Kafka's accounts (SCRAM) and rights (ACLs), with an administrator's account.
`Accounts` only adds; `Removal` removes what `Accounts` gave, and nothing else.

No password is sent: the broker receives the salt and the salted password (RFC 5802). A login shows
whether an account has its password already, as with ejabberd's accounts."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import aiokafka.errors as kafka_errors
import msgspec
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import DeleteAclsRequest, DescribeAclsRequest

from agents import settings
from agents.base.errors import KafkaError, KafkaUnavailable, SettingsError
from agents.base.files import read_or_make_password
from agents.base.progress import ReportStep
from agents.kafka.connection import BOUND_S, Link, client_kwargs
from agents.kafka.rights import Right
from agents.kafka.wire import (
    ALLOW,
    ANY,
    SCRAM,
    AlterUserScramCredentials,
    CreateAcls,
    DescribeUserScramCredentials,
    Operation,
    Pattern,
    Resource,
    _AlterScram,
)

_Row = tuple[int, str, int, str, str, int, int]
ITERATIONS = 8192
_SALT_BYTES = 32
_NO_SUCH_USER = 91  # RESOURCE_NOT_FOUND, which aiokafka does not know


class Accounts:
    """`kafka`: settings of an account with Alter on the cluster (Describe for a dry run). Call
    `start` before anything else."""

    def __init__(self, kafka: settings.Kafka) -> None:
        self._kafka = kafka
        self._link = Link(kafka, "geolane-provision")
        self._at_once = asyncio.Semaphore(8)

    async def start(self) -> None:
        """Raises KafkaUnavailable, SettingsError."""
        await self._link.start()

    async def stop(self) -> None:
        await self._link.stop()

    async def provision_users(
        self, files: Mapping[str, Path], tell: ReportStep, *, dry: bool = False, reset: bool = False
    ) -> None:
        """Give each user the password in its file; a missing file is created.

        A user that exists at Kafka without a file was not made here, and its password is replaced
        only with `reset`. Without it, raises SettingsError before anything is created or set. Also
        raises KafkaError, KafkaUnavailable."""
        if not reset:
            await self._refuse_foreign_users(files)
        if not dry:
            for file in files.values():
                await asyncio.to_thread(read_or_make_password, file)
        good = await asyncio.gather(*(self._can_log_in(user, file) for user, file in files.items()))
        missing = {
            user: file for (user, file), fits in zip(files.items(), good, strict=True) if not fits
        }
        if missing and not dry:
            await self.set_passwords(missing)
            for user, file in missing.items():
                await _wait_until(
                    partial(self._can_log_in, user, file),
                    f"Kafka's account {user} was made, but cannot log in",
                )
        for user, file in files.items():
            if user in missing:
                tell("set", f"Kafka's account {user}: its password is the one in {file}")
            else:
                tell("unchanged", f"Kafka's account {user}")

    async def _refuse_foreign_users(self, files: Mapping[str, Path]) -> None:
        unknown = await asyncio.to_thread(_users_without_file, files)
        there = await self._read_existing_users(list(unknown)) if unknown else set()
        # Look for files again: a concurrent run creates the file before the account.
        foreign = await asyncio.to_thread(
            _users_without_file, {user: files[user] for user in there}
        )
        if foreign:
            raise SettingsError(
                "\n".join(
                    f"Kafka's account {user} exists and was not made here: there is no {file}. "
                    "Put its password into "
                    "that file (mode 0600), or give --reset-password to replace it"
                    for user, file in sorted(foreign.items())
                )
            )

    async def _read_existing_users(self, users: Sequence[str]) -> set[str]:
        """Those of `users` that have a password at Kafka, of any SCRAM mechanism."""
        response = await self._send_request(
            "look for Kafka's accounts", DescribeUserScramCredentials(users)
        )
        if response.error_code:
            raise self._error_for_code(
                "Kafka's accounts cannot be seen", response.error_code, response.error_message
            )
        for name, code, message, *_ in response.results:
            if code not in (0, _NO_SUCH_USER):
                raise self._error_for_code(f"Kafka's account {name} cannot be seen", code, message)
        return {name for name, code, *_ in response.results if not code}

    async def set_passwords(self, files: Mapping[str, Path]) -> None:
        """Give each user the password in its file and replace the present one. Raises KafkaError,
        KafkaUnavailable."""
        number, digest = SCRAM[self._kafka.sasl_mechanism]
        credentials = []
        for user, file in files.items():
            text, salt = settings.read_secret(str(file)), os.urandom(_SALT_BYTES)
            salted = await asyncio.to_thread(
                hashlib.pbkdf2_hmac, digest, text.encode(), salt, ITERATIONS
            )
            credentials.append((user, number, ITERATIONS, salt, salted))
        response = await self._send_request(
            "set the passwords of Kafka's accounts", AlterUserScramCredentials(credentials)
        )
        for name, code, message, _ in response.results:
            if code:
                raise self._error_for_code(f"Kafka's account {name} cannot be made", code, message)

    async def _can_log_in(self, user: str, file: Path) -> bool:
        if not await asyncio.to_thread(file.exists):
            return False
        kafka = msgspec.structs.replace(self._kafka, username=user, password_file=str(file))
        client = AIOKafkaClient(
            client_id="geolane-provision", request_timeout_ms=5000, **client_kwargs(kafka)
        )
        try:
            async with self._at_once, asyncio.timeout(BOUND_S):
                await client.bootstrap()
        except (kafka_errors.KafkaError, OSError):
            return False
        finally:
            await client.close()
        return True

    async def grant_rights(
        self, wanted: Sequence[Right], tell: ReportStep, *, dry: bool = False
    ) -> None:
        """Give the missing rights. Raises KafkaError (our account may not give them),
        KafkaUnavailable."""
        there = await self._read_acls()
        if there is None:
            tell("unchanged", "rights: this Kafka asks for none (it has no authorizer.class.name)")
            return
        missing = [right for right in wanted if _acl_row_from_right(right) not in there]
        if missing and not dry:
            response = await self._send_request(
                "give rights", CreateAcls([_acl_row_from_right(right) for right in missing])
            )
            for right, (code, message) in zip(missing, response.creation_responses, strict=True):
                if code:
                    raise self._error_for_code(
                        f"{right} cannot be granted to {right.user}", code, message
                    )
            await _wait_until(
                lambda: self._has_rights(missing), "rights were granted, but are not visible"
            )
        for user in dict.fromkeys(right.user for right in wanted):
            new = [str(right) for right in missing if right.user == user]
            count = sum(right.user == user for right in wanted)
            tell(
                "made" if new else "unchanged",
                f"rights of {user}: {'; '.join(new) if new else f'all {count}'}",
            )

    async def _has_rights(self, rights: Sequence[Right]) -> bool:
        return {_acl_row_from_right(right) for right in rights} <= (
            await self._read_acls() or set()
        )

    async def _read_acls(self) -> set[_Row] | None:
        """All ACLs of the broker; None if it has no authorizer."""
        every = DescribeAclsRequest(ANY, None, ANY, None, None, ANY, ANY)
        response = await self._send_request("read the rights", every)
        error = kafka_errors.for_code(response.error_code)
        if error is kafka_errors.SecurityDisabled:
            return None
        if error is not kafka_errors.NoError:
            raise self._error_for_code(
                "the rights cannot be read", response.error_code, response.error_message
            )
        return {
            (kind, name, pattern, principal, host, operation, permission)
            for kind, name, pattern, acls in response.resources
            for principal, host, operation, permission in acls
        }

    async def _send_request(self, what: str, request: object) -> Any:  # Any: aiokafka has no types
        async def attempt() -> Any:
            return await self._link.send_request(self._link.client.get_random_node(), request)

        return await self._link.retry_until_done(what, attempt)

    def _error_for_code(self, what: str, code: int, message: str | None) -> KafkaError:
        error = kafka_errors.for_code(code)
        if error is kafka_errors.ClusterAuthorizationFailedError:
            return KafkaError(
                f"{what}: {self._kafka.username} lacks a right; it needs Alter and Describe on "
                "Cluster. Or let an administrator run what `geolane provision --only kafka "
                "--print` prints"
            )
        return KafkaError(f"{what}: {error.__name__} {message or ''}".rstrip())


def _users_without_file(files: Mapping[str, Path]) -> dict[str, Path]:
    return {user: file for user, file in files.items() if not file.exists()}


async def _wait_until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for the condition, since brokers learn of a change one after the other. Raises
    KafkaUnavailable after BOUND_S."""
    deadline = asyncio.get_running_loop().time() + BOUND_S
    while not await condition():
        if asyncio.get_running_loop().time() > deadline:
            raise KafkaUnavailable(f"{what} {BOUND_S:g} s later")
        await asyncio.sleep(0.05)


def _acl_row_from_right(right: Right) -> _Row:
    kind, pattern, operation = (
        Resource(right.resource),
        Pattern(right.pattern),
        Operation(right.operation),
    )
    return (int(kind), right.name, int(pattern), f"User:{right.user}", "*", int(operation), ALLOW)


# Removal of a worker's account and rights

_NOT_THERE = {0, 91}  # RESOURCE_NOT_FOUND
_NO_AUTHORIZER = 54  # SECURITY_DISABLED


class _Forget(AlterUserScramCredentials):
    """Delete the user's credential of one mechanism."""

    def __init__(self, user: str, mechanism: int) -> None:
        super().__init__([])
        self._deletions: list[tuple[Any, ...]] = [(user, mechanism, {})]

    def build(self, request_struct_class: type[_AlterScram]) -> _AlterScram:
        return request_struct_class(self._deletions, [], {})


class Removal(Accounts):
    """Removes what Accounts gave; idempotent. Call `start` before anything else."""

    async def remove_user(self, user: str, tell: ReportStep) -> None:
        """Remove the user's password: it cannot log in any more, but open connections stay. Raises
        KafkaError, KafkaUnavailable."""
        number, _ = SCRAM[self._kafka.sasl_mechanism]
        response = await self._send_request("delete Kafka's account", _Forget(user, number))
        for _, code, message, _ in response.results:
            if code not in _NOT_THERE:
                raise self._error_for_code(
                    f"Kafka's account {user} cannot be deleted", code, message
                )
        tell("removed", f"Kafka's account {user}")

    async def revoke_rights(self, rights: Sequence[Right], tell: ReportStep) -> None:
        """Remove these rights from their users. Raises KafkaError, KafkaUnavailable."""
        for right in rights:
            kind, pattern, operation = (
                Resource(right.resource),
                Pattern(right.pattern),
                Operation(right.operation),
            )
            request = DeleteAclsRequest(
                int(kind),
                right.name,
                int(pattern),
                f"User:{right.user}",
                "*",
                int(operation),
                ALLOW,
            )
            response = await self._send_request("revoke rights", request)
            for code, message, _ in response.filter_responses:
                if code == _NO_AUTHORIZER:
                    return
                if code:
                    raise self._error_for_code(
                        f"{right} cannot be revoked from {right.user}", code, message
                    )
        await _wait_until(
            lambda: self._has_none_of(rights), "rights were revoked, but are still visible"
        )
        for user in dict.fromkeys(right.user for right in rights):
            tell("removed", f"{sum(r.user == user for r in rights)} rights of {user}")

    async def _has_none_of(self, rights: Sequence[Right]) -> bool:
        return not any([await self._has_rights([right]) for right in rights])
