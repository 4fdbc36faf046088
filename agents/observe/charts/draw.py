"""`python -m agents.observe.charts.draw plot|map`: reads a picture as JSON from standard input, and
writes a PNG to standard output.

Made for a phone: few words, large, and nothing shown by colour alone."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import matplotlib.dates as mdates
import matplotlib.pyplot as plt
import msgspec
import numpy as np
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from agents.core.model.charts import Dot, Map, Plot, Ring
from agents.core.model.times import format_minute, utc_from_ms
from agents.geodata.borders import read_borders

INCHES, DPI = (5.4, 3.6), 200  # 1080 x 720 dots
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
INKS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
)  # Okabe and Ito's, which colour-blind people can distinguish
BUSY, FULL = 0.6, 0.85
HOT = "#b0005a"
WELL_INK, BUSY_INK, FULL_INK, AWAY_INK = INKS[2], INKS[4], INKS[1], "#999999"
LEAST_TOP = 1.0  # of a plot's values: one of only zeros has an axis, too
LEAST_DEGREES = 6.0
WIDE = 1.62  # a map's width divided by its height


def draw_plot(p: Plot) -> Any:  # Any: matplotlib is untyped here
    """Matplotlib's figure of lines over time."""
    figure, axes = plt.subplots(figsize=INCHES, dpi=DPI, layout="constrained")
    for i, line in enumerate(p.lines):
        at = [utc_from_ms(ms) for ms in line.ms]
        axes.plot(
            at,
            line.values,
            label=line.name,
            color=INKS[i % len(INKS)],
            linestyle=STYLES[i % len(STYLES)],
            linewidth=2.0 if i == 0 else 1.4,
            marker="o" if len(at) < 3 else None,
            clip_on=False,  # a line of zeros lies on the axis
        )
    axes.set_xlim(*(utc_from_ms(ms) for ms in (p.since_ms, p.until_ms)))
    top = max((v for line in p.lines for v in line.values), default=0.0)
    axes.set_ylim(0, max(top * 1.08, LEAST_TOP))
    axes.set_title(p.title, fontsize=12, loc="left", fontweight="bold")
    axes.set_ylabel(p.unit, fontsize=11)
    axes.set_xlabel(f"UTC{f' · {p.fleet}' if p.fleet else ''}", fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=p.unit == "events" or top >= 10))
    axes.xaxis.set_major_locator(mdates.AutoDateLocator(maxticks=6))
    axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(axes.xaxis.get_major_locator()))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 10 or v == int(v) else f"{v:.1f}")
    )
    axes.tick_params(labelsize=10)
    axes.grid(color="#dddddd", linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(p.lines) > 1:
        axes.legend(fontsize=9, loc="upper left", framealpha=0.85)
    return figure


def draw_map(m: Map) -> Any:  # Any: as above
    """Matplotlib's figure of sites, lanes and hotspots on a map."""
    figure, axes = plt.subplots(figsize=INCHES, dpi=DPI, layout="constrained")
    frame = west, east, south, north = _frame_around(m)
    axes.set_xlim(west, east)
    axes.set_ylim(south, north)
    axes.set_aspect(1 / _squeeze_at((south + north) / 2))
    axes.set_facecolor("#e8f1f7")
    axes.add_collection(
        PolyCollection(read_borders(), facecolor="#f7f5ef", edgecolor="#b8b4a8", linewidth=0.5)
    )
    _draw_lanes(axes, m)
    _draw_sites(axes, m.dots)
    axes.scatter(
        [r.lon for r in m.rings],
        [r.lat for r in m.rings],
        s=420,
        facecolor="none",
        edgecolor=HOT,
        linewidth=2.0,
        linestyle="--",
        zorder=4,
    )
    _draw_labels(axes, [*m.dots, *m.rings], frame)
    axes.set_title(m.title, fontsize=12, loc="left", fontweight="bold")
    axes.set_xticks([])
    axes.set_yticks([])
    when = format_minute(m.at_ms) if m.at_ms else ""
    axes.set_xlabel(" · ".join(filter(None, (m.fleet, when))), fontsize=9)
    figure.legend(
        handles=_legend_of_map(m),
        loc="outside lower center",
        ncols=3,
        fontsize=7.5,
        frameon=False,
        handletextpad=0.4,
        columnspacing=1.2,
    )
    return figure


def _draw_lanes(axes: Any, m: Map) -> None:
    """Each lane's origin, with a line to its site if it has an owner."""
    ways = [
        [(t.lon, t.lat), (m.dots[t.site].lon, m.dots[t.site].lat)] for t in m.threads if t.site >= 0
    ]
    axes.add_collection(LineCollection(ways, color="#0072b2", alpha=0.35, linewidth=0.9))
    for nobody, ink, mark in ((False, "#0072b2", "."), (True, "#d55e00", "x")):
        some = [t for t in m.threads if (t.site < 0) == nobody]
        axes.scatter(
            [t.lon for t in some], [t.lat for t in some], s=14, marker=mark, color=ink, zorder=3
        )


def _draw_sites(axes: Any, dots: Sequence[Dot]) -> None:
    for dot in dots:
        ink = (
            AWAY_INK
            if not dot.well
            else WELL_INK
            if dot.load < BUSY
            else BUSY_INK
            if dot.load < FULL
            else FULL_INK
        )
        axes.scatter(
            [dot.lon],
            [dot.lat],
            s=60 + 260 * min(1.0, dot.load),
            color=ink,
            alpha=0.9,
            edgecolor="black",
            linewidth=0.8,
            marker="o" if dot.well else "X",
            zorder=4,
        )


def _draw_labels(
    axes: Any, marks: Sequence[Dot | Ring], frame: tuple[float, float, float, float]
) -> None:
    west, east, south, north = frame
    places = _place_labels(marks, west, east, north - south)
    for shown, (x, y) in zip(marks, places, strict=True):
        axes.annotate(
            _label_of_dot(shown) if isinstance(shown, Dot) else shown.name,
            (shown.lon, shown.lat),
            (x, y),
            fontsize=8.5,
            fontweight="bold",
            color="black" if isinstance(shown, Dot) else HOT,
            zorder=5,
            ha="left" if x >= shown.lon else "right",
            va="center",
            bbox={
                "boxstyle": "round,pad=0.15",
                "facecolor": "white",
                "alpha": 0.75,
                "edgecolor": "none",
            },
        )


def _legend_of_map(m: Map) -> list[Line2D]:
    """What each sign means; only those that are shown."""

    def sign(marker: str, ink: str, words: str, **how: Any) -> Line2D:
        return Line2D([], [], marker=marker, color=ink, linestyle="none", label=words, **how)

    site = {"markeredgecolor": "black", "markersize": 8}
    loads = [d.load for d in m.dots if d.well]
    levels = (
        (0.0, BUSY, WELL_INK, f"site, load below {BUSY:.0%}"),
        (BUSY, FULL, BUSY_INK, f"below {FULL:.0%}"),
        (FULL, math.inf, FULL_INK, f"{FULL:.0%} or more"),
    )
    signs = [
        sign("o", ink, words, **site)
        for low, high, ink, words in levels
        if any(low <= load < high for load in loads)
    ]
    if any(not d.well for d in m.dots):
        signs.append(sign("X", AWAY_INK, "no node takes lanes", **site))
    if any(t.site >= 0 for t in m.threads):
        way = {"markersize": 5}
        signs.append(sign(".", INKS[0], "a lane's origin, and its site", **way))
    if any(t.site < 0 for t in m.threads):
        signs.append(sign("x", INKS[1], "a lane without owner", markersize=5))
    if m.rings:
        ring = {"markerfacecolor": "none", "markersize": 9, "markeredgewidth": 2}
        signs.append(sign("o", HOT, "a hotspot", **ring))
    return signs


def _label_of_dot(dot: Dot) -> str:
    name = dot.name if dot.well == dot.nodes else f"{dot.name} {dot.well}/{dot.nodes}"
    return f"{name} {dot.load:.0%}" if dot.well else f"{name} none"


def _frame_around(m: Map) -> tuple[float, float, float, float]:
    """West, east, south, north: around everything that is shown, with a margin, and never so close
    that nothing else is visible."""
    shown = [(x.lat, x.lon) for some in (m.dots, m.threads, m.rings) for x in some]
    lat, lon = np.array(shown or [(0.0, 0.0)]).T
    x, y = (float(at.max() + at.min()) / 2 for at in (lon, lat))
    wide, high = (max(float(at.max() - at.min()) * 1.12, LEAST_DEGREES) for at in (lon, lat))
    high = max(high, wide * _squeeze_at(y) / WIDE)
    wide = high * WIDE / _squeeze_at(y)
    return x - wide / 2, x + wide / 2, y - high / 2, y + high / 2


def _squeeze_at(lat: float) -> float:
    """The width of a degree of longitude at this latitude, divided by that of a degree of
    latitude."""
    return max(0.2, math.cos(math.radians(lat)))


def _place_labels(
    dots: Sequence[Dot | Ring], west: float, east: float, height: float
) -> list[tuple[float, float]]:
    """The place of each label: right of its dot, or left, above or below, wherever it covers the
    fewest others and stays on the map."""
    width = east - west
    taken: list[tuple[float, float]] = [(d.lon, d.lat) for d in dots]
    out = []
    for dot in dots:
        tries = [
            (dot.lon + side * 0.022 * width, dot.lat + up * 0.06 * height)
            for up in (0, 1, -1, 2, -2)
            for side in (1, -1)
        ]

        def crowd(at: tuple[float, float], dot: Dot | Ring = dot) -> int:
            middle = at[0] + math.copysign(0.09 * width, at[0] - dot.lon)
            outside = not west + 0.09 * width < middle < east - 0.09 * width
            return outside + sum(
                abs(x - middle) < 0.11 * width and abs(y - at[1]) < 0.055 * height
                for x, y in taken
                if (x, y) != (dot.lon, dot.lat)
            )

        best = min(tries, key=crowd)
        taken.append((best[0] + math.copysign(0.09 * width, best[0] - dot.lon), best[1]))
        out.append(best)
    return out


def main(kind: str) -> None:
    said = sys.stdin.buffer.read()
    figure = (
        draw_map(msgspec.json.decode(said, type=Map))
        if kind == "map"
        else draw_plot(msgspec.json.decode(said, type=Plot))
    )
    figure.savefig(sys.stdout.buffer, format="png")


if __name__ == "__main__":
    main(sys.argv[1])
