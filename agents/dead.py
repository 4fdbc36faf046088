"""`geolane dead list | show | replay`: dead letters straight from Kafka, with the rights of the settings' account."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

import click
import msgspec

from agents.core.dead import Found, Letter, line, query_of, readable, shown, summed
from agents.errors import OperatorError
from agents.kafka.dead import DeadLetters
from agents.settings import Kafka

LISTED, SHOWN_CHARACTERS = 1_000, 20_000
DONE, NOTHING, NOT_CONFIRMED = 0, 1, 3


def listed(kafka: Kafka, words: Sequence[str], count: int, *, as_json: bool) -> int:
    """Print the newest, and how many there are. Raises OperatorError for a filter that makes no sense, KafkaError."""
    found = asyncio.run(DeadLetters(kafka).find(query_of(words, _now_ms()), min(count, LISTED)))
    if as_json:
        click.echo(msgspec.json.encode({"count": found.count, "reasons": dict(found.reasons), "whole": found.whole,
                                        "letters": [_json(x) for x in found.letters]}))  # fmt: skip
    else:
        click.echo(f"{summed(found)}.")
        for x in found.letters:
            click.echo(line(x))
    return DONE


def show(kafka: Kafka, word: str, *, raw: bool) -> int:
    """Print one letter; `raw`: its value alone, byte for byte."""
    query = query_of([word], _now_ms())
    if not query.one:
        raise OperatorError(f"{word[:40]!r} is no dead letter's name: PARTITION/OFFSET, as list prints them.")
    found = asyncio.run(DeadLetters(kafka).find(query, 1))
    if not found.letters:
        raise OperatorError(f"There is no dead letter {word} (any more).")
    if raw:
        sys.stdout.buffer.write(found.letters[0].value or b"")
    else:
        click.echo("\n".join(shown(found.letters[0], SHOWN_CHARACTERS)))
    return DONE


def replay(kafka: Kafka, words: Sequence[str], by: str, *, yes: bool) -> int:
    """Say what would go back, ask, and send it back."""
    letters, query = DeadLetters(kafka), query_of(words, _now_ms())
    found: Found = asyncio.run(letters.find(query, 1))
    click.echo(f"{summed(found)}.")
    if not found.count:
        return NOTHING
    if not yes and not (sys.stdin.isatty() and click.confirm("Send them back to events.raw?", err=True)):
        click.echo("Not confirmed: nothing was done.")
        return NOT_CONFIRMED
    sent = asyncio.run(letters.replay(query, by, _now_ms(), dict(found.upto) if found.whole else None))
    click.echo(f"{sent:,} went back.")
    return DONE


def _json(x: Letter) -> dict[str, object]:
    headers = {readable(name.encode(), 80): readable(content, 200) for name, content in x.headers}
    return {"id": x.id, "ms": x.ms, "replayed": x.replayed, "headers": headers}


def _now_ms() -> int:
    return int(time.time() * 1000)
