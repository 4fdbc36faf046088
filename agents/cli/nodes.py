"""The sub-commands `geolane nodes ...` and `geolane invite`. Each imports only what it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agents.cli.options import FILE, FOLDER, RESET, SET, FullSummaries

if TYPE_CHECKING:
    from agents.admin.members.request import MemberRequest

_SITE = click.option("--site", required=True, help="A site of the inventory.")
_OPTIONS = (
    click.option(
        "--settings",
        type=FILE,
        help="The settings file [default: the coordinator's of the running stack].",
    ),
    SET,
    click.option("--secrets", type=FOLDER, help="Folder of the passwords, a file per account."),
)
_INVENTORY = click.option(
    "--inventory", type=FILE, help="Inventory (TOML) [default: coordinator.inventory]."
)


def _with_common_options(
    *more: Any,
) -> Callable[[Any], Any]:  # Any: click's decorators are untyped in this direction
    def decorate(f: Any) -> Any:
        for option in reversed((*more, *_OPTIONS)):
            f = option(f)
        return f

    return decorate


def _request_from_options(given: dict[str, Any]) -> MemberRequest:
    from agents.admin.members.request import MemberRequest
    from agents.base import log
    from agents.local.servers.folder import settings_of_running_stack
    from agents.settings import load_settings

    log.setup("nodes", "CRITICAL")  # an error is reported once, in the last line
    file: Path = given.pop("settings") or settings_of_running_stack("geolane")
    return MemberRequest.from_options(
        load_settings(file, given.pop("sets")),
        file,
        given.pop("inventory", None),
        given.pop("secrets"),
    )


def _run_and_exit(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    from agents.base import supervisor

    sys.exit(supervisor.run(work, tell=False))


@click.group(cls=FullSummaries)
def nodes() -> None:
    """Add and remove nodes, and change their passwords, while the fleet runs."""


@nodes.command("list")
@_with_common_options(
    _INVENTORY,
    click.option("--json", "as_json", is_flag=True, help="One object a line, with typed values."),
)
def nodes_list(as_json: bool, **given: Any) -> None:
    """Print the inventory's workers: account, site, capacity."""
    import msgspec

    from agents.admin.members.changes import list_workers, workers_of_inventory

    asked = _request_from_options(given)
    if as_json:
        for worker in workers_of_inventory(asked):
            click.echo(msgspec.json.encode(worker))
        return
    for line in list_workers(asked):
        click.echo(line)


@nodes.command("add")
@click.argument("name")
@_with_common_options(
    _SITE,
    click.option(
        "--capacity",
        metavar="EPS",
        type=click.FloatRange(min=0, min_open=True),
        help="Events per second that it may process [default: as the inventory's smallest node]",
    ),
    _INVENTORY,
    RESET,
    click.option("--unit", is_flag=True, help="Install its systemd unit here, and start it."),
)
def nodes_add(
    name: str, site: str, capacity: float | None, unit: bool, reset_password: bool, **given: Any
) -> None:
    """Make node NAME: account, password, roster, feed, rights, and its row in the inventory.
    Running it again changes nothing."""
    from agents.admin.members import unit as units
    from agents.admin.members.changes import add_node

    asked = _request_from_options(given)
    if unit:
        units.check_unit_works(asked)

    async def work() -> None:
        await add_node(asked, name, site, capacity, click.echo, reset=reset_password)
        if unit:
            units.start_unit(asked, name, click.echo)

    _run_and_exit(work)


@nodes.command("remove")
@click.argument("name")
@_with_common_options(
    _INVENTORY,
    click.option(
        "--now", is_flag=True, help="Do not wait until it has handed its lanes over: cut it off."
    ),
    click.option(
        "--wait",
        "wait_s",
        metavar="S",
        type=click.FloatRange(min=0),
        default=300.0,
        show_default=True,
    ),
)
def nodes_remove(name: str, now: bool, wait_s: float, **given: Any) -> None:
    """Remove node NAME: its row first; then, once other nodes have its lanes and it is fenced, its
    account, feed and secrets."""
    from agents.admin.members.changes import remove_node

    asked = _request_from_options(given)
    _run_and_exit(lambda: remove_node(asked, name, click.echo, now=now, wait_s=wait_s))


@nodes.command("rotate")
@click.argument("name")
@_with_common_options(_INVENTORY)
def nodes_rotate(name: str, **given: Any) -> None:
    """Give node NAME a new password; its session continues, and its next login uses the new one."""
    from agents.admin.members.changes import rotate_password

    asked = _request_from_options(given)
    _run_and_exit(lambda: rotate_password(asked, name, click.echo))


@click.command("invite")
@click.argument("person")
@_with_common_options(
    click.option(
        "--role",
        type=click.Choice(["member", "admin", "owner"]),
        help="In the ops room: look, act, or tune. Left out: member, or what the person is now.",
    ),
    RESET,
    click.option(
        "--png",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Also write the QR code to this file.",
    ),
)
def invite(
    person: str, role: Any, png: Path | None, reset_password: bool, **given: Any
) -> None:  # Any: one of the three
    """Make an account and a place in the ops room for PERSON; print the link to it, and its QR code
    on a terminal.

    For a person who has both, --role changes the role."""
    from agents.admin.members.invitation import run

    asked = _request_from_options(given)
    _run_and_exit(
        lambda: run(
            asked, person, role, png, click.echo, terminal=sys.stdout.isatty(), reset=reset_password
        )
    )
