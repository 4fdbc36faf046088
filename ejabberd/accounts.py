"""Accounts, each with its password in a file of the same name. Making an account is idempotent.
Interrupted, or done by several at once, it ends with server and file agreeing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal

from agents import settings
from agents.base.errors import CommandRefused, SettingsError
from agents.base.files import read_or_make_password
from agents.base.progress import ReportStep
from ejabberd.api import AdminApi

TRIES = 5


async def ensure_account(
    api: AdminApi, user: str, host: str, secrets: Path, *, reset: bool = False
) -> Literal["made", "changed", "unchanged"]:
    """Make sure that the account exists, with the password in its file.

    An account without a file here was not made here. Its password is replaced only with `reset`;
    that of the account that makes the requests, never. In these cases raises SettingsError; also
    raises XmppError."""
    if not (reset or (secrets / user).exists()):
        await refuse_foreign_account(api, user, host, secrets)
    text = await asyncio.to_thread(read_or_make_password, secrets / user)
    try:
        await call_with_retry(api, "register", user=user, host=host, password=text)
    except CommandRefused as e:
        if e.condition != "conflict":
            raise
        if await is_password(api, user, host, text):
            return "unchanged"
        if api.account == f"{user}@{host}":
            raise SettingsError(
                f"{api.account} is the account that calls the server's API: its password "
                "is not changed; choose another name"
            ) from e
        await call_with_retry(api, "change_password", user=user, host=host, newpass=text)
        return "changed"
    return "made"


async def refuse_foreign_account(api: AdminApi, user: str, host: str, secrets: Path) -> None:
    """Raises SettingsError if the account exists and its password's file does not."""
    # A process that makes the account at the same time writes the file before it makes the account.
    if await account_exists(api, user, host) and not (secrets / user).exists():
        raise SettingsError(
            f"account {user}@{host} exists and was not made here: there is no {secrets / user}. "
            "Put its password into "
            "that file (mode 0600), choose another name, or give --reset-password to replace it"
        )


async def account_exists(api: AdminApi, user: str, host: str) -> bool:
    return bool(await call_with_retry(api, "check_account", user=user, host=host) == 0)


async def is_password(api: AdminApi, user: str, host: str, text: str) -> bool:
    return bool(
        await call_with_retry(api, "check_password", user=user, host=host, password=text) == 0
    )


async def call_with_retry(
    api: AdminApi, command: str, **arguments: str
) -> Any:  # Any: each command has its own answer
    """Call the API, and call again after HTTP 500 with the cache cleared.

    If several register one account at once, each refused request leaves a cache entry in ejabberd
    23.01 on which every command about the account, and every log-in, fails."""
    for _ in range(TRIES - 1):
        try:
            return await api.call(command, **arguments)
        except CommandRefused as e:
            if e.condition != "http-500":
                raise
        await api.call("clear_cache")
    return await api.call(command, **arguments)


def next_password_file(secrets: Path, account: str) -> Path:
    """The file of an account's next password, until the server has accepted it."""
    return secrets / f"{account}.next"


async def replace_password(
    api: AdminApi, user: str, host: str, secrets: Path, tell: ReportStep
) -> None:
    """Give the account a new password of 256 bits. Sessions live on.

    The password is written to a file before the server gets it, and replaces the old file as soon
    as the server has it. After an interruption, running this again ends with a file that has the
    right password.

    Raises SettingsError (no such account, the files), XmppError."""
    if not await account_exists(api, user, host):
        raise SettingsError(f"there is no account {user}@{host}: geolane nodes add makes it")
    file, coming = secrets / user, next_password_file(secrets, user)
    text = await asyncio.to_thread(read_or_make_password, coming)
    await call_with_retry(api, "change_password", user=user, host=host, newpass=text)
    try:
        await asyncio.to_thread(coming.replace, file)
    except OSError as e:
        if not (
            isinstance(e, FileNotFoundError) and settings.read_secret(str(file)) == text
        ):  # a process beside us has done it
            raise SettingsError(
                f"{file}: cannot be replaced ({e.strerror}); its password is in {coming} now"
            ) from e
    tell("changed", f"password of {user}@{host}, the new one is in {file}")


def remove_password_files(secrets: Path, account: str) -> None:
    """Remove the account's files. Raises SettingsError."""
    for file in (secrets / account, next_password_file(secrets, account)):
        try:
            file.unlink(missing_ok=True)
        except OSError as e:
            raise SettingsError(f"{file}: cannot be removed ({e.strerror})") from e
