"""`geolane watch FEED`: prints what is published on one feed, as any member's client could."""

from __future__ import annotations

import time
from contextlib import aclosing

import click
import msgspec

from agents.errors import CommandRefused
from agents.settings import Settings
from agents.xmpp.person import Person
from plugins.feeds import Published, entry_of
from plugins.telemetry import telemetry_of


async def run(settings: Settings, account: str, feed: str, count: int | None, as_json: bool) -> None:
    """Print items until cancelled, or until `count` are printed.

    Raises NotConnected, NoAnswer, CommandRefused (no such feed, or this account may not read it)."""
    async with Person(settings.xmpp, account) as person:
        try:
            async with aclosing(person.watch(feed)) as items:
                async for item in items:
                    click.echo(line(item, as_json))
                    count = None if count is None else count - 1
                    if count == 0:
                        return
        except CommandRefused as e:
            raise CommandRefused(e.condition, f"{account} may not read the feed {feed!r}, or there is none") from e


def line(item: Published, as_json: bool) -> str:
    """One item in words, or as one line of JSON with all its values."""
    value = telemetry_of(item.payload) if item.feed.startswith("telemetry/") else entry_of(
        item.feed, item.item_id, item.payload
    )  # fmt: skip
    if as_json:
        return msgspec.json.encode(value).decode()
    now = time.strftime("%H:%M:%S")
    title, content = getattr(value, "title", ""), getattr(value, "content", "")
    if not title:
        return f"{now}  {value}"
    return f"{now}  {title}" + (f"\n          {content}" if content and content != title else "")
