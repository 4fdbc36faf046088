"""What provisioning would do, found by looking only. Feeds cannot be seen by the admin API: they are always set anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agents import settings
from ejabberd import accounts
from ejabberd.api import AdminApi
from ejabberd.provision import COORDINATOR, NO_PRIVATE_MESSAGES, ROOM, ROOM_OPTIONS, Person, Tell


async def look(
    api: AdminApi,
    domain: str,
    workers: Sequence[str],
    people: Sequence[Person],
    secrets: Path,
    tell: Tell,
    *,
    reset: bool = False,
) -> None:
    """The lines of `provision` for the same arguments. Raises SettingsError (a password's file, or none for an account that
    is there), XmppError."""
    fleet = f"fleet.{domain}"
    for user in (COORDINATOR, *workers):
        await _account(api, user, fleet, secrets, tell, reset)
    for person in people:
        await _account(api, person.name, domain, secrets, tell, reset)
    service = f"conference.{domain}"
    if f"{ROOM}@{service}" not in await api.call("muc_online_rooms", service=service):
        tell("made", f"room {ROOM}@{service}")
    else:
        now = await api.call("get_room_options", name=ROOM, service=service)
        wanted = ROOM_OPTIONS | {name: value for name, value in NO_PRIVATE_MESSAGES.items() if name in now}
        wrong = [f"{name}={value}" for name, value in wanted.items() if now.get(name) != value]
        tell("changed" if wrong else "there", f"room {ROOM}@{service}" + (f": {', '.join(wrong)}" if wrong else ""))
    tell("set", f"shared rosters and feeds at {fleet}")


async def _account(api: AdminApi, user: str, host: str, secrets: Path, tell: Tell, reset: bool) -> None:
    account, file = f"account {user}@{host}", secrets / user
    if not (reset or file.exists()):
        await accounts.refuse_foreign(api, user, host, secrets)
    if not await accounts.exists(api, user, host):
        tell("made", account)
    elif file.exists() and await accounts.is_password(api, user, host, settings.secret(str(file))):
        tell("there", account)
    else:
        tell("changed", f"{account}: its password would be the one in {file}")
