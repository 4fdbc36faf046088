"""`geolane nodes`: a node is added, removed, or gets a new password.

Each change is a series of idempotent steps: it may be interrupted anywhere and run again. The
inventory's row is written last and removed first, so that a running coordinator never sees a
half-made node."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec

from agents.admin import inventory_file
from agents.admin.members.request import MemberRequest, account_of_node
from agents.admin.provision.feeds import check_feeds
from agents.base.errors import KafkaUnavailable, SettingsError
from agents.base.progress import PrintLine, ReportStep, StepOutcome
from agents.base.text import counted
from agents.core.model.placement import PlacementTable, State, table_from_records
from agents.core.model.topology import WorkerKind
from agents.kafka.placement_log import read_placement
from agents.kafka.rights import Right, rights_of_accounts
from agents.kafka.users import Accounts, Removal
from ejabberd.accounts import replace_password
from ejabberd.api import api_from_settings
from ejabberd.provision import COORDINATOR, add_worker, remove_worker

LOOK_EVERY_S = 0.5


class InventoryWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A line of `geolane nodes list --json`: a worker of the inventory. `ceiling_eps`:
    worker.capacity_eps of the settings, above which no worker goes. `has_password`: whether the
    folder of secrets has its password."""

    worker: str
    name: str
    kind: str
    site: str
    region: str
    capacity_eps: float
    ceiling_eps: float | None
    has_password: bool


def list_workers(asked: MemberRequest) -> Iterator[str]:
    """The inventory's workers, one line each. Raises SettingsError."""
    workers = [*workers_of_inventory(asked)]
    wide = max(len(x.worker) for x in workers)
    for x in workers:
        has = "" if x.has_password else f"  no password in {asked.secrets}"
        limited = (
            f", limited to {x.ceiling_eps:,.0f} by worker.capacity_eps"
            if x.ceiling_eps is not None and x.ceiling_eps < x.capacity_eps
            else ""
        )
        yield f"{x.worker:{wide}}  {x.site:8} {x.capacity_eps:8,.0f} events/s{limited}{has}"


def workers_of_inventory(asked: MemberRequest) -> Iterator[InventoryWorker]:
    """The same for programs. Raises SettingsError."""
    inventory = inventory_file.read_inventory(asked.inventory)
    for spec in inventory.workers.values():
        yield InventoryWorker(
            worker=spec.worker,
            name=spec.label,
            kind=spec.kind.name,
            site=spec.site,
            region=inventory.sites[spec.site].region,
            capacity_eps=spec.capacity_eps,
            ceiling_eps=asked.settings.worker.capacity_eps or None,
            has_password=(asked.secrets / spec.worker).exists(),
        )


# Add.


async def add_node(
    asked: MemberRequest,
    node: str,
    site: str,
    capacity_eps: float | None,
    say: PrintLine,
    *,
    reset: bool = False,
) -> None:
    """Add a node, its account, rights and row. `capacity_eps` None: as its row says, or else as the
    smallest node has.

    Raises SettingsError, XmppError, KafkaError. Completed steps stay, and the next run continues
    from there."""
    name = account_of_node(node)
    inventory = await asyncio.to_thread(inventory_file.read_inventory, asked.inventory)
    if capacity_eps is None:
        there = inventory.workers.get(name)
        known = [there] if there else inventory.workers_of(WorkerKind.NODE)
        capacity_eps = min(spec.capacity_eps for spec in known)
    row = inventory_file.Row(node, site, capacity_eps)
    inventory_file.check_row(inventory, row)
    tell = _step_printer(say)
    api = api_from_settings(asked.settings)
    await asyncio.to_thread(asked.make_secrets)
    await add_worker(api, asked.domain, name, asked.secrets, tell, reset=reset)
    if (asked.secrets / COORDINATOR).exists():
        await check_feeds(asked.settings.xmpp, asked.secrets, [name])
    await _add_to_kafka(asked, name, tell, reset=reset)
    # last: the row is what a running coordinator sees
    new = await asyncio.to_thread(inventory_file.add_row, asked.inventory, row)
    tell("made" if new else "unchanged", f"[[node]] {row.name} at {row.site} in {asked.inventory}")
    for line in _next_steps(asked, row.name):
        say(line)


def _kafka_rights(asked: MemberRequest, name: str) -> list[Right]:
    kafka = asked.settings.kafka
    return (
        rights_of_accounts([name], kafka.for_account(name).username)
        if kafka.admin_username and kafka.username
        else []
    )


async def _add_to_kafka(asked: MemberRequest, name: str, tell: ReportStep, *, reset: bool) -> None:
    wanted = _kafka_rights(asked, name)
    if not wanted:
        return
    accounts = Accounts(asked.settings.kafka.admin)
    await accounts.start()
    try:
        if asked.makes_kafka_accounts:
            user = asked.settings.kafka.for_account(name).username
            await accounts.provision_users(
                {user: asked.secrets / f"kafka-{user}"}, tell, reset=reset
            )
        await accounts.grant_rights(wanted, tell)
    finally:
        await accounts.stop()


def _next_steps(asked: MemberRequest, name: str) -> Iterator[str]:
    files = [str(asked.secrets / account_of_node(name))]
    if asked.makes_kafka_accounts:
        files.append(
            str(
                asked.secrets
                / f"kafka-{asked.settings.kafka.for_account(account_of_node(name)).username}"
            )
        )
    yield "next, on the node's machine:"
    yield (
        f"  copy {' and '.join(files)} into its secrets, mode 0600, and {asked.file.name} beside "
        "them (docs/nodes.md)"
    )
    yield (
        "  geolane install-units && systemctl daemon-reload && systemctl enable --now "
        f"geolane-node@{name}"
    )
    yield "or, on this machine:"
    own = f" --set xmpp.password_file={files[0]}" if asked.settings.xmpp.password_file else ""
    yield f"  geolane node --name {name} --settings {asked.file}{own}"


# Remove.


async def remove_node(
    asked: MemberRequest, name: str, say: PrintLine, *, now: bool, wait_s: float
) -> None:
    """Remove the row, then wait until the leader has given the node's lanes to others and fenced it
    (`now`: do not wait). Then remove account, feed, rights and files.

    Raises SettingsError, XmppError, KafkaError."""
    worker, tell = account_of_node(name), _step_printer(say)
    kafka_user = asked.settings.kafka.for_account(worker).username
    # first: without the row the leader drains the node and fences it
    known = await asyncio.to_thread(inventory_file.remove_row, asked.inventory, name)
    tell(
        "removed" if known else "unchanged",
        f"{'' if known else 'no '}[[node]] {name} in {asked.inventory}",
    )
    if not now:
        await _wait_until_left(asked, worker, say, wait_s)
    await remove_worker(
        api_from_settings(asked.settings), asked.domain, worker, asked.secrets, tell
    )
    if taken := _kafka_rights(asked, worker):
        removal = Removal(asked.settings.kafka.admin)
        await removal.start()
        try:
            own = asked.makes_kafka_accounts
            # if all nodes share one account, keep the rights that the others need
            await removal.revoke_rights(
                taken if own else [r for r in taken if r.name.endswith(f"-{worker}")], tell
            )
            if own:
                await removal.remove_user(kafka_user, tell)
                await asyncio.to_thread(
                    (asked.secrets / f"kafka-{kafka_user}").unlink, missing_ok=True
                )
        finally:
            await removal.stop()
    say(
        f"next, on its machine: systemctl disable --now geolane-node@{name}, and remove its "
        "secrets there"
    )


async def _wait_until_left(
    asked: MemberRequest, worker: str, say: PrintLine, wait_s: float
) -> None:
    """Wait until `placement` says that the worker owns nothing and is fenced.

    Raises KafkaUnavailable after `wait_s`."""
    deadline = asyncio.get_running_loop().time() + wait_s
    told = -1
    while True:
        written = table_from_records(await read_placement(asked.reads_kafka))
        lanes = sum(
            s.worker == worker and s.state is not State.ORPHAN for s in written.placed.values()
        )
        if not lanes and not _has_live_lease(written, worker):
            return
        if lanes != told:
            say(
                f"wait: {worker} has {counted(lanes, 'lane')}"
                if lanes
                else f"wait: {worker} has no lanes, and is not fenced yet"
            )
            told = lanes
        if asyncio.get_running_loop().time() > deadline:
            raise KafkaUnavailable(
                f"{worker} still has {counted(lanes, 'lane')} after {wait_s:g} s. Its row is "
                f"removed. Check that a coordinator leads, that it reads {asked.inventory}, and "
                "that other nodes have room. Run this again to wait longer; --now cuts it off, "
                "and its lanes are placed again"
            )
        await asyncio.sleep(LOOK_EVERY_S)


def _has_live_lease(written: PlacementTable, worker: str) -> bool:
    lease = written.leases.get(worker)
    return lease is not None and not lease.fenced


# Rotate.


async def rotate_password(asked: MemberRequest, name: str, say: PrintLine) -> None:
    """Give the node's account a new password. Raises SettingsError, XmppError."""
    worker = account_of_node(name)
    if worker not in inventory_file.read_inventory(asked.inventory).workers:
        raise SettingsError(f"{asked.inventory}: there is no node {name}; see geolane nodes list")
    await replace_password(
        api_from_settings(asked.settings),
        worker,
        f"fleet.{asked.domain}",
        asked.secrets,
        _step_printer(say),
    )
    say(
        f"its session continues; it reads {asked.secrets / worker} at its next log-in. If it runs "
        "elsewhere, copy the file there now"
    )
    say(
        f"as a systemd unit it has a copy of its own: systemctl restart geolane-node@{name} (it "
        "hands its lanes over first)"
    )


def _step_printer(say: PrintLine) -> ReportStep:
    def print_step(did: StepOutcome, what: str) -> None:
        say(f"{did}: {what}")

    return print_step
