"""What provisioning never does: a worker's place taken away again, and an account's password changed. Both may be cut off at any
point, and done again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from agents import settings
from agents.errors import CommandRefused, SettingsError
from ejabberd import feeds
from ejabberd.api import AdminApi
from ejabberd.provision import WORKER, _draft_password, _pubsub

Tell = Callable[[str, str], None]


async def remove_worker(api: AdminApi, domain: str, worker: str, secrets: Path, tell: Tell) -> None:
    """Account, place in the shared roster, feed and password file of one worker; its session ends. Who leads must have
    fenced it before, else it does so now. Raises SettingsError (name, file), XmppError."""
    if not WORKER.fullmatch(worker):
        raise SettingsError(f"worker {worker!r}: an account is node-NAME or router-NAME")
    fleet, feed = f"fleet.{domain}", feeds.telemetry(worker).name
    there = await api.call("check_account", user=worker, host=fleet) == 0
    try:
        await api.call("srg_user_del", user=worker, host=fleet, group="workers", grouphost=fleet)
    except CommandRefused as e:
        if there or e.condition in ("not-authorized", "forbidden"):
            raise
    await _pubsub(api, domain, feeds.affiliate(feeds.TUNING.name, [(f"{worker}@{fleet}", "none")]), feeds.delete(feed))
    if there:
        await api.call("unregister", user=worker, host=fleet)
    tell("gone", f"account {worker}@{fleet}, its place in the roster, feed {feed}")
    await asyncio.to_thread(_forget, secrets, worker)


def _forget(secrets: Path, account: str) -> None:
    for file in (secrets / account, next_file(secrets, account)):
        try:
            file.unlink(missing_ok=True)
        except OSError as e:
            raise SettingsError(f"{file}: cannot be removed ({e.strerror})") from e


def next_file(secrets: Path, account: str) -> Path:
    """Where the password that an account is to have lies until it has it."""
    return secrets / f"{account}.next"


async def rotate(api: AdminApi, user: str, host: str, secrets: Path, tell: Tell) -> None:
    """A new password of 256 bits. It lies in a file before the server knows it, and takes the old one's place as soon as the
    server does: whenever this is cut off, doing it again ends with a file that has the password. Sessions live on.

    Raises SettingsError (no such account, the files), XmppError."""
    if await api.call("check_account", user=user, host=host) != 0:
        raise SettingsError(f"there is no account {user}@{host}: geolane nodes add makes it")
    file, coming = secrets / user, next_file(secrets, user)
    text = await asyncio.to_thread(_next_password, coming)
    await api.call("change_password", user=user, host=host, newpass=text)
    try:
        await asyncio.to_thread(coming.replace, file)
    except OSError as e:
        raise SettingsError(f"{file}: cannot be replaced ({e.strerror}); its password is in {coming} now") from e
    tell("changed", f"password of {user}@{host}, the new one is in {file}")


def _next_password(file: Path) -> str:
    """What an attempt that was cut off left, or a new one."""
    try:
        if not file.exists():
            _draft_password(file).replace(file)
    except OSError as e:
        raise SettingsError(f"{file}: cannot be written ({e.strerror})") from e
    return settings.secret(str(file))
