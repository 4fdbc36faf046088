"""Sites on a map of braille dots: outlines of countries, cropped to the fleet. The signs carry the
meaning as well as the colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from rich.text import Text

from agents.core.model.feeds import HotspotItem
from agents.geodata.borders import read_borders
from agents.observe.dashboard.figures import SiteOnMap
from kernels.tables import Floats

LEAST_DEGREES = 8.0
MARGIN = 1.25
BUSY, FULL = 0.6, 0.85
BRAILLE = 0x2800
HOT_AT_MOST = 20
_BITS = (
    (0x01, 0x08),
    (0x02, 0x10),
    (0x04, 0x20),
    (0x40, 0x80),
)  # by row and column of a cell's 4 x 2 dots
LAND = "bright_black"


@dataclass(frozen=True, slots=True)
class GlobeView:
    """The visible part, in degrees, on `columns` x `lines` cells of 2 x 4 dots."""

    west: float
    east: float
    south: float
    north: float
    columns: int
    lines: int

    def dots_at(self, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
        """Columns and rows of dots, from the top left. Places outside get numbers outside."""
        x = (lon - self.west) / (self.east - self.west) * self.columns * 2
        y = (self.north - lat) / (self.north - self.south) * self.lines * 4
        return x, y

    def cell_at(self, lon: float, lat: float) -> tuple[int, int]:
        """Column and line of a place inside."""
        x, y = self.dots_at(np.array([lon]), np.array([lat]))
        column, line = int(x[0]) // 2, int(y[0]) // 4
        return min(self.columns - 1, max(0, column)), min(self.lines - 1, max(0, line))


def view_around(places: Sequence[SiteOnMap | HotspotItem], columns: int, lines: int) -> GlobeView:
    """A view around all places, with a margin, and never so close that nothing else is visible.
    Assumes square dots."""
    lon, lat = [p.lon for p in places] or [0.0], [p.lat for p in places] or [0.0]
    x, y = (max(lon) + min(lon)) / 2, (max(lat) + min(lat)) / 2
    wide, high = (max((max(at) - min(at)) * MARGIN, LEAST_DEGREES) for at in (lon, lat))
    squeeze = max(
        0.2, math.cos(math.radians(y))
    )  # width of a degree of longitude there, divided by one of latitude
    shape = columns * 2 / (lines * 4)
    high = max(high, wide * squeeze / shape)
    wide = high * shape / squeeze
    return GlobeView(x - wide / 2, x + wide / 2, y - high / 2, y + high / 2, columns, lines)


@lru_cache(maxsize=1)
def _cached_borders() -> list[Floats]:
    return read_borders()


@lru_cache(maxsize=4)
def draw_outlines(f: GlobeView) -> tuple[str, ...]:
    """The countries' outlines, one string per line."""
    cells = np.zeros((f.lines, f.columns), dtype=np.int64)
    bits = np.array(_BITS)
    for ring in _cached_borders():
        x, y = f.dots_at(ring[:, 0], ring[:, 1])
        if x.max() < 0 or y.max() < 0 or x.min() > f.columns * 2 or y.min() > f.lines * 4:
            continue
        steps = (
            np.ceil(np.maximum(np.abs(np.diff(x)), np.abs(np.diff(y)))).astype(int).clip(1, 4000)
        )
        part = np.concatenate([np.arange(n) / n for n in steps])
        at = np.repeat(np.arange(len(steps)), steps)
        dx = np.floor(x[at] + np.diff(x)[at] * part).astype(int)
        dy = np.floor(y[at] + np.diff(y)[at] * part).astype(int)
        seen = (dx >= 0) & (dx < f.columns * 2) & (dy >= 0) & (dy < f.lines * 4)
        np.bitwise_or.at(cells, (dy[seen] // 4, dx[seen] // 2), bits[dy[seen] % 4, dx[seen] % 2])
    return tuple("".join(chr(BRAILLE + c) if c else " " for c in row) for row in cells.tolist())


def sign_of_site(place: SiteOnMap) -> tuple[str, str]:
    """The site's sign and colour."""
    if not place.well:
        return "✖", "bold red"
    if place.well < place.workers:
        return "▲", "bold yellow"
    if place.load >= FULL:
        return "█", "bold red"
    if place.load >= BUSY:
        return "◆", "bold yellow"
    return ("●", "bold green") if place.load > 0 else ("○", "green")


HOT = ("◎", "bold magenta")

LEGEND = (
    ("○", "idle"),
    ("●", "at work"),
    ("◆", "over 60 %"),
    ("█", "over 85 %"),
    ("▲", "a node gone"),
    ("✖", "none left"),
    (HOT[0], "a hotspot"),
)


def draw_legend(
    places: Sequence[SiteOnMap], width: int, hotspots: Sequence[HotspotItem] = ()
) -> Text:
    """What the visible signs mean, in one line."""
    seen = {sign_of_site(p)[0] for p in places} | ({HOT[0]} if hotspots else set())
    out = Text(no_wrap=True, overflow="ellipsis")
    for mark, words in LEGEND:
        if mark in seen:
            out.append(("   " if out.plain else "") + mark, "bold").append(f" {words}", "dim")
    out.truncate(width, overflow="ellipsis")
    return out


def draw_globe(
    places: Sequence[SiteOnMap],
    columns: int,
    lines: int,
    hotspots: Sequence[HotspotItem] = (),
) -> list[Text]:
    """The map in `lines` lines; the last one is the legend."""
    hotspots = hotspots[:HOT_AT_MOST]
    f = view_around([*places, *hotspots], columns, lines - 1)
    chars = [list(row) for row in draw_outlines(f)]
    inks = [[LAND] * columns for _ in chars]
    taken: set[tuple[int, int]] = set()

    def put(text: str, column: int, line: int, ink: str) -> None:
        for i, char in enumerate(text):
            chars[line][column + i], inks[line][column + i] = char, ink
            taken.add((column + i, line))

    worst_last = sorted(places, key=lambda p: (p.well < p.workers, p.load))
    at = {p.name: f.cell_at(p.lon, p.lat) for p in places}
    # signs first, the worst last so that they stay on top; then labels where room is left
    for p in worst_last:
        put(sign_of_site(p)[0], *at[p.name], sign_of_site(p)[1])
    hot = []
    for h in hotspots:
        column, line = f.cell_at(h.lon, h.lat)
        if (column, line) in taken:  # a site is there: beside it
            column = min(column + 1, columns - 1)
        put(HOT[0], column, line, HOT[1])
        hot.append(((column, line), h.place.partition(",")[0], HOT[1]))
    labels = [  # sites in trouble get their label first
        (at[p.name], f"{p.name} {p.load:.0%}" if p.well else f"{p.name} none", sign_of_site(p)[1])
        for p in reversed(worst_last)
    ]
    for sign_at, words, ink in (*labels, *hot):
        spot = _find_label_spot(sign_at, len(words), columns, len(chars), taken)
        if spot is not None:
            put(words, *spot, ink.removeprefix("bold "))
    return [
        *(_colour_line(c, i) for c, i in zip(chars, inks, strict=True)),
        draw_legend(places, columns, hotspots),
    ]


def _find_label_spot(
    at: tuple[int, int], length: int, columns: int, lines: int, taken: set[tuple[int, int]]
) -> tuple[int, int] | None:
    """Where a label of `length` cells fits next to its sign: right, left, then a line below and
    above. None if nowhere."""
    x, y = at
    tries = [(x + 1, y), (x - length, y)]
    tries += [(x + dx, y + dy) for dy in (1, -1) for dx in (1, -length // 2, -length)]
    for column, line in tries:
        cells = {(column + i, line) for i in range(-1, length + 1)} - {at}
        if column >= 0 and column + length <= columns and 0 <= line < lines and not cells & taken:
            return column, line
    return None


def _colour_line(chars: Sequence[str], inks: Sequence[str]) -> Text:
    out = Text(no_wrap=True, overflow="crop")
    start = 0
    for i in range(1, len(chars) + 1):
        if i == len(chars) or inks[i] != inks[start]:
            out.append("".join(chars[start:i]), inks[start])
            start = i
    return out
