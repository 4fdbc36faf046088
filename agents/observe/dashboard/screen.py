"""Figures in, lines of text out: never more lines than the terminal has, and none wider.

`fleet_line`, `act_line` and `link_line` are the view for logs and pipes: one line for the fleet at
intervals, and one for each move and alert."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from agents.base.text import counted
from agents.core.model.feeds import FleetSummary, Severity
from agents.observe.dashboard.figures import MOVE, SYMBOLS, Act, DashboardFigures, places, well
from agents.observe.dashboard.globe import chart
from agents.observe.dashboard.table import table

SIDE_WIDTH, WIDE_TABLE, TABLE = (
    120,
    92,
    78,
)  # from the first width on, the map is beside the table, which then gets the second or third
MAP_LEAST, MAP_MOST = 10, 40  # lines
ROWS_LEAST = 4
TROUBLES = 3  # the most that are shown
LIVE = "● live"
INKS = {
    MOVE: "cyan",
    Severity.INFO.value: "",
    Severity.WARNING.value: "yellow",
    Severity.CRITICAL.value: "bold red",
    Severity.CALM.value: "green",
}


@dataclass(frozen=True, slots=True)
class ScreenLayout:
    """The terminal, and what is wanted on it. `map` None: show the map if there is room. `extra`:
    lines of a caller that shows more."""

    width: int
    height: int
    map: bool | None = None
    extra: tuple[str, ...] = ()
    foot: str = "Ctrl-C ends"


def lines(f: DashboardFigures, look: ScreenLayout) -> list[Text]:
    """The whole picture."""
    head = [_title(f, look.width), *_head(f), *(Text(x) for x in look.extra)]
    acts = _acts(f, max(3, look.height // 6))
    foot = [Text(look.foot, "dim")] if look.height >= 20 and look.foot else []
    room = look.height - len(head) - len(acts) - len(foot) - 2
    out = [
        *head,
        _rule(_workers_title(f), look.width),
        *_middle(f, look, max(2, room)),
        _rule("moves and alerts", look.width),
        *acts,
        *foot,
    ]
    for line in out:
        line.no_wrap = True
        line.truncate(look.width, overflow="ellipsis")
    return out[: look.height]


# The head.


def state(f: DashboardFigures) -> tuple[str, str]:
    """The state of the connection in words, with a sign, and its colour."""
    heard = "" if f.silent_s is None else f"last heard {_ago(f.silent_s)} ago"
    if f.link:
        return f"✖ {heard + '; ' if heard else ''}not connected: {f.link}", "bold red"
    if f.silent_s is None:
        return "… nothing heard yet", "yellow"
    if f.stale:
        return f"▲ {heard}: does a coordinator lead?", "bold yellow"
    return ("‖ paused", "yellow") if f.summary and f.summary.paused else (LIVE, "green")


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _title(f: DashboardFigures, width: int) -> Text:
    text, ink = state(f)
    clock = time.strftime("%H:%M:%S")
    out = Text().append("geolane ", "bold").append(f.source + "  ", "dim").append(text, ink)
    gap = width - cell_len(out.plain) - len(clock)
    return out.append(" " * gap + clock, "dim") if gap > 0 else out


def _head(f: DashboardFigures) -> list[Text]:
    s = f.summary
    if s is None:
        return []
    dim = "dim" if f.stale or f.link else ""
    first = Text(style=dim)
    for value, words in (
        (f"{s.arrival_eps:,.0f}", "events/s in"),
        (f"{s.rate_eps:,.0f}", "processed"),
        (f"{s.lag_events:,}", "lag"),
        (f"{s.p50_ms:,.0f}", "ms p50"),
        (f"{s.p99_ms:,.0f}", "ms p99"),
    ):
        first.append(value, "bold").append(f" {words}   ")
    second = Text(style=dim)
    _count(second, f"{s.nodes_available}/{s.nodes}", "nodes", bad=s.nodes_available < s.nodes)
    _count(second, f"{s.routers}", "router" if s.routers == 1 else "routers", bad=s.routers == 0)
    _count(second, f"{s.lanes_assigned}/{s.lanes}", "lanes", bad=s.lanes_assigned < s.lanes)
    _count(second, f"{s.lanes_moving}", "moving")
    _count(second, f"{s.lanes_orphaned}", "orphaned", bad=s.lanes_orphaned > 0)
    if f.placement is not None:
        second.append("gap ").append(f"{f.placement.gap:.1%}", "bold")
        if f.placement.waiting:
            second.append(f"   ! {counted(f.placement.waiting, 'lane')} without room", "bold red")
    return [*_troubles(s, dim), first, second]


def _troubles(s: FleetSummary, dim: str) -> list[Text]:
    """What is wrong; shown before all figures."""
    if s.troubles is None:
        return []
    rows = s.troubles.rows[:TROUBLES]
    out = [
        Text(
            f"{SYMBOLS[r.severity.value]} {_ago(r.for_s)}: {r.text}", dim or INKS[r.severity.value]
        )
        for r in rows
    ]
    if (more := s.troubles.total - len(rows)) > 0:
        out.append(Text(f"{counted(more, 'more trouble')}: geolane ctl status", dim))
    return out


def _count(out: Text, value: str, words: str, *, bad: bool = False) -> None:
    out.append("! " if bad else "", "bold red").append(value, "bold red" if bad else "bold").append(
        f" {words}   "
    )


def _workers_title(f: DashboardFigures) -> str:
    return "workers" if f.all_rows else "workers (not all have reported yet)"


def _rule(title: str, width: int) -> Text:
    return (
        Text()
        .append("── ", "dim")
        .append(title, "bold")
        .append(" " + "─" * max(0, width - len(title) - 4), "dim")
    )


# Table and map.


def _middle(f: DashboardFigures, look: ScreenLayout, room: int) -> list[Text]:
    silent = _no_rows(f.summary)
    sites = places(f.rows)
    wanted = look.map is not False and bool(sites)
    if wanted and look.width >= SIDE_WIDTH and room >= MAP_LEAST:
        left = WIDE_TABLE if look.width >= 150 else TABLE
        deep = min(room, max(MAP_MOST, len(f.rows) + 1))
        map_ = chart(sites, look.width - left - 1, deep)
        rows = table(f.rows, left, deep, silent=silent)
        return [_beside(rows[i] if i < len(rows) else Text(), left, map_[i]) for i in range(deep)]
    spare = room - max(ROWS_LEAST, len(f.rows) + 1)
    if wanted and (spare >= MAP_LEAST or look.map) and room >= ROWS_LEAST + 4:
        deep = min(MAP_MOST, max(spare, min(MAP_LEAST + 2, room - ROWS_LEAST)))
        return [
            *table(f.rows, look.width, room - deep, silent=silent),
            *chart(sites, look.width, deep),
        ]
    return table(f.rows, look.width, room, silent=silent)


def _no_rows(s: FleetSummary | None) -> str:
    if s is None:
        return "waiting for the feed fleet"
    return "this coordinator does not list each worker" if s.workers is None else "none"


def _beside(left: Text, width: int, right: Text) -> Text:
    left.truncate(width, pad=True, overflow="ellipsis")
    return Text.assemble(left, " ", right)


# What happened.


def _acts(f: DashboardFigures, most: int) -> list[Text]:
    shown = f.acts[-most:]
    out = [_act(act) for act in shown] or [Text("none yet", "dim")]
    return out + [Text() for _ in range(most - len(out))]  # a fixed height keeps the map still


def when(at_s: float) -> str:
    """The time of day, and the date unless it is today."""
    then = time.localtime(at_s)
    return time.strftime("%H:%M:%S" if then[:3] == time.localtime()[:3] else "%d %b %H:%M", then)


def _act(act: Act) -> Text:
    ink = INKS.get(act.kind, "")
    out = Text().append(when(act.at_s), "dim")
    return out.append(f" {SYMBOLS.get(act.kind, '?')} ", ink).append(
        " ".join(act.text.split()), ink
    )


def plain(some: Sequence[Text]) -> str:
    """As text without colours."""
    return "\n".join(line.plain.rstrip() for line in some)


# For logs and pipes.

NAMED = 6


def fleet_line(f: DashboardFigures, at_s: float) -> str:
    """The fleet in one line. The word after the time distinguishes lines: `fleet`, `move`, `alert`,
    `link`."""
    told = state(f)[0]
    s = f.summary
    if s is None:
        return f"{stamp(at_s)} fleet {told}"
    ill = [f"{r.worker.removeprefix('node-')} {r.state}" for r in f.rows if not well(r)]
    wrong = s.troubles.rows if s.troubles is not None else ()
    more = (
        f" (and {s.troubles.total - 1} more)"
        if s.troubles is not None and s.troubles.total > 1
        else ""
    )
    said = [
        *([f"{wrong[0].severity.value}: {wrong[0].text}{more}"] if wrong else []),
        f"{s.nodes_available}/{s.nodes} nodes",
        counted(s.routers, "router"),
        f"{s.lanes_assigned}/{s.lanes} lanes ({s.lanes_moving} moving, {s.lanes_orphaned} "
        "orphaned)",
        f"{s.arrival_eps:,.0f} events/s in",
        f"{s.rate_eps:,.0f} processed",
        f"lag {s.lag_events:,}",
        f"p50 {s.p50_ms:,.0f} ms",
        f"p99 {s.p99_ms:,.0f} ms",
    ]
    if f.placement is not None:
        said.append(f"gap {f.placement.gap:.1%}")
    if ill:
        said.append(
            "not ok: "
            + ", ".join(ill[:NAMED])
            + (f" and {len(ill) - NAMED} more" if ill[NAMED:] else "")
        )
    return f"{stamp(at_s)} fleet {'; '.join([*([told] if told != LIVE else []), ', '.join(said)])}"


def act_line(act: Act) -> str:
    """One move or alert in one line, with its own time."""
    kind = act.kind if act.kind == MOVE else f"alert {act.kind}"
    return f"{stamp(act.at_s)} {kind}: {' '.join(act.text.split())}"


def link_line(text: str, at_s: float) -> str:
    """The connection was lost or is back."""
    return f"{stamp(at_s)} link {text}"


def stamp(at_s: float) -> str:
    """UTC, as in our logs."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))
