"""`hotspots`: the open hotspots and the last ones, or why nothing looks for any."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from agents.base.text import counted
from agents.core.fleet.hotspots import Known, format_times
from agents.core.fleet.incidents import format_partitions
from agents.core.geo.figures import format_figure_source
from agents.core.model.answers import Answer, HotspotRow, HotspotsData
from agents.core.model.times import format_duration
from agents.core.model.topology import WorkerKind
from agents.core.operators.command import Context

IN_CHAT, ELSEWHERE = (4, 2), (50, 20)
"""The most open and ended ones that are listed."""


def show_hotspots(c: Context, args: Sequence[str]) -> Answer:
    hotspots = c.hotspots
    most_open, most_ended = IN_CHAT if c.chat else ELSEWHERE
    now_open = hotspots.list_open(c.now)
    silent = len(hotspots.open) - len(now_open)
    lines = [_describe_absence(c)]
    if now_open or not lines[0]:
        more = f", the first {most_open} of them" if now_open[most_open:] else ""
        lines.append(
            f"{counted(len(now_open), 'hotspot')} {'is' if len(now_open) == 1 else 'are'} "
            f"open{more}."
            if now_open
            else "No hotspot is open."
        )
    lines += [_describe_open(c, known) for known in now_open[:most_open]]
    if silent:
        lines.append(
            f"{counted(silent, 'more hotspot')} should have ended, but nothing more is heard of "
            "it: its source or analytics has stopped."
        )
    lines += [_describe_ended(known) for known in list(hotspots.ended)[:most_ended]]
    data = HotspotsData(
        watched=not lines[0],
        total=len(now_open),
        silent=silent,
        open=tuple(_hotspot_row(c, known) for known in now_open[:most_open]),
        ended=tuple(_hotspot_row(c, known) for known in list(hotspots.ended)[:most_ended]),
    )
    return Answer("\n".join(line for line in lines if line), data)


def _hotspot_row(c: Context, known: Known) -> HotspotRow:
    h, name = known.hotspot, c.placing.inputs.geo.name_of(known.hotspot.peak, c.now)
    return HotspotRow(
        id=h.id,
        state=h.state,
        place=known.place,
        name=name.value if name else None,
        lat=round(known.lat, 3),
        lon=round(known.lon, 3),
        rate_eps=round(h.eps, 3),
        usual_eps=round(h.usual_eps, 3),
        started_at=datetime.fromtimestamp(h.started_s, UTC),
        last_at=datetime.fromtimestamp(h.last_s, UTC),
        ended_at=datetime.fromtimestamp(h.ended_s, UTC) if h.ended_s else None,
        replayed=not known.present,
        lanes=known.lanes,
        raised_times=c.hotspots.times_raised(known) or None,
    )


def _describe_absence(c: Context) -> str:
    """Why nothing looks for hotspots now, and what to do; empty if an analytics worker does."""
    views = [v for v in c.fleet.views.values() if v.spec.kind == WorkerKind.ANALYTICS]
    if any(v.present for v in views):
        return ""
    if views:
        return (
            "No analytics worker runs, so nothing looks for hotspots: start geolane analytics "
            f"--name {views[0].spec.name}, or its unit geolane-analytics@{views[0].spec.name}."
        )
    return (
        "The inventory has no analytics worker, so nothing looks for hotspots: see "
        "docs/hotspots.md. The busiest lanes: !lanes."
    )


def _describe_open(c: Context, known: Known) -> str:
    lanes = format_partitions(WorkerKind.NODE.partition(n) for n in known.lanes)
    times = c.hotspots.times_raised(known)
    raised = f", forecast x{format_times(times)}" if times else ""
    name = c.placing.inputs.geo.name_of(known.hotspot.peak, c.now)
    also = f" ({name.value}: {format_figure_source(name, c.now)})" if name else ""
    since = known.at(known.hotspot.started_s)
    return f"{known.place}{also}: {known.rate}, since {since}; {lanes}{raised}"


def _describe_ended(known: Known) -> str:
    h = known.hotspot
    return (
        f"Ended: {known.place}, {known.rate}, at {known.at(h.ended_s)} after "
        f"{format_duration(h.ended_s - h.started_s)}"
    )
