"""`geolane watch`: the picture on a terminal, lines elsewhere, until `q`, Ctrl-C or a given count.
With a feed's name it prints the items of that feed, as any member's client could."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live

from agents.base.errors import CommandRefused
from agents.core.model.answers import Moment
from agents.core.model.feeds import FLEET, OPERATOR_FEEDS, FeedItem
from agents.observe.dashboard import screen
from agents.observe.dashboard.figures import Act, Dashboard, DashboardFigures
from agents.observe.dashboard.keys import wait_for_quit
from agents.observe.dashboard.screen import ScreenLayout, draw_screen
from agents.observe.dashboard.watcher import Watcher
from agents.settings import Settings
from agents.xmpp.operator_client import OperatorClient
from plugins.feeds import Published, item_from_entry, updated_s_from_entry
from plugins.telemetry import telemetry_from_xml

PERIOD_S = 0.5
FIRST_S = 5.0


class Mode(StrEnum):
    PICTURE = "picture"
    PLAIN = "plain"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class How:
    """`every_s`: between two lines of the fleet. `count`: end after this many of them (for the
    picture: after this many items)."""

    mode: Mode
    every_s: float = 10.0
    count: int | None = None
    map: bool | None = None


async def run(settings: Settings, account: str, how: How) -> None:
    """Show the fleet until cancelled. Raises as Watcher.run."""
    try:
        await _View(settings, account, how).run()
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _View:
    def __init__(self, settings: Settings, account: str, how: How) -> None:
        self._how = how
        self._board = Dashboard(settings.xmpp.domain)
        self._watcher = Watcher(settings.xmpp, account, self._board, self._on_item, self._on_link)
        self._news: asyncio.Queue[str] = asyncio.Queue(1000)  # lines; if full, drops the oldest
        self._items = 0
        self._whole = asyncio.Event()

    async def run(self) -> None:
        watching = asyncio.create_task(self._watcher.run())
        showing = asyncio.create_task(self._run_mode())
        tasks = {watching, showing}
        if self._how.mode is Mode.PICTURE:
            tasks.add(asyncio.create_task(wait_for_quit()))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _run_mode(self) -> Coroutine[Any, Any, None]:
        return {
            Mode.PICTURE: self._show_picture,
            Mode.PLAIN: self._print_lines,
            Mode.JSON: self._print_json,
        }[self._how.mode]()

    def _current_figures(self) -> DashboardFigures:
        return self._board.figures_at(time.monotonic())

    # Input.

    def _on_item(self, item: FeedItem, at_s: float, act: Act | None) -> None:
        if item.feed == FLEET:
            self._items += 1
            if self._how.mode is Mode.JSON:
                self._queue_line(item_to_json(item, at_s))
        f = self._current_figures()
        if f.summary is not None and f.placement is not None and f.all_rows:
            self._whole.set()
        if act is not None and self._how.mode is Mode.PLAIN:
            self._queue_line(screen.format_act_line(act))

    def _on_link(self, text: str) -> None:
        if self._how.mode is Mode.PLAIN:
            self._queue_line(screen.format_link_line(text, time.time()))
        elif self._how.mode is Mode.JSON:
            click.echo(screen.format_link_line(text, time.time()), err=True)

    def _queue_line(self, line: str) -> None:
        if self._news.full():
            self._news.get_nowait()
        self._news.put_nowait(line)

    # Output.

    async def _print_json(self) -> None:
        shown = 0
        while shown != self._how.count:
            click.echo(await self._news.get())
            shown += 1

    async def _print_lines(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S):
                await self._whole.wait()
        shown = 0
        while True:
            click.echo(screen.format_fleet_line(self._current_figures(), time.time()))
            shown += 1
            if shown == self._how.count:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(self._how.every_s):
                    while True:
                        click.echo(await self._news.get())

    async def _show_picture(self) -> None:
        console = Console()
        look = ScreenLayout(console.width, console.height, self._how.map)
        with Live(console=console, auto_refresh=False, screen=True) as live:
            try:
                while self._how.count is None or self._items < self._how.count:
                    look = ScreenLayout(console.width, console.height, self._how.map)
                    live.update(Group(*draw_screen(self._current_figures(), look)), refresh=True)
                    await asyncio.sleep(PERIOD_S)
            finally:
                live.stop()  # back to the previous screen; the last picture is printed there
                if self._items:
                    console.print(Group(*draw_screen(self._current_figures(), look)))


# `geolane watch FEED`.


async def print_feed(
    settings: Settings, account: str, feed: str, count: int | None, as_json: bool
) -> None:
    """Print items until cancelled, or until `count` are printed.

    Raises NotConnected, NoAnswer, CommandRefused (no such feed, or the account may not read it)."""
    async with OperatorClient(settings.xmpp, account) as person:
        try:
            async with aclosing(person.watch_feed(feed)) as items:
                async for item in items:
                    click.echo(format_item(item, as_json))
                    count = None if count is None else count - 1
                    if count == 0:
                        return
        except CommandRefused as e:
            raise CommandRefused(
                e.condition,
                f"{account} may not read the feed {feed!r}, or there is none; feeds: "
                f"{', '.join(OPERATOR_FEEDS)}",
            ) from e


E = TypeVar("E")


class FeedLine(msgspec.Struct, Generic[E], frozen=True):
    """A line of `geolane watch [FEED] --json`: an item with its own time. `title`, `content`: for
    people; `element`: all its values."""

    updated: Moment
    feed: str
    item_id: str
    title: str
    content: str
    element: E
    leader_epoch: int


def format_item(item: Published, as_json: bool) -> str:
    """One item in words with its own time (UTC), or as one line of JSON with all its values."""
    if item.feed.startswith("telemetry/"):  # which has no time
        report = telemetry_from_xml(item.payload)
        if as_json:
            return msgspec.json.encode(report).decode()
        return f"{'kept' if item.kept else screen.format_utc(time.time())}  {report}"
    value = item_from_entry(item.feed, item.item_id, item.payload)
    at_s = updated_s_from_entry(item.payload)
    if as_json:
        return item_to_json(value, at_s)
    more = f"\n    {value.content}" if value.content not in ("", value.title) else ""
    return f"{screen.format_utc(at_s)}  {value.title}{more}"


def item_to_json(item: FeedItem, at_s: float) -> str:
    """A FeedLine."""
    line = FeedLine(
        datetime.fromtimestamp(at_s, UTC),
        item.feed,
        item.item_id,
        item.title,
        item.content,
        item.element,
        item.leader_epoch,
    )
    return msgspec.json.encode(line).decode()
