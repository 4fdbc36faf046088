"""Accounts, each with its password in a file of its name. Whoever makes one at once with others, or
is cut off and does it again, ends with the server and the file agreeing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from agents import settings
from agents.base.errors import CommandRefused, SettingsError
from agents.base.files import made_once
from ejabberd.api import AdminApi

TRIES = 5


async def ensure(
    api: AdminApi, user: str, host: str, secrets: Path, *, reset: bool = False
) -> Literal["made", "changed", "there"]:
    """The account is there, with the password in its file.

    One that is there without a file here was not made here: its password is replaced only with
    `reset`, that of the account that asks never. Raises SettingsError then, XmppError."""
    if not (reset or (secrets / user).exists()):
        await refuse_foreign(api, user, host, secrets)
    text = await asyncio.to_thread(made_once, secrets / user)
    try:
        await asked(api, "register", user=user, host=host, password=text)
    except CommandRefused as e:
        if e.condition != "conflict":
            raise
        if await is_password(api, user, host, text):
            return "there"
        if api.account == f"{user}@{host}":
            raise SettingsError(
                f"{api.account} is the account that the server's API is asked with: its password "
                "is not changed; choose "
                "another name"
            ) from e
        await asked(api, "change_password", user=user, host=host, newpass=text)
        return "changed"
    return "made"


async def refuse_foreign(api: AdminApi, user: str, host: str, secrets: Path) -> None:
    """Raises SettingsError where the account is there and its password's file is not."""
    # Who makes it at once with us has put the file there before the account.
    if await exists(api, user, host) and not (secrets / user).exists():
        raise SettingsError(
            f"account {user}@{host} is there and was not made here: there is no {secrets / user}. "
            "Put its password into "
            "that file (mode 0600), choose another name, or give --reset-password to replace it"
        )


async def exists(api: AdminApi, user: str, host: str) -> bool:
    return bool(await asked(api, "check_account", user=user, host=host) == 0)


async def is_password(api: AdminApi, user: str, host: str, text: str) -> bool:
    return bool(await asked(api, "check_password", user=user, host=host, password=text) == 0)


async def asked(
    api: AdminApi, command: str, **arguments: str
) -> Any:  # Any: each command answers its own
    """Of those who register one account at once, each one refused leaves ejabberd 23.01 with a
    cache entry on which every command about the account fails, and every log-in: it is asked again
    without what it has cached."""
    for _ in range(TRIES - 1):
        try:
            return await api.call(command, **arguments)
        except CommandRefused as e:
            if e.condition != "http-500":
                raise
        await api.call("clear_cache")
    return await api.call(command, **arguments)


def next_file(secrets: Path, account: str) -> Path:
    """Where the password that an account is to have lies until it has it."""
    return secrets / f"{account}.next"


async def rotate(
    api: AdminApi, user: str, host: str, secrets: Path, tell: Callable[[str, str], None]
) -> None:
    """A new password of 256 bits. It lies in a file before the server knows it, and takes the old
    one's place as soon as the server does: whenever this is cut off, doing it again ends with a
    file that has the password. Sessions live on.

    Raises SettingsError (no such account, the files), XmppError."""
    if not await exists(api, user, host):
        raise SettingsError(f"there is no account {user}@{host}: geolane nodes add makes it")
    file, coming = secrets / user, next_file(secrets, user)
    text = await asyncio.to_thread(made_once, coming)
    await asked(api, "change_password", user=user, host=host, newpass=text)
    try:
        await asyncio.to_thread(coming.replace, file)
    except OSError as e:
        if not (
            isinstance(e, FileNotFoundError) and settings.secret(str(file)) == text
        ):  # one beside us has done it
            raise SettingsError(
                f"{file}: cannot be replaced ({e.strerror}); its password is in {coming} now"
            ) from e
    tell("changed", f"password of {user}@{host}, the new one is in {file}")


def forget(secrets: Path, account: str) -> None:
    """Its files are gone. Raises SettingsError."""
    for file in (secrets / account, next_file(secrets, account)):
        try:
            file.unlink(missing_ok=True)
        except OSError as e:
            raise SettingsError(f"{file}: cannot be removed ({e.strerror})") from e
