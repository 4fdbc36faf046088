"""The live view: what happens, twice a second, on a terminal; on anything else a line every ten seconds."""

from __future__ import annotations

import asyncio
import time

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from agents.embedded.inside import Inside
from agents.embedded.replay import Replay
from agents.embedded.stack import Stack
from agents.errors import GeolaneError
from agents.live.figures import Board
from agents.live.picture import Look, lines
from agents.live.watcher import Watcher
from agents.settings import load

PERIOD_S = 0.5
LINE_S = 10.0
PANEL_LINES, TALL = 8, 40  # who has a lower terminal finds the panel by scrolling back
OPERATOR = "operator"
console = Console()


def say(text: str) -> None:
    """One step of the start or the stop."""
    console.print(Text("· " + text, style="dim"), soft_wrap=True)


def joining(stack: Stack) -> str:
    """How to join the room with a browser, or any XMPP client."""
    xmpp, name = stack.base.xmpp, OPERATOR
    web = f"browser   {stack.servers.web}\n" if stack.servers.web else ""
    return (
        f"{web}"
        f"room      {xmpp.room}      (write !help there)\n"
        f"login     {name}@{xmpp.domain} at {xmpp.host} port {xmpp.port}, STARTTLS\n"
        f"password  in {stack.folder.secrets / name}  (also: ana, guest)\n"
        f"trust     {xmpp.ca_file}"
    )


async def run(stack: Stack, replay: Replay | None) -> None:
    """Show the run until cancelled, or until the replay has sent all and everything is accounted for."""
    panel = Panel(joining(stack), title="join the room", expand=False)
    console.print(panel)
    sending = asyncio.create_task(replay.run()) if replay else None
    board = Board(stack.base.xmpp.domain)
    following = asyncio.create_task(_follow(stack, board))
    inside = Inside(stack)
    try:
        if not console.is_terminal:
            await _lines(stack, sending, board)
            return
        with Live(console=console, auto_refresh=False, transient=False) as live:
            while True:
                if sending and sending.done():
                    sending.result()
                f = inside.figures(board.figures(time.monotonic()))
                live.update(Group(*lines(f, _look(stack, replay))), refresh=True)
                await asyncio.sleep(PERIOD_S)
    finally:
        for task in filter(None, (sending, following)):
            task.cancel()
        await asyncio.gather(*filter(None, (sending, following)), return_exceptions=True)


async def _follow(stack: Stack, board: Board) -> None:
    """What the feeds say, read as `operator`; where that is not to be, the view goes on with what is known inside."""
    file = stack.folder.settings / f"{OPERATOR}.toml"
    if not await asyncio.to_thread(file.exists):
        return
    try:
        await Watcher((await asyncio.to_thread(load, file)).xmpp, OPERATOR, board).run()
    except GeolaneError as e:
        board.link = str(e)


def _look(stack: Stack, replay: Replay | None) -> Look:
    a, f = stack.accounting, stack.follower
    recent = a.recent.summary()
    extra = (
        *stack.endings.lines(),
        f"{a.in_now:,} in, {a.clean:,} clean, {a.open_now:,} on the way, {a.doubled_now} duplicates; "
        f"{a.filtered:,} filtered, {a.dead:,} dead, {a.unplaced:,} unplaced",
        f"raw to clean {_ms(recent['p50'])} p50   {_ms(recent['p99'])} p99   {f.moves} moves   {f.fences} fences"
        + ("   ! waiting for Kafka" if replay and replay.waiting else ""),
    )
    foot = f"Ctrl-C stops everything{f'; browser {stack.servers.web}' if stack.servers.web else ''}"
    high = console.height - 1 - (PANEL_LINES if console.height >= TALL else 0)
    return Look(console.width, high, extra=extra, foot=foot)


async def _lines(stack: Stack, sending: asyncio.Task[None] | None, board: Board) -> None:
    while True:
        await asyncio.sleep(LINE_S)
        if sending and sending.done():
            sending.result()
        a = stack.accounting
        p = a.recent.summary()
        heard = board.figures(time.monotonic()).summary
        for trouble in heard.troubles.rows if heard is not None and heard.troubles is not None else ():
            console.print(f"{trouble.severity.value}: {trouble.text}", soft_wrap=True, markup=False)
        console.print(
            f"in {a.in_now} clean {a.clean} dead {a.dead} filtered {a.filtered} open {a.open_now} "
            f"duplicates {a.doubled_now} p50 {p['p50']} ms p99 {p['p99']} ms",
            soft_wrap=True,
        )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"
