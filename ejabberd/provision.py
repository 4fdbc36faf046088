"""Provisioning brings accounts, roster, room and feeds to the state of PROTOCOL 4, from any state.
It is idempotent.

It adds and never removes. A member of the room keeps the affiliation that the room's owners gave,
since the room is the truth about people. An account keeps its password as long as its file exists.
PubSub has no admin API in ejabberd 23.01, so feeds are made by stanzas in the coordinator's name;
the service's answers are not seen here.

Only `remove_worker` removes. Each step may be interrupted anywhere and run again."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agents import settings
from agents.base.errors import CommandRefused, SettingsError, XmppError
from agents.base.progress import ReportStep, StepOutcome, report_to_nobody
from agents.core.model.topology import KINDS
from ejabberd import accounts, feeds
from ejabberd.api import AdminApi

COORDINATOR = "geolane"
WORKER = re.compile(rf"({'|'.join(kind.name for kind in KINDS)})-[a-z0-9][a-z0-9.-]{{0,60}}")
_ACCOUNTS = f"{', '.join(f'{kind.name}-NAME' for kind in KINDS[:-1])} or {KINDS[-1].name}-NAME"
PERSON = re.compile(r"[a-z0-9][a-z0-9._-]{0,60}")
ROOM = "ops"
ROOM_OPTIONS = {
    "title": "geolane operations",
    "persistent": "true",
    "members_only": "true",
    "anonymous": "false",
    "allow_private_messages_from_visitors": "nobody",
    "allow_change_subj": "false",
    "allow_user_invites": "false",
    "allow_query_users": "true",
    "public": "false",
    "public_list": "false",
    "moderated": "false",
    "members_by_default": "true",
    "mam": "true",
    "max_users": "500",
}
NO_PRIVATE_MESSAGES = {"allow_private_messages": "false", "allowpm": "none"}
"""The first up to 23.01, the second since 23.04; a room has one of them."""
OPERATORS = "operators"
"""The group of the people at DOMAIN whom provisioning has put into the room. They may upload
files."""
ARCHIVE_DAYS = 90


@dataclass(frozen=True, slots=True)
class Person:
    """A person with an account at DOMAIN and a place in the ops room. The affiliations: a member
    may look, an admin act, an owner tune."""

    name: str
    affiliation: Literal["member", "admin", "owner"]


async def _ensure_account(
    api: AdminApi, user: str, host: str, secrets: Path, reset: bool
) -> tuple[StepOutcome, str]:
    """What happened to the account, in words."""
    did = await accounts.ensure_account(api, user, host, secrets, reset=reset)
    its = {
        "made": f", its password in {secrets / user}",
        "changed": f": its password is now the one in {secrets / user}",
        "unchanged": "",
    }
    return did, f"account {user}@{host}{its[did]}"


async def send_to_pubsub(api: AdminApi, domain: str, *stanzas: str) -> None:
    """Send stanzas to the service in the coordinator's name.

    A call returns when the service has handled its stanza. Stanzas are sent one at a time, because
    ejabberd 23.01 drops one of two requests whose transactions collide (`aborted, cyclic`)."""
    async with api.one_at_a_time():
        for stanza in stanzas:
            await api.call(
                "send_stanza",
                from_=f"{COORDINATOR}@fleet.{domain}",
                to=f"pubsub.fleet.{domain}",
                stanza=stanza,
            )


async def _ensure_feed(api: AdminApi, domain: str, feed: feeds.Feed, *more: str) -> None:
    """Make or correct the feed, then send `more`, in this order."""
    await send_to_pubsub(
        api, domain, feeds.make_create_request(feed), feeds.make_configure_request(feed), *more
    )


async def add_worker(
    api: AdminApi,
    domain: str,
    worker: str,
    secrets: Path,
    tell: ReportStep = report_to_nobody,
    *,
    reset: bool = False,
) -> None:
    """Account, password file, place in the shared roster and telemetry feed of one worker
    (`node-iad-1`, `router-1`, `analytics-1`, `geo-1`).

    This may run while the server is in use: sessions that are online get a roster push. Raises
    SettingsError (name, or an account that was not made here, without `reset`), XmppError."""
    if not WORKER.fullmatch(worker):
        raise SettingsError(
            f"worker {worker!r}: an account must be {_ACCOUNTS}, of a to z, digits, dots, hyphens"
        )
    fleet = f"fleet.{domain}"
    jid = f"{worker}@{fleet}"
    feed = feeds.telemetry_feed(worker)
    did, account = await _ensure_account(api, worker, fleet, secrets, reset)
    await asyncio.gather(
        api.call("srg_user_add", user=worker, host=fleet, group="workers", grouphost=fleet),
        _ensure_feed(
            api,
            domain,
            feed,
            feeds.make_affiliate_request(feed.name, [(jid, "publish-only")]),
            feeds.make_subscribe_request(feed.name, f"{COORDINATOR}@{fleet}"),
        ),
        send_to_pubsub(
            api, domain, feeds.make_affiliate_request(feeds.TUNING.name, [(jid, "member")])
        ),
    )
    tell(did, f"{account}; roster and feed {feed.name} set")


async def add_person(
    api: AdminApi,
    domain: str,
    person: Person,
    secrets: Path,
    tell: ReportStep = report_to_nobody,
    *,
    reset: bool = False,
    change_role: bool = False,
) -> None:
    """Account, password file, place in the room (unless the room has one for them; `change_role`:
    it is changed, but a ban is not lifted), the right to read the operator feeds and the right to
    upload.

    Raises SettingsError (name, or an account that was not made here, without `reset`),
    XmppError."""
    if not PERSON.fullmatch(person.name) or WORKER.match(person.name) or person.name == COORDINATOR:
        raise SettingsError(
            f"person {person.name!r}: a to z, digits, dots, hyphens; not geolane, node-..., "
            "router-..., analytics-... or geo-..."
        )
    jid = f"{person.name}@{domain}"
    room = {"name": ROOM, "service": f"conference.{domain}"}
    did, account = await _ensure_account(api, person.name, domain, secrets, reset)
    now = (await api.call("get_room_affiliation", **room, jid=jid))["affiliation"]
    if now == "none" or (change_role and now not in ("outcast", person.affiliation)):
        await api.call("set_room_affiliation", **room, jid=jid, affiliation=person.affiliation)
    if now != "outcast":
        member = {"user": person.name, "host": domain, "group": OPERATORS, "grouphost": domain}
        await _change_operators_group(api, "srg_user_add", **member)
        await send_to_pubsub(
            api,
            domain,
            *(
                feeds.make_affiliate_request(f.name, [(jid, "member")])
                for f in feeds.OPERATOR_FEEDS
            ),
        )
    if now in ("none", person.affiliation):
        tell(did, f"{account}; {person.affiliation} in the room")
    elif change_role and now != "outcast":
        tell("changed", f"{account}; {person.affiliation} in the room, was {now}")
    else:
        tell(did, f"{account}; {now} in the room, as its owners have set, not {person.affiliation}")


async def _ensure_roster(api: AdminApi, domain: str) -> None:
    """Workers and the coordinator see each other's presence; no worker sees another's, which would
    be O(N) presences each. People see nobody through it."""
    fleet = f"fleet.{domain}"
    for group, shows in (("workers", "coordinator"), ("coordinator", "workers")):
        if not await _create_group(api, fleet, group, shows):
            # Newer servers (seen with 26.07) want the shown group to exist. A group that exists is
            # not made again without what it shows: the fleet's presences would go away.
            await _create_group(api, fleet, shows, "")
            if not await _create_group(api, fleet, group, shows):
                raise CommandRefused("http-500", f"srg_create: no shared roster {group} at {fleet}")
    await api.call(
        "srg_user_add", user=COORDINATOR, host=fleet, group="coordinator", grouphost=fleet
    )
    words = {"label": OPERATORS, "description": OPERATORS, "display": ""}
    await _change_operators_group(api, "srg_create", group=OPERATORS, host=domain, **words)


async def _create_group(api: AdminApi, host: str, group: str, shows: str) -> bool:
    """Make a shared roster group that shows the group `shows`; False if the server made none."""
    made = await api.call(
        "srg_create", group=group, host=host, label=group, description=group, display=shows
    )
    return bool(made == 0)


async def _change_operators_group(api: AdminApi, command: str, **arguments: str) -> None:
    """A command on the group at DOMAIN. A server with an older configuration has no shared groups
    there, and any account may upload."""
    try:
        await api.call(command, **arguments)
    except CommandRefused as e:
        if e.condition != "http-500":
            raise


async def _ensure_room(api: AdminApi, domain: str, tell: ReportStep) -> None:
    service = f"conference.{domain}"
    room = {"name": ROOM, "service": service}
    there = True
    if f"{ROOM}@{service}" not in await api.call("muc_online_rooms", service=service):
        there = False
        options = [{"name": name, "value": value} for name, value in ROOM_OPTIONS.items()]
        await api.call("create_room_with_opts", **room, host=domain, options=options)
    now = await api.call("get_room_options", **room)
    wanted = ROOM_OPTIONS | {
        name: value for name, value in NO_PRIVATE_MESSAGES.items() if name in now
    }
    wrong = {option: value for option, value in wanted.items() if now.get(option) != value}
    for option, value in wrong.items():
        await api.call("change_room_option", **room, option=option, value=value)
    corrected = (
        f": {', '.join(f'{option}={value}' for option, value in wrong.items())}"
        if there and wrong
        else ""
    )
    tell(
        "made" if not there else "changed" if wrong else "unchanged",
        f"room {ROOM}@{service}{corrected}",
    )
    bot = f"{COORDINATOR}@fleet.{domain}"
    await api.call("set_room_affiliation", **room, jid=bot, affiliation="owner")
    await api.call("muc_register_nick", nick=COORDINATOR, jid=bot, service=service)


async def _trim_archive(api: AdminApi, domain: str) -> None:
    """Delete messages older than ARCHIVE_DAYS, in the background (the archive's table may hold 2
    GB)."""
    await api.call(
        "delete_old_mam_messages_batch",
        host=domain,
        type="all",
        days=ARCHIVE_DAYS,
        batch_size=1000,
        rate=10_000,
    )


async def provision_server(
    api: AdminApi,
    domain: str,
    workers: Sequence[str],
    people: Sequence[Person],
    secrets: Path,
    tell: ReportStep = report_to_nobody,
    *,
    reset: bool = False,
) -> None:
    """Provision everything: the coordinator, the room, the operators' feeds, then each worker and
    person. Idempotent.

    `tell` gets one line per thing. Each account's password lies in `secrets`/ACCOUNT, mode 0600.
    Raises SettingsError (name, or an account that was not made here, without `reset`), XmppError
    (server)."""
    await asyncio.to_thread(secrets.mkdir, mode=0o700, parents=True, exist_ok=True)
    tell(*await _ensure_account(api, COORDINATOR, f"fleet.{domain}", secrets, reset))
    try:
        async with asyncio.TaskGroup() as first:
            first.create_task(_ensure_roster(api, domain))
            first.create_task(_ensure_room(api, domain, tell))
            for feed in (feeds.TUNING, *feeds.OPERATOR_FEEDS):
                first.create_task(_ensure_feed(api, domain, feed))
            first.create_task(_trim_archive(api, domain))
        tell("set", f"shared roster groups workers and coordinator at fleet.{domain}")
        tell(
            "set",
            f"feeds at pubsub.fleet.{domain}: "
            f"{', '.join(f.name for f in (feeds.TUNING, *feeds.OPERATOR_FEEDS))}",
        )
        # only now: workers and people are added to the groups, the room and the feeds made above
        async with asyncio.TaskGroup() as then:
            for worker in workers:
                then.create_task(add_worker(api, domain, worker, secrets, tell, reset=reset))
            for person in people:
                then.create_task(add_person(api, domain, person, secrets, tell, reset=reset))
    except BaseExceptionGroup as group:
        known, others = group.split((XmppError, SettingsError))
        if known is None or others is not None:
            raise
        raise known.exceptions[0] from group


# Removing a worker, which provisioning never does.


async def remove_worker(
    api: AdminApi, domain: str, worker: str, secrets: Path, tell: ReportStep
) -> None:
    """Remove one worker's account, place in the shared roster, feed and password file; its session
    ends. If the leader has not fenced the worker before, it does so now.

    Raises SettingsError (name, file), XmppError."""
    if not WORKER.fullmatch(worker):
        raise SettingsError(f"worker {worker!r}: an account must be {_ACCOUNTS}")
    fleet, feed = f"fleet.{domain}", feeds.telemetry_feed(worker).name
    there = await accounts.account_exists(api, worker, fleet)
    try:
        await api.call("srg_user_del", user=worker, host=fleet, group="workers", grouphost=fleet)
    except CommandRefused as e:
        if there or e.condition in ("not-authorized", "forbidden"):
            raise
    await send_to_pubsub(
        api,
        domain,
        feeds.make_affiliate_request(feeds.TUNING.name, [(f"{worker}@{fleet}", "none")]),
        feeds.make_delete_request(feed),
    )
    if there:
        await api.call("unregister", user=worker, host=fleet)
    tell("removed", f"account {worker}@{fleet}, its place in the roster, feed {feed}")
    await asyncio.to_thread(accounts.remove_password_files, secrets, worker)


# A dry run. The admin API does not show feeds, so they always count as set.


async def provision_dry_run(
    api: AdminApi,
    domain: str,
    workers: Sequence[str],
    people: Sequence[Person],
    secrets: Path,
    tell: ReportStep,
    *,
    reset: bool = False,
) -> None:
    """The lines of `provision_server` for the same arguments, found by reading only.

    Raises SettingsError (a password's file, or none for an account that exists), XmppError."""
    fleet = f"fleet.{domain}"
    for user in (COORDINATOR, *workers):
        await _report_account(api, user, fleet, secrets, tell, reset)
    for person in people:
        await _report_account(api, person.name, domain, secrets, tell, reset)
    service = f"conference.{domain}"
    if f"{ROOM}@{service}" not in await api.call("muc_online_rooms", service=service):
        tell("made", f"room {ROOM}@{service}")
    else:
        now = await api.call("get_room_options", name=ROOM, service=service)
        wanted = ROOM_OPTIONS | {
            name: value for name, value in NO_PRIVATE_MESSAGES.items() if name in now
        }
        wrong = [f"{name}={value}" for name, value in wanted.items() if now.get(name) != value]
        tell(
            "changed" if wrong else "unchanged",
            f"room {ROOM}@{service}" + (f": {', '.join(wrong)}" if wrong else ""),
        )
    tell("set", f"shared rosters and feeds at {fleet}")


async def _report_account(
    api: AdminApi, user: str, host: str, secrets: Path, tell: ReportStep, reset: bool
) -> None:
    account, file = f"account {user}@{host}", secrets / user
    if not (reset or file.exists()):
        await accounts.refuse_foreign_account(api, user, host, secrets)
    if not await accounts.account_exists(api, user, host):
        tell("made", account)
    elif file.exists() and await accounts.is_password(
        api, user, host, settings.read_secret(str(file))
    ):
        tell("unchanged", account)
    else:
        tell("changed", f"{account}: its password would be the one in {file}")
