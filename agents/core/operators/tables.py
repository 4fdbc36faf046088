"""The tables of `nodes` and `lanes`, as text that is readable on a phone (a code block of at most
36 columns in a chat) and as values for programs, both from the same rows."""

from __future__ import annotations

from collections.abc import Sequence

from agents.base.text import counted, format_amount
from agents.core.fleet.fleet import Fleet, View
from agents.core.fleet.paths import MeasuredPaths
from agents.core.fleet.summary import health_word, lane_loads, node_load, node_rate_eps
from agents.core.model.answers import Answer, LaneFigures, LanesData, NodesData, WorkerFigures
from agents.core.model.messages import LaneLoad
from agents.core.model.placement import Placed, State
from agents.core.model.topology import PYTHON, WorkerKind, short_name
from agents.core.operators.arguments import check_page

ROWS = 16  # of a table in chat, which is the answer itself
ENTRIES = 8  # of a list in chat whose entries are sentences
ROWS_ELSEWHERE = 50  # of a table in a form or on a terminal

Cell = str | float | None
"""A figure (None: not known) or words."""


def format_table(
    head: Sequence[str], rows: Sequence[Sequence[Cell]], widths: Sequence[int], *, chat: bool = True
) -> str:
    """A table as a code block; the first column is aligned left, the others right. In a chat each
    column has its width: figures that are too long are in thousands or millions, and of words the
    middle is left out. Elsewhere nothing is shortened."""
    if not chat:
        full = [[_format_cell(cell, 99) for cell in row] for row in (head, *rows)]
        columns = zip(*full, strict=True)
        widths = [max(w, *map(len, c)) for w, c in zip(widths, columns, strict=True)]

    def format_row(cells: Sequence[Cell]) -> str:
        texts = [_format_cell(cell, w) for cell, w in zip(cells, widths, strict=True)]
        return texts[0].ljust(widths[0]) + "".join(
            f" {text:>{w}}" for text, w in zip(texts[1:], widths[1:], strict=True)
        )

    return "\n".join(["```", format_row(head), *(format_row(r) for r in rows), "```"])


def _format_cell(cell: Cell, width: int) -> str:
    if cell is None:
        return "-"
    if not isinstance(cell, str):
        return format_amount(cell, width)
    if len(cell) <= width:
        return cell
    end = (width - 1) // 2  # names differ at their end
    return f"{cell[: width - 1 - end]}…{cell[len(cell) - end :]}"


def slice_page(count: int, page: int, rows: int = ROWS) -> tuple[slice, int]:
    """The rows of that page (from 1), and how many pages there are. Raises OperatorError beyond the
    last one."""
    pages = max(1, -(-count // rows))
    check_page(page, pages)
    return slice((page - 1) * rows, page * rows), pages


def say_more(pages: int, command: str, page: int, prefix: str = "") -> str:
    """` More: !nodes 2` if a page follows, else nothing."""
    return f" More: {prefix}{command} {page + 1}" if page < pages else ""


def list_nodes(
    fleet: Fleet,
    paths: MeasuredPaths,
    page: int,
    rows: int = ROWS,
    *,
    prefix: str = "",
    chat: bool = True,
) -> Answer:
    """Nodes, then workers of other kinds; those that need attention come first. `rtt`: the round
    trip to the farthest of Kafka's brokers, since a transaction waits for each."""
    views = sorted(
        fleet.views.values(),
        key=lambda v: (
            health_word(fleet, v) == "ok",
            v.spec.kind != WorkerKind.NODE,
            v.spec.worker,
        ),
    )
    shown, pages = slice_page(len(views), page, rows)
    data = NodesData(
        page=page,
        pages=pages,
        total=len(views),
        ok=sum(health_word(fleet, v) == "ok" for v in views),
        rows=tuple(worker_figures(fleet, paths, v) for v in views[shown]),
    )
    cells = [
        (r.name, r.state, r.partitions, r.rate_eps, _format_rtt(r.farthest_broker_ms))
        for r in data.rows
    ]
    more = say_more(pages, "nodes", page, prefix)
    word = "is" if data.ok == 1 else "are"
    first = f"{data.ok} of {counted(data.total, 'worker')} {word} ok; rtt: ms to Kafka.{more}"
    columns = ("name", "state", "lanes", "ev/s", "rtt")
    return Answer(f"{first}\n{format_table(columns, cells, (11, 8, 5, 5, 3), chat=chat)}", data)


def worker_figures(fleet: Fleet, paths: MeasuredPaths, view: View) -> WorkerFigures:
    spec = view.spec
    return WorkerFigures(
        worker=spec.worker,
        name=spec.label,
        kind=spec.kind.name,
        site=spec.site,
        region=fleet.inventory.sites[spec.site].region,
        state=health_word(fleet, view),
        partitions=len(fleet.owned_by(spec.worker) or fleet.worked_by_streams(view)),
        rate_eps=round(node_rate_eps(fleet, spec.worker), 1),
        capacity_eps=fleet.statuses[spec.worker].capacity_eps,
        load=round(node_load(fleet, view), 4),
        farthest_broker_ms=max(
            (path.rtt_ms for path in paths.paths_of(spec.worker).values()), default=None
        ),
    )


def _format_rtt(rtt_ms: float | None) -> str | None:
    """In three characters."""
    if rtt_ms is None:
        return None
    if rtt_ms >= 999.5:
        return ">1s"
    return f"{rtt_ms:.0f}" if rtt_ms >= 9.95 else f"{rtt_ms:.1f}"


def list_lanes(
    fleet: Fleet, page: int, rows: int = ROWS, *, prefix: str = "", chat: bool = True
) -> Answer:
    """Lanes by lag, the largest first; those whose lag is not known before all."""
    loads = lane_loads(fleet)
    ps = sorted(
        fleet.partitions_of(WorkerKind.NODE),
        key=lambda p: (-(loads[p.n].lag_events if p.n in loads else 1 << 60), p.n),
    )
    shown, pages = slice_page(len(ps), page, rows)
    data = LanesData(
        page=page,
        pages=pages,
        total=len(ps),
        placed=sum(fleet.partitions[p].state is State.ASSIGNED for p in ps),
        rows=tuple(lane_figures(p.n, fleet.partitions[p], loads.get(p.n)) for p in ps[shown]),
    )
    cells = [
        (str(r.lane), r.node or "no owner", r.rate_eps, r.lag_events, r.p99_ms) for r in data.rows
    ]
    more = say_more(pages, "lanes", page, prefix)
    columns = ("lane", "node", "ev/s", "lag", "p99")
    lines = [
        f"{data.placed} of {counted(data.total, 'lane')} are placed.{more}",
        format_table(columns, cells, (4, 12, 5, 6, 5), chat=chat),
        *_describe_raw(fleet),
        *_describe_unplaced(fleet),
    ]
    return Answer("\n".join(lines), data)


def lane_figures(n: int, s: Placed, load: LaneLoad | None) -> LaneFigures:
    return LaneFigures(
        lane=n,
        state=s.state.value,
        node=short_name(s.worker) if s.state is not State.ORPHAN else None,
        epoch=s.epoch,
        rate_eps=load.rate_eps if load else None,
        lag_events=load.lag_events if load else None,
        p50_ms=load.p50_ms if load else None,
        p99_ms=load.p99_ms if load else None,
        fault=load.fault if load else "",
    )


def _describe_raw(fleet: Fleet) -> list[str]:
    """The raw partitions that Kafka Streams shares out, in a line; none if we do."""
    if fleet.router_engine == PYTHON:
        return []
    routers = [fleet.views[w.worker] for w in fleet.inventory.workers_of(WorkerKind.ROUTER)]
    worked = {p for view in routers for p in fleet.worked_by_streams(view)}
    loads = [
        load for v in routers if v.present and v.telemetry is not None for load in v.telemetry.lanes
    ]
    return [
        f"Raw: Kafka Streams works {len(worked)} of "
        f"{counted(len(fleet.partitions_of(WorkerKind.ROUTER)), 'partition')}, "
        f"{sum(x.rate_eps for x in loads):,.0f} events/s, lag "
        f"{sum(x.lag_events for x in loads):,}."
    ]


def _describe_unplaced(fleet: Fleet) -> list[str]:
    """The partitions that geo workers work, in a line; none without such workers."""
    if not fleet.inventory.workers_of(WorkerKind.GEO):
        return []
    parts = fleet.partitions_of(WorkerKind.GEO)
    loads = lane_loads(fleet, WorkerKind.GEO).values()
    owned = sum(fleet.partitions[p].state is not State.ORPHAN for p in parts)
    rate_eps = sum(load.rate_eps for load in loads)
    return [
        f"Unplaced: {owned} of {counted(len(parts), 'partition')} with an owner, "
        f"{rate_eps:,.0f} events/s, lag {sum(load.lag_events for load in loads):,}."
    ]
