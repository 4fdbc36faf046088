"""Workers as rows of text that fit a width. Those in trouble come first; those that do not fit are
counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from agents.base.text import format_amount
from agents.core.model.feeds import WorkerRow
from agents.core.model.topology import short_name
from agents.observe.dashboard.figures import is_well, load_of, order_rows

STATES = {
    "ok": ("●", "green"),
    "full": ("■", "yellow"),
    "draining": ("▽", "yellow"),
    "drained": ("▽", "dim"),
    "starting": ("…", "yellow"),
    "sick": ("!", "bold red"),
    "gone": ("✖", "bold red"),
}
UNKNOWN = ("?", "yellow")
BAR_LEAST, BAR_MOST = 6, 20
_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    width: int
    right: bool = False


COLUMNS = (
    Column("worker", 13),
    Column("region", 17),
    Column("state", 8),
    Column("lanes", 5, True),
    Column("events/s", 8, True),
    Column("lag", 7, True),
    Column("p99 ms", 6, True),
    Column("load", 4, True),
)
DROPPED = (
    "region",
    "p99 ms",
    "lanes",
    "state",
    "load",
)  # the least important column on a narrow terminal first


def columns_that_fit(width: int) -> list[Column]:
    """The columns that fit beside the sign at the start of each row."""
    kept = list(COLUMNS)
    for title in DROPPED:
        if _total_width(kept) <= width:
            break
        kept = [c for c in kept if c.title != title]
    return kept


def _total_width(some: Sequence[Column]) -> int:
    return 1 + sum(1 + c.width for c in some)


def draw_bar(share: float, width: int) -> str:
    """`share` of 1 as a bar of `width` cells, in eighths of a cell."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def draw_table(
    rows: Sequence[WorkerRow], width: int, lines: int, *, silent: str = ""
) -> list[Text]:
    """At most `lines` lines, including the header. `silent` is the text if there are no rows."""
    kept = columns_that_fit(width)
    head = Text(" " + "".join(" " + _fit_cell(c.title, c) for c in kept), "dim", no_wrap=True)
    if not rows:
        return _cut_lines([head, Text(f"  {silent}", "dim")], width)[:lines]
    room = lines - 1
    fits = len(rows) <= room
    shown = order_rows(rows, room if fits else max(0, room - 1))
    spare = width - _total_width(kept) - 1
    out = [head, *(_draw_row(r, kept, min(BAR_MOST, spare)) for r in shown)]
    if not fits:
        rest = set(rows) - set(shown)
        ill = sum(not is_well(r) for r in rest)
        out.append(
            Text(f"  and {len(rest)} more, {f'{ill} of them not ok' if ill else 'all ok'}", "dim")
        )
    return _cut_lines(out, width)[:lines]


def _draw_row(row: WorkerRow, kept: Sequence[Column], spare: int) -> Text:
    mark, ink = STATES.get(row.state, UNKNOWN)
    heard = row.state != "gone"
    load = load_of(row)
    values = {
        "worker": short_name(row.worker),
        "region": row.region,
        "state": row.state,
        "lanes": format_amount(row.lanes, 5),
        "events/s": format_amount(row.rate_eps, 8) if heard else "-",
        "lag": format_amount(row.lag_events, 7) if heard else "-",
        "p99 ms": format_amount(row.p99_ms, 6) if heard and row.lanes else "-",
        "load": f"{load:.0%}" if heard and load < 10 else "-",
    }
    out = Text(no_wrap=True).append(mark, ink)
    for c in kept:
        style = (
            ink
            if c.title == "state" or (c.title == "worker" and not is_well(row))
            else "bold"
            if c.title == "worker"
            else ""
        )
        out.append(" ").append(_fit_cell(values[c.title], c), style)
    if spare >= BAR_LEAST:
        out.append(" ").append(
            draw_bar(load, spare), "green" if load < 0.6 else "yellow" if load < 0.85 else "red"
        )
    return out


def _fit_cell(text: str, c: Column) -> str:
    if c.right:
        return " " * max(0, c.width - cell_len(text)) + text
    return set_cell_size(
        text if cell_len(text) <= c.width else set_cell_size(text, c.width - 1) + "…", c.width
    )


def _cut_lines(lines: list[Text], width: int) -> list[Text]:
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines
