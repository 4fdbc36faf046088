"""Figures in, lines of text out: never more lines than the terminal has, and none wider.

`format_fleet_line`, `format_act_line` and `format_link_line` are the view for logs and pipes: one
line for the fleet at intervals, and one for each move and alert."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from agents.base.text import counted
from agents.core.model.feeds import FleetSummary, Severity
from agents.core.model.topology import short_name
from agents.observe.dashboard.figures import (
    HOTSPOT,
    MOVE,
    SYMBOLS,
    Act,
    DashboardFigures,
    is_well,
    sites_on_map,
)
from agents.observe.dashboard.globe import draw_globe
from agents.observe.dashboard.table import draw_table

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
    HOTSPOT: "magenta",
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
    foot: str = "q or Ctrl-C ends"


def draw_screen(f: DashboardFigures, look: ScreenLayout) -> list[Text]:
    """The whole picture."""
    head = [_draw_title(f, look.width), *_draw_head(f), *(Text(x) for x in look.extra)]
    acts = _draw_acts(f, max(3, look.height // 6))
    foot = [Text(look.foot, "dim")] if look.height >= 20 and look.foot else []
    room = look.height - len(head) - len(acts) - len(foot) - 2
    out = [
        *head,
        _draw_rule(_workers_title(f), look.width),
        *_draw_middle(f, look, max(2, room)),
        _draw_rule("moves, hotspots and alerts", look.width),
        *acts,
        *foot,
    ]
    for line in out:
        line.no_wrap = True
        line.truncate(look.width, overflow="ellipsis")
    return out[: look.height]


# The head.


def describe_connection(f: DashboardFigures) -> tuple[str, str]:
    """The state of the connection in words, with a sign, and its colour."""
    heard = "" if f.silent_s is None else f"last heard {_format_age(f.silent_s)} ago"
    if f.link:
        return f"✖ {heard + '; ' if heard else ''}not connected: {f.link}", "bold red"
    if f.silent_s is None:
        return "… nothing heard yet", "yellow"
    if f.stale:
        return f"▲ {heard}: does a coordinator lead?", "bold yellow"
    return ("‖ paused", "yellow") if f.summary and f.summary.paused else (LIVE, "green")


def _format_age(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _draw_title(f: DashboardFigures, width: int) -> Text:
    text, ink = describe_connection(f)
    clock = time.strftime("%H:%M:%S")
    out = Text().append("geolane ", "bold").append(f.source + "  ", "dim").append(text, ink)
    gap = width - cell_len(out.plain) - len(clock)
    return out.append(" " * gap + clock, "dim") if gap > 0 else out


def _draw_head(f: DashboardFigures) -> list[Text]:
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
    _append_count(
        second, f"{s.nodes_available}/{s.nodes}", "nodes", bad=s.nodes_available < s.nodes
    )
    _append_count(
        second, f"{s.routers}", "router" if s.routers == 1 else "routers", bad=s.routers == 0
    )
    _append_count(second, f"{s.lanes_assigned}/{s.lanes}", "lanes", bad=s.lanes_assigned < s.lanes)
    _append_count(second, f"{s.lanes_moving}", "moving")
    _append_count(second, f"{s.lanes_orphaned}", "orphaned", bad=s.lanes_orphaned > 0)
    if f.placement is not None:
        second.append("gap ").append(f"{f.placement.gap:.1%}", "bold")
        if f.placement.waiting:
            second.append(f"   ! {counted(f.placement.waiting, 'lane')} without room", "bold red")
    if f.hotspots:
        second.append(f"   {SYMBOLS[HOTSPOT]} {counted(len(f.hotspots), 'hotspot')}", INKS[HOTSPOT])
    return [*_draw_troubles(s, dim), first, second]


def _draw_troubles(s: FleetSummary, dim: str) -> list[Text]:
    """What is wrong; shown before all figures."""
    if s.troubles is None:
        return []
    rows = s.troubles.rows[:TROUBLES]
    out = [
        Text(
            f"{SYMBOLS[r.severity.value]} {_format_age(r.for_s)}: {r.text}",
            dim or INKS[r.severity.value],
        )
        for r in rows
    ]
    if (more := s.troubles.total - len(rows)) > 0:
        out.append(Text(f"{counted(more, 'more trouble')}: geolane ctl status", dim))
    return out


def _append_count(out: Text, value: str, words: str, *, bad: bool = False) -> None:
    out.append("! " if bad else "", "bold red").append(value, "bold red" if bad else "bold").append(
        f" {words}   "
    )


def _workers_title(f: DashboardFigures) -> str:
    return "workers" if f.all_rows else "workers (not all have reported yet)"


def _draw_rule(title: str, width: int) -> Text:
    return (
        Text()
        .append("── ", "dim")
        .append(title, "bold")
        .append(" " + "─" * max(0, width - len(title) - 4), "dim")
    )


# Table and map.


def _draw_middle(f: DashboardFigures, look: ScreenLayout, room: int) -> list[Text]:
    silent = _describe_no_rows(f.summary)
    sites = sites_on_map(f.rows)
    wanted = look.map is not False and bool(sites)
    if wanted and look.width >= SIDE_WIDTH and room >= MAP_LEAST:
        left = WIDE_TABLE if look.width >= 150 else TABLE
        deep = min(room, max(MAP_MOST, len(f.rows) + 1))
        map_ = draw_globe(sites, look.width - left - 1, deep, f.hotspots)
        rows = draw_table(f.rows, left, deep, silent=silent)
        return [
            _join_columns(rows[i] if i < len(rows) else Text(), left, map_[i]) for i in range(deep)
        ]
    spare = room - max(ROWS_LEAST, len(f.rows) + 1)
    if wanted and (spare >= MAP_LEAST or look.map) and room >= ROWS_LEAST + 4:
        deep = min(MAP_MOST, max(spare, min(MAP_LEAST + 2, room - ROWS_LEAST)))
        return [
            *draw_table(f.rows, look.width, room - deep, silent=silent),
            *draw_globe(sites, look.width, deep, f.hotspots),
        ]
    return draw_table(f.rows, look.width, room, silent=silent)


def _describe_no_rows(s: FleetSummary | None) -> str:
    if s is None:
        return "waiting for the feed fleet"
    return "this coordinator does not list each worker" if s.workers is None else "none"


def _join_columns(left: Text, width: int, right: Text) -> Text:
    left.truncate(width, pad=True, overflow="ellipsis")
    return Text.assemble(left, " ", right)


# What happened.


def _draw_acts(f: DashboardFigures, most: int) -> list[Text]:
    shown = f.acts[-most:]
    out = [_draw_act(act) for act in shown] or [Text("none yet", "dim")]
    return out + [Text() for _ in range(most - len(out))]  # a fixed height keeps the map still


def format_time(at_s: float) -> str:
    """The time of day, and the date unless it is today."""
    then = time.localtime(at_s)
    return time.strftime("%H:%M:%S" if then[:3] == time.localtime()[:3] else "%d %b %H:%M", then)


def _draw_act(act: Act) -> Text:
    ink = INKS.get(act.kind, "")
    out = Text().append(format_time(act.at_s), "dim")
    return out.append(f" {SYMBOLS.get(act.kind, '?')} ", ink).append(
        " ".join(act.text.split()), ink
    )


def to_plain_text(some: Sequence[Text]) -> str:
    """As text without colours."""
    return "\n".join(line.plain.rstrip() for line in some)


# For logs and pipes.

NAMED = 6


def format_fleet_line(f: DashboardFigures, at_s: float) -> str:
    """The fleet in one line. The word after the time distinguishes lines: `fleet`, `move`, `alert`,
    `link`."""
    told = describe_connection(f)[0]
    s = f.summary
    if s is None:
        return f"{format_utc(at_s)} fleet {told}"
    ill = [f"{short_name(r.worker)} {r.state}" for r in f.rows if not is_well(r)]
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
    if f.hotspots:
        said.append(counted(len(f.hotspots), "hotspot"))
    if f.placement is not None:
        said.append(f"gap {f.placement.gap:.1%}")
    if ill:
        said.append(
            "not ok: "
            + ", ".join(ill[:NAMED])
            + (f" and {len(ill) - NAMED} more" if ill[NAMED:] else "")
        )
    parts = [*([told] if told != LIVE else []), ", ".join(said)]
    return f"{format_utc(at_s)} fleet {'; '.join(parts)}"


def format_act_line(act: Act) -> str:
    """One move or alert in one line, with its own time."""
    kind = act.kind if act.kind in (MOVE, HOTSPOT) else f"alert {act.kind}"
    return f"{format_utc(act.at_s)} {kind}: {' '.join(act.text.split())}"


def format_link_line(text: str, at_s: float) -> str:
    """The connection was lost or is back."""
    return f"{format_utc(at_s)} link {text}"


def format_utc(at_s: float) -> str:
    """UTC, as in our logs."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))
