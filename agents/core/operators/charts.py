"""The commands `map` and `plot`: what is drawn, and the text beside the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agents.base.errors import OperatorError
from agents.base.text import counted
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.summary import make_map
from agents.core.model.answers import LISTED_AT_MOST, Answer, MapData, PlotData, PlotLine
from agents.core.model.charts import (
    OF_FLEET,
    OF_LANE,
    OF_NODE,
    RINGS_AT_MOST,
    Line,
    Map,
    Plot,
    Ring,
)
from agents.core.model.times import format_clock, format_minute, parse_span_s, utc_from_ms
from agents.core.operators.arguments import Argument, Type, find_lane, find_node
from agents.core.operators.command import Access, Command, Context, Fetch, Image, Result

DRAWING = "Drawing ..."
LEAST_S, MOST_S, USUAL = 60, 7 * 86_400, "1h"
WORST = 3  # lanes beside the whole fleet
GAP_MS = 60_000  # samples are taken every 10 s


@dataclass(frozen=True, slots=True)
class Measure:
    """Something to plot: a `column` of Sample, with its title and unit."""

    title: str
    column: str
    unit: str


MEASURES = {
    "lag": Measure("Lag", "lag_events", "events"),
    "rate": Measure("Rate", "rate_eps", "events/s"),
    "latency": Measure("Processing p99", "p99_ms", "ms"),
}


@dataclass(frozen=True, slots=True)
class PlotWanted:
    """A plot for the shell to draw. `names`: samples (`node/iad-1`). `worst`: also this many lanes,
    those with the highest values. `fleet`: its domain."""

    title: str
    measure: Measure
    names: tuple[str, ...]
    worst: int
    since_ms: int
    until_ms: int
    fleet: str = ""


@dataclass(frozen=True, slots=True)
class MapWanted:
    """A map for the shell to draw."""

    map: Map


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture at `url`; for a plot also its values."""

    url: str
    plot: Plot | None = None


def _query_map(c: Context, args: Sequence[str]) -> Result:
    places = c.placing.inputs.places
    rings = tuple(
        Ring(known.label, known.lat, known.lon)
        for known in c.hotspots.list_open(c.now)[:RINGS_AT_MOST]
    )
    picture = replace(
        make_map(c.fleet, places.lat, places.lon), rings=rings, fleet=c.domain, at_ms=c.now_ms
    )

    def show_map(then: Context, found: object) -> Result:
        if not isinstance(found, Drawn):
            raise TypeError(found)
        when = f"{picture.fleet}, {format_minute(picture.at_ms)}".removeprefix(", ")
        data = MapData(
            url=found.url,
            at=utc_from_ms(picture.at_ms),
            sites=picture.dots[:LISTED_AT_MOST],
            hotspots=picture.rings,
            orphans=_count_orphans(picture),
        )
        text = f"{picture.title} ({when}).\n{_describe_busiest_sites(picture)}"
        return Image(found.url, Answer(text, data))

    return Fetch(MapWanted(picture), show_map, DRAWING)


def _describe_busiest_sites(m: Map) -> str:
    nobody = _count_orphans(m)
    well = sorted((d for d in m.dots if d.well), key=lambda d: (-d.load, d.name))[:3]
    lines = ["Busiest: " + ", ".join(f"{d.name} {d.load:.0%}" for d in well) + "."] if well else []
    if gone := [d.name for d in m.dots if not d.well]:
        lines.append(
            f"No node takes lanes at {', '.join(gone[:8])}{' ...' if len(gone) > 8 else ''}."
        )
    if m.rings:
        more = " ..." if m.rings[4:] else ""
        lines.append(f"Hotspots: {'; '.join(r.name for r in m.rings[:4])}{more}.")
    if nobody:
        lines.append(f"Without an owner: {counted(nobody, 'lane')}.")
    return "\n".join(lines)


def _count_orphans(m: Map) -> int:
    return sum(t.site < 0 for t in m.threads)


def _query_plot(c: Context, args: Sequence[str]) -> Result:
    if args[0].lower() not in MEASURES:
        raise OperatorError(
            f"{args[0][:40]!r} cannot be plotted: choose one of {', '.join(MEASURES)}."
        )
    measure = MEASURES[args[0].lower()]
    of, span = OF_FLEET, USUAL
    for word in args[1:]:
        if parse_span_s(word) is not None:
            span = word.lower()
        elif of != OF_FLEET:
            raise OperatorError(f"Usage: {PLOT_GOES}")
        else:
            of = _parse_subject(c.fleet, word)
    seconds = _parse_plot_span_s(span)
    wanted = PlotWanted(
        f"{measure.title} of {_describe_sample(of)}, last {span}",
        measure,
        (of,),
        WORST if of == OF_FLEET else 0,
        c.now_ms - seconds * 1000,
        c.now_ms,
        c.domain,
    )

    def show_plot(then: Context, found: object) -> Result:
        if not isinstance(found, Drawn) or found.plot is None:
            raise TypeError(found)
        return Image(
            found.url, Answer(_describe_plot(found.plot), _plot_data(found.url, found.plot))
        )

    return Fetch(wanted, show_plot, DRAWING)


def _parse_subject(fleet: Fleet, word: str) -> str:
    if word.isascii() and word.isdigit():
        return f"{OF_LANE}{find_lane(fleet, word).n}"
    return OF_NODE + find_node(fleet, word).spec.name


def _parse_plot_span_s(span: str) -> int:
    seconds = parse_span_s(span) or 0.0
    if not LEAST_S <= seconds <= MOST_S:
        raise OperatorError(f"{span[:40]} is not between 1m and 7d.")
    return round(seconds)


def _describe_sample(name: str) -> str:
    return "the fleet" if name == OF_FLEET else name.replace("/", " ")


def plot_from_lines(wanted: PlotWanted, lines: Sequence[Line]) -> Plot:
    """The plot of these lines, lanes by number; it begins when something is known. Raises
    OperatorError when there is nothing to draw."""
    some = sorted((x for x in lines if x.ms), key=_order_of_sample)
    if not some:
        raise OperatorError(f"{wanted.title}: there is no data for that time.")
    since_ms, title = min(x.ms[0] for x in some), wanted.title
    if since_ms - wanted.since_ms > GAP_MS:
        title += f" (known since {format_clock(since_ms)[:5]} UTC)"
        since_ms = min(since_ms, wanted.until_ms - LEAST_S * 1000)
    else:
        since_ms = wanted.since_ms
    shown = tuple(Line(_describe_sample(x.name), x.ms, x.values) for x in some)
    return Plot(title, wanted.measure.unit, since_ms, wanted.until_ms, shown, wanted.fleet)


def _order_of_sample(line: Line) -> tuple[str, int, str]:
    kind, _, name = line.name.partition("/")
    return kind, int(name) if name.isdecimal() else -1, name


def _plot_data(url: str, plot: Plot) -> PlotData:
    return PlotData(
        url=url,
        title=plot.title,
        unit=plot.unit,
        since=utc_from_ms(plot.since_ms),
        until=utc_from_ms(plot.until_ms),
        lines=tuple(_plot_line(x) for x in plot.lines),
    )


def _plot_line(x: Line) -> PlotLine:
    top = _find_peak(x)
    return PlotLine(
        name=x.name,
        last=x.values[-1],
        last_at=utc_from_ms(x.ms[-1]),
        peak=x.values[top],
        peak_at=utc_from_ms(x.ms[top]),
    )


def _find_peak(x: Line) -> int:
    return max(range(len(x.values)), key=lambda i: x.values[i])


def _describe_plot(plot: Plot) -> str:
    return "\n".join([f"{plot.title}:", *(_describe_line(plot, x) for x in plot.lines)])


def _describe_line(plot: Plot, x: Line) -> str:
    """`lane 3: 40 events now, peak 1,200 (10:00 UTC)`."""
    top = _find_peak(x)
    days = x.ms[-1] - plot.since_ms > 86_400_000

    def format_at(ms: int) -> str:
        return format_minute(ms) if days else f"{format_clock(ms)[:5]} UTC"

    now = "now" if plot.until_ms - x.ms[-1] <= GAP_MS else f"at last ({format_at(x.ms[-1])})"
    if not x.values[top]:
        return f"{x.name}: 0 {plot.unit} all the time"
    return (
        f"{x.name}: {x.values[-1]:,.0f} {plot.unit} {now}, peak {x.values[top]:,.0f} "
        f"({format_at(x.ms[top])})"
    )


PLOT_GOES = "plot lag|rate|latency [LANE|NODE] [1h]"
LOOKS = (
    Command(
        "map", (), Access.LOOK, "a map of sites, their load and the origins of lanes", _query_map
    ),
    Command(
        "plot",
        (
            Argument("what", Type.WORD, "what to plot", choices=tuple(MEASURES)),
            Argument(
                "of", Type.WORD, "LANE or NODE, and how far back: 1h", optional=True, many=True
            ),
        ),
        Access.LOOK,
        f"a plot of the last hour, or more: {PLOT_GOES}",
        _query_plot,
        goes=PLOT_GOES,
    ),
)
