"""`geolane dead`: list, show, replay."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from agents.commands.options import FILE, SET, settings_of


@click.group()
def dead() -> None:
    """Dead letters: list them, show one, send them back.

    FILTERs: reason=R since=1h until=10m source=TOPIC/PARTITION lane=N, or PARTITION/OFFSET; `all` takes those too that went
    back already. Reads and writes Kafka with the account of the settings."""


_KAFKA = click.option(
    "--settings", type=FILE, help="A settings file with [kafka] (default: that of the running stack)."
)


def _kafka(settings: Path | None, sets: tuple[str, ...]) -> Any:  # Any: settings.Kafka, imported when needed
    return settings_of(settings, sets, "operator").kafka


@dead.command("list")
@click.argument("filters", metavar="[FILTER]...", nargs=-1)
@_KAFKA
@SET
@click.option("--count", type=click.IntRange(1, 1000), default=20, show_default=True, help="So many, the newest.")
@click.option("--json", "as_json", is_flag=True, help="One object, with headers.")
def dead_list(
    filters: tuple[str, ...], settings: Path | None, sets: tuple[str, ...], count: int, as_json: bool
) -> None:
    """List the newest, and count all by reason."""
    from agents import dead as letters

    sys.exit(letters.listed(_kafka(settings, sets), filters, count, as_json=as_json))


@dead.command("show")
@click.argument("letter", metavar="PARTITION/OFFSET")
@_KAFKA
@SET
@click.option("--raw", is_flag=True, help="Its value alone, byte for byte.")
def dead_show(letter: str, settings: Path | None, sets: tuple[str, ...], raw: bool) -> None:
    """Show one with its headers."""
    from agents import dead as letters

    sys.exit(letters.show(_kafka(settings, sets), letter, raw=raw))


@dead.command("replay")
@click.argument("filters", metavar="[FILTER]...", nargs=-1)
@_KAFKA
@SET
@click.option("--yes", is_flag=True, help="Do not ask.")
def dead_replay(filters: tuple[str, ...], settings: Path | None, sets: tuple[str, ...], yes: bool) -> None:
    """Send them back to events.raw, each exactly once."""
    import getpass

    from agents import dead as letters

    sys.exit(letters.replay(_kafka(settings, sets), filters, getpass.getuser(), yes=yes))
