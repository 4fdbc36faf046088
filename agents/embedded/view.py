"""The live view: what happens, twice a second, on a terminal; on anything else a line every ten seconds."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agents.core.model import Kind
from agents.embedded.replay import Replay
from agents.embedded.stack import Stack

PERIOD_S = 0.5
LINE_S = 10.0
ACTS = 8
console = Console()


def say(text: str) -> None:
    """One step of the start or the stop."""
    console.print(Text("· " + text, style="dim"))


class Rates:
    """Counts now and some seconds ago, as events/s."""

    def __init__(self, over_s: float = 5.0) -> None:
        self._over_s = over_s
        self._past: deque[tuple[float, Counter[str]]] = deque()

    def note(self, counts: Counter[str]) -> dict[str, float]:
        now = time.monotonic()
        self._past.append((now, counts))
        while len(self._past) > 2 and now - self._past[1][0] > self._over_s:
            self._past.popleft()
        then, before = self._past[0]
        return {key: (counts[key] - before[key]) / max(now - then, 0.001) for key in counts}


def joining(stack: Stack) -> str:
    """How to join the room with a browser, or any XMPP client."""
    xmpp, name = stack.base.xmpp, "operator"
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
    console.print(Panel(joining(stack), title="join the room", expand=False))
    sending = asyncio.create_task(replay.run()) if replay else None
    rates = Rates()
    try:
        if not console.is_terminal:
            await _lines(stack, sending)
            return
        with Live(console=console, auto_refresh=False, transient=False) as live:
            while True:
                if sending and sending.done():
                    sending.result()
                live.update(picture(stack, replay, rates), refresh=True)
                await asyncio.sleep(PERIOD_S)
    finally:
        if sending:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _lines(stack: Stack, sending: asyncio.Task[None] | None) -> None:
    while True:
        await asyncio.sleep(LINE_S)
        if sending and sending.done():
            sending.result()
        a = stack.accounting
        p = a.recent.summary()
        console.print(
            f"in {a.events_in} clean {a.clean} dead {a.dead} filtered {a.filtered} open {a.open} "
            f"duplicates {a.duplicates} p50 {p['p50']} ms p99 {p['p99']} ms"
        )


def picture(stack: Stack, replay: Replay | None, rates: Rates) -> Group:
    """All of it, of the numbers as they are now."""
    a, f = stack.accounting, stack.follower
    nodes = stack.inventory.of(Kind.NODE)
    counts = Counter({"in": a.events_in, "clean": a.clean})
    owner = {p.n: r.worker for p, r in f.placed.items() if p.kind is Kind.NODE}
    for lane, count in a.lane_out.items():
        counts[f"lane {lane}"] = count
    eps = rates.note(counts)
    by_node = Counter[str]()
    for lane in a.lane_out:
        by_node[owner.get(lane, "")] += round(eps[f"lane {lane}"])
    recent = a.recent.summary()
    head = Table.grid(padding=(0, 3))
    head.add_row(
        f"[bold]{eps['in']:,.0f}[/] events/s in",
        f"[bold]{eps['clean']:,.0f}[/] events/s clean",
        f"[bold]{max(0, a.open):,}[/] on the way",
        f"processing p50 [bold]{_ms(recent['p50'])}[/] p99 [bold]{_ms(recent['p99'])}[/]",
    )
    head.add_row(
        f"{a.events_in + max(0, -a.open):,} in",
        f"{a.clean:,} clean",
        f"{a.filtered:,} filtered, {a.dead:,} dead, {a.unplaced:,} unplaced",
        f"{a.duplicates} duplicates; {f.moves} moves, {f.fences} fences"
        + (" [yellow]waiting for Kafka[/]" if replay and replay.waiting else ""),
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title, side in (("node", "left"), ("region", "left"), ("lanes", "right"), ("events/s", "right"), ("", "left")):
        table.add_column(title, justify="right" if side == "right" else "left")
    for node in nodes:
        lanes = f.lanes_of(node.worker)
        site = stack.inventory.sites[node.site]
        alive = stack.family.children[node.worker].pid is not None
        table.add_row(
            node.name,
            site.region,
            str(len(lanes)),
            f"{by_node[node.worker]:,}",
            ("█" * len(lanes)) if alive else "[red]process gone[/]",
        )
    acts = "\n".join(f"{time.strftime('%H:%M:%S', time.localtime(at))}  {text}" for at, text in list(f.acts)[-ACTS:])
    return Group(
        Panel(head, title="geolane"),
        Panel(table, title="nodes (on this machine; the network between their regions is a model)"),
        Panel(Text(acts or "nothing yet"), title="the coordinator", height=ACTS + 2),
        Text("Ctrl-C stops everything", style="dim"),
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"
