"""The live view of a run: refreshed twice a second on a terminal; elsewhere one line every ten
seconds."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from dataclasses import replace

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from agents.base.errors import GeolaneError
from agents.core.model.feeds import FleetSummary, Severity, WorkerRow, WorkerRows
from agents.core.model.placement import State
from agents.core.model.topology import WorkerKind
from agents.local.demo.replay import Replay
from agents.local.stack import Stack
from agents.observe.dashboard.figures import MOVE, Act, Dashboard, DashboardFigures
from agents.observe.dashboard.keys import wait_for_quit
from agents.observe.dashboard.screen import ScreenLayout, draw_screen
from agents.observe.dashboard.watcher import Watcher
from agents.settings import load_settings

PERIOD_S = 0.5
LINE_S = 10.0
PANEL_LINES, TALL = 10, 40  # on a lower terminal, scroll back to the panel
OPERATOR = "operator"
console = Console()


def print_step(text: str) -> None:
    """Print one step of the start or the stop."""
    console.print(Text("· " + text, style="dim"), soft_wrap=True)


def describe_joining(stack: Stack) -> str:
    """How to join the room with a browser or any XMPP client, and where Kafka is."""
    xmpp, name, servers = stack.base.xmpp, OPERATOR, stack.servers
    pages = (("browser", servers.web), ("live map", servers.live))
    client = servers.client_file
    lines = [
        *(f"{what:<9} {address}" for what, address in pages if address),
        f"room      {xmpp.room}      (write !help there)",
        f"bot       {xmpp.coordinator}      (write help to it; forms: {xmpp.coordinator}/leader)",
        f"login     {name}@{xmpp.domain} at {xmpp.host} port {xmpp.port}, STARTTLS",
        f"password  in {stack.folder.secrets / name}  (also: ana, guest)",
        f"trust     {xmpp.ca_file}",
        f"kafka     {stack.base.kafka.bootstrap}"
        + (f"  (your programs log in with {client})" if client else ""),
    ]
    return "\n".join(lines)


async def run(stack: Stack, replay: Replay | None) -> None:
    """Show the run until `q` or until cancelled. The view stays after the replay has sent all its
    events; what became of them is printed then, and at the end."""
    panel = Panel(describe_joining(stack), title="join the room", expand=False)
    console.print(panel)
    sending = _Sending(stack, replay) if replay else None
    board = Dashboard(stack.base.xmpp.domain)
    following = asyncio.create_task(follow_feeds(stack, board))
    inside = Inside(stack)
    quitting = asyncio.create_task(wait_for_quit())
    try:
        if not console.is_terminal:
            await _print_lines_forever(stack, sending, board)
            return
        with Live(console=console, auto_refresh=False, transient=False) as live:
            while not quitting.done():
                if sending:
                    sending.check()
                f = inside.merge_figures(board.figures_at(time.monotonic()))
                live.update(Group(*draw_screen(f, _screen_layout(stack, replay))), refresh=True)
                await asyncio.sleep(PERIOD_S)
    finally:
        tasks = [following, quitting, *((sending.task,) if sending else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if sending:
            sending.print_total()


async def follow_feeds(stack: Stack, board: Dashboard) -> None:
    """Read the feeds as `operator`. If that fails, the view continues with what the run knows
    itself."""
    file = stack.folder.settings / f"{OPERATOR}.toml"
    if not await asyncio.to_thread(file.exists):
        return
    try:
        await Watcher((await asyncio.to_thread(load_settings, file)).xmpp, OPERATOR, board).run()
    except GeolaneError as e:
        board.link = str(e)


def _screen_layout(stack: Stack, replay: Replay | None) -> ScreenLayout:
    a, f = stack.accounting, stack.follower
    recent = a.recent.summary()
    extra = (
        *stack.endings.shown_lines(),
        *((f"real delays: {stack.delays.describe()}",) if stack.delays is not None else ()),
        f"{a.in_now:,} in, {a.clean:,} clean, {a.open_now:,} on the way, {a.doubled_now} "
        f"duplicates; {a.filtered:,} filtered, {a.dead:,} dead, "
        f"{a.unplaced:,} unplaced{f', {a.placed:,} placed' if a.placed else ''}",
        f"raw to clean {_format_ms(recent['p50'])} p50   {_format_ms(recent['p99'])} p99   "
        f"{f.moves} moves   {f.fences} fences"
        + ("   ! waiting for Kafka" if replay and replay.waiting else ""),
    )
    foot = "; ".join(
        (
            "q or Ctrl-C stops everything",
            *((f"browser {stack.servers.web}",) if stack.servers.web else ()),
            *(() if replay else (f"write to events.raw at {stack.base.kafka.bootstrap}",)),
        )
    )
    high = console.height - 1 - (PANEL_LINES if console.height >= TALL else 0)
    return ScreenLayout(console.width, high, extra=extra, foot=foot)


class _Sending:
    """The replay while it runs. What became of its events is printed once, when all have come
    out."""

    def __init__(self, stack: Stack, replay: Replay) -> None:
        self._accounting, self._replay, self._begun = stack.accounting, replay, time.monotonic()
        self._told = False
        self.task = asyncio.create_task(replay.run())

    def check(self) -> None:
        """Raises what the replay has failed with."""
        if not self.task.done():
            return
        self.task.result()
        a = self._accounting
        if not self._told and a.events_in >= self._replay.sent and a.open <= 0:
            self._told = True
            self.print_total()

    def print_total(self) -> None:
        """What became of the events that were sent so far."""
        a, took_s = self._accounting, time.monotonic() - self._begun
        p = a.visible.summary()
        console.print(
            f"Total: {self._replay.sent:,} events sent in {took_s:,.0f} s; {a.clean:,} clean, "
            f"{a.filtered:,} filtered, {a.dead:,} dead, {a.unplaced:,} unplaced, {a.open_now:,} on "
            f"the way, {a.doubled_now:,} duplicates; raw to visible {_format_ms(p['p50'])} p50, "
            f"{_format_ms(p['p99'])} p99.",
            soft_wrap=True,
        )


async def _print_lines_forever(stack: Stack, sending: _Sending | None, board: Dashboard) -> None:
    while True:
        await asyncio.sleep(LINE_S)
        if sending:
            sending.check()
        a = stack.accounting
        p = a.recent.summary()
        heard = board.figures_at(time.monotonic()).summary
        for trouble in (
            heard.troubles.rows if heard is not None and heard.troubles is not None else ()
        ):
            console.print(f"{trouble.severity.value}: {trouble.text}", soft_wrap=True, markup=False)
        console.print(
            f"in {a.in_now} clean {a.clean} dead {a.dead} filtered {a.filtered} open {a.open_now} "
            f"duplicates {a.doubled_now} p50 {p['p50']} ms p99 {p['p99']} ms",
            soft_wrap=True,
        )


def _format_ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"


# What a run knows without asking: the topics that it follows and the processes that it keeps. The
# view shows this until the feeds say more.

LAST = (Severity.INFO.value, Severity.CALM.value)


def _act_sort_key(act: Act) -> tuple[int, int]:
    """Alerts have whole seconds. Within one second, what began comes before the steps that follow,
    and what ended comes after them."""
    return int(act.at_s), 1 if act.kind == MOVE else 2 if act.kind in LAST else 0


class EventRates:
    """Turns growing counts into events/s over the last seconds."""

    def __init__(self, over_s: float = 5.0) -> None:
        self._over_s = over_s
        self._past: deque[tuple[float, Counter[str]]] = deque()

    def rates_from_counts(self, counts: Counter[str]) -> dict[str, float]:
        """Events/s of each count since the oldest of the last `over_s` seconds."""
        now = time.monotonic()
        self._past.append((now, counts))
        while len(self._past) > 2 and now - self._past[1][0] > self._over_s:
            self._past.popleft()
        then, before = self._past[0]
        return {key: (counts[key] - before[key]) / max(now - then, 0.001) for key in counts}


class Inside:
    """The figures of one run, from inside."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._rates = EventRates()
        self._since_s = time.time()  # the service may keep alerts of earlier runs

    def merge_figures(self, heard: DashboardFigures) -> DashboardFigures:
        """`heard`, with every written step in place of the plans, and with our own figures if none
        arrived."""
        written = [Act(at_s, MOVE, text) for at_s, text in self._stack.follower.acts]
        alerts = [act for act in heard.acts if act.kind != MOVE and act.at_s >= self._since_s]
        acts = tuple(sorted([*written, *alerts], key=_act_sort_key))
        if heard.summary is not None:
            return replace(heard, acts=acts)
        summary, rows = self._own_figures()
        return replace(heard, acts=acts, summary=summary, rows=rows, silent_s=0.0)

    def _own_figures(self) -> tuple[FleetSummary, tuple[WorkerRow, ...]]:
        stack, a = self._stack, self._stack.accounting
        counts = Counter({"in": a.events_in, "clean": a.clean}) + Counter(
            {f"{n}": c for n, c in a.lane_out.items()}
        )
        eps = self._rates.rates_from_counts(counts)
        placed = stack.follower.placed
        by_worker, lanes = Counter[str](), Counter[str]()
        for p, record in placed.items():
            if record.state is not State.ORPHAN:
                lanes[record.worker] += 1
                by_worker[record.worker] += (
                    round(eps.get(f"{p.n}", 0.0)) if WorkerKind.NODE.works(p) else 0
                )
        rows = []
        for spec in stack.workers:
            site = stack.inventory.sites[spec.site]
            alive = stack.family.children[spec.worker].pid is not None
            rate = eps.get("in", 0.0) if spec.kind == WorkerKind.ROUTER else by_worker[spec.worker]
            rows.append(
                WorkerRow(
                    spec.worker,
                    site.name,
                    site.region,
                    site.lat,
                    site.lon,
                    "ok" if alive else "gone",
                    lanes[spec.worker],
                    rate,
                    0,
                    0.0,
                    spec.capacity_eps,
                )
            )
        states = [record.state for p, record in placed.items() if WorkerKind.NODE.works(p)]
        well = [r for r in rows if r.state == "ok"]
        recent = a.recent.summary()
        summary = FleetSummary(
            nodes=sum(spec.kind == WorkerKind.NODE for spec in stack.workers),
            nodes_available=sum(WorkerKind.NODE.has_account(r.worker) for r in well),
            routers=sum(WorkerKind.ROUTER.has_account(r.worker) for r in well),
            lanes=len(states),
            lanes_assigned=states.count(State.ASSIGNED),
            lanes_moving=states.count(State.RELEASING),
            lanes_orphaned=states.count(State.ORPHAN),
            rate_eps=eps.get("clean", 0.0),
            arrival_eps=eps.get("in", 0.0),
            lag_events=max(0, a.open),
            p50_ms=recent["p50"] or 0.0,
            p99_ms=recent["p99"] or 0.0,
            workers=WorkerRows(0, 1, tuple(rows)),
        )
        return summary, tuple(rows)
