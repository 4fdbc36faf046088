"""`geolane dead`: list, show, replay."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from agents.base.errors import OperatorError, SettingsError
from agents.cli.options import FILE, SET, FullSummaries, load_account_settings
from agents.core.lanes.dead_letters import (
    LettersFound,
    describe_found,
    describe_letter,
    describe_letter_fully,
    letter_to_data,
    letters_to_data,
    query_from_words,
)
from agents.kafka.dead_letters import DeadLetters
from agents.kafka.rights import COORDINATOR
from agents.settings import Kafka


@click.group(cls=FullSummaries)
def dead() -> None:
    """Dead letters: list them, show one, send them back.

    FILTERs: reason=R since=1h until=10m source=TOPIC/PARTITION lane=N, or PARTITION/OFFSET;
    `all` includes those that were already sent back. Reads and writes Kafka as the
    settings say; where each process has an account of its own, as `geolane`."""


_KAFKA = click.option(
    "--settings",
    type=FILE,
    help="A settings file with [kafka] (default: that of the running stack).",
)


def _load_kafka_settings(
    settings: Path | None, sets: tuple[str, ...]
) -> Any:  # Any: settings.Kafka, imported when needed
    return load_account_settings(settings, sets, COORDINATOR).kafka


@dead.command("list")
@click.argument("filters", metavar="[FILTER]...", nargs=-1)
@_KAFKA
@SET
@click.option(
    "--count",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="Up to this many, the newest.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one object, with headers.")
def dead_list(
    filters: tuple[str, ...],
    settings: Path | None,
    sets: tuple[str, ...],
    count: int,
    as_json: bool,
) -> None:
    """List the newest, and count all by reason."""

    sys.exit(print_letters(_load_kafka_settings(settings, sets), filters, count, as_json=as_json))


@dead.command("show")
@click.argument("letter", metavar="PARTITION/OFFSET")
@_KAFKA
@SET
@click.option("--raw", is_flag=True, help="Its value alone, byte for byte.")
@click.option("--json", "as_json", is_flag=True, help="One object, with headers.")
def dead_show(
    letter: str, settings: Path | None, sets: tuple[str, ...], raw: bool, as_json: bool
) -> None:
    """Show one with its headers."""
    if raw and as_json:
        raise SettingsError("--raw and --json contradict each other")
    kafka = _load_kafka_settings(settings, sets)
    sys.exit(print_letter(kafka, letter, raw=raw, as_json=as_json))


@dead.command("replay")
@click.argument("filters", metavar="[FILTER]...", nargs=-1)
@_KAFKA
@SET
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be sent back.")
def dead_replay(
    filters: tuple[str, ...],
    settings: Path | None,
    sets: tuple[str, ...],
    yes: bool,
    dry_run: bool,
) -> None:
    """Send them back to events.raw, each exactly once."""
    import getpass

    sys.exit(
        replay_letters(
            _load_kafka_settings(settings, sets),
            filters,
            getpass.getuser(),
            yes=yes,
            dry_run=dry_run,
        )
    )


LISTED, SHOWN_CHARACTERS = 1_000, 20_000
DONE, NOTHING, NOT_CONFIRMED = 0, 1, 3


def print_letters(kafka: Kafka, words: Sequence[str], count: int, *, as_json: bool) -> int:
    """Print the newest letters, and how many there are. Raises OperatorError for an invalid filter,
    KafkaError."""
    found = asyncio.run(
        DeadLetters(kafka).find_letters(query_from_words(words, _now_ms()), min(count, LISTED))
    )
    if as_json:
        click.echo(msgspec.json.encode(letters_to_data(found, count, headers=True)))
    else:
        click.echo(f"{describe_found(found)}.")
        for x in found.letters:
            click.echo(describe_letter(x))
    return DONE


def print_letter(kafka: Kafka, word: str, *, raw: bool, as_json: bool) -> int:
    """Print one letter; `raw`: only its value, byte for byte."""
    query = query_from_words([word], _now_ms())
    if not query.one:
        raise OperatorError(
            f"{word[:40]!r} is not a valid dead letter id: give PARTITION/OFFSET, as list prints "
            "it."
        )
    found = asyncio.run(DeadLetters(kafka).find_letters(query, 1))
    if not found.letters:
        raise OperatorError(f"There is no dead letter {word}; it may have expired.")
    if raw:
        sys.stdout.buffer.write(found.letters[0].value or b"")
    elif as_json:
        click.echo(msgspec.json.encode(letter_to_data(found.letters[0], SHOWN_CHARACTERS)))
    else:
        click.echo("\n".join(describe_letter_fully(found.letters[0], SHOWN_CHARACTERS)))
    return DONE


def replay_letters(
    kafka: Kafka, words: Sequence[str], by: str, *, yes: bool, dry_run: bool = False
) -> int:
    """Say what would be sent back, ask, and send it. `dry_run`: only say it."""
    letters, query = DeadLetters(kafka), query_from_words(words, _now_ms())
    found: LettersFound = asyncio.run(letters.find_letters(query, 1))
    click.echo(f"{describe_found(found)}.")
    if not found.count:
        return NOTHING
    if dry_run:
        click.echo("A dry run: nothing was sent back.")
        return DONE
    if not yes and not (
        sys.stdin.isatty() and click.confirm("Send them back to events.raw?", err=True)
    ):
        click.echo("Not confirmed: nothing was done.")
        return NOT_CONFIRMED
    sent = asyncio.run(
        letters.replay_letters(query, by, _now_ms(), dict(found.upto) if found.whole else None)
    )
    click.echo(f"{sent:,} sent back.")
    return DONE


def _now_ms() -> int:
    return int(time.time() * 1000)
