"""The map of the hotspot benchmark: cells with known rates, days of events drawn from them, bursts
put on top, and how soon each burst can show at all."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import product
from typing import NamedTuple

import numpy as np
import orjson
from h3.api import basic_str

from agents.core.hotspots.areas import AREA_RESOLUTION, area_of, areas_around
from agents.local.demo.flights import DAYS, week_of_events
from benchmarks.instances import CITY_LAT, CITY_LON
from kernels.jit import njit
from kernels.tables import Floats, Ints

DAY_S = 86_400
WARM_S = 5_400  # before each day, so that every method has its baseline
RESOLUTION = AREA_RESOLUTION + 1
LEAST_EPS, MOST_EPS = 0.01, 10.0  # usual rates of a made-up city's cells
DAY_RATIO = 7.4  # of their busiest and their quietest time of the day
APART_S = 7_200  # between the bursts of an area
FACTORS = (2.0, 3.0, 5.0, 10.0)
DURATIONS_S = (30, 60, 120, 300, 600, 1800)
SHAPES = ("step", "ramp")
EXTENTS = ("cell", "city", "moving")
LIMIT_Z = 5.0
LATE_S = 30  # an alarm up to this long after a burst still finds it


class Area(NamedTuple):
    """An area of the map. `cells`: its cells that have events, hex H3 indices; `eps`: their usual
    rates by minute of the day (UTC), events/s, float64[cells, 1440]. `recorded`: whether the rates
    are those of the recorded flights."""

    name: str
    cells: tuple[str, ...]
    eps: Floats
    recorded: bool


class Burst(NamedTuple):
    """`area`, `cells`: rows of the map and of the area, in the order in which a moving burst comes
    to them. `start_s`: seconds since the day's stream began. `limit_s`: how long it must last to
    show, 0 if it is too short or too weak for that."""

    area: int
    cells: tuple[int, ...]
    start_s: int
    duration_s: int
    factor: float
    shape: str
    extent: str
    limit_s: int

    @property
    def end_s(self) -> int:
        return self.start_s + self.duration_s


def recorded_areas() -> Iterator[Area]:
    """The airports of the embedded week of flights: the rate of each at each hour of the day, over
    the whole week, smoothed over three hours."""
    counts: dict[str, Floats] = {}
    for _, event in week_of_events():
        fields = orjson.loads(event)
        place = fields["origin"]
        cell = basic_str.latlng_to_cell(place["lat"], place["lon"], RESOLUTION)
        counts.setdefault(cell, np.zeros(24))[datetime.fromisoformat(fields["ts"]).hour] += 1
    by_area: dict[str, list[str]] = {}
    for cell in sorted(counts):
        by_area.setdefault(area_of(cell), []).append(cell)
    for name, cells in by_area.items():
        eps = np.array([_smoothed(counts[cell] / (DAYS * 3600)) for cell in cells])
        yield Area(name, tuple(cells), eps, True)


def _smoothed(hourly: Floats) -> Floats:
    """float64[24] as float64[1440]."""
    mean = (np.roll(hourly, 1) + 2 * hourly + np.roll(hourly, -1)) / 4
    middles = np.arange(-1, 25) * 60 + 30
    return np.interp(np.arange(1440), middles, np.concatenate((mean[-1:], mean, mean[:1])))


def made_up_areas(rng: np.random.Generator, taken: set[str], count: int) -> Iterator[Area]:
    """Areas of large cities apart from each other and from `taken`, with events in all their cells.
    Their rates follow the sun."""
    near = set(taken)
    for lat, lon in zip(CITY_LAT, CITY_LON, strict=True):
        name = basic_str.latlng_to_cell(lat, lon, AREA_RESOLUTION)
        if count == 0 or near & areas_around(name):
            continue
        near |= areas_around(name)
        cells = tuple(sorted(basic_str.cell_to_children(name, RESOLUTION)))
        usual = 10 ** rng.uniform(np.log10(LEAST_EPS), np.log10(MOST_EPS))
        each = np.clip(usual * np.exp(rng.uniform(-1, 1, len(cells))), LEAST_EPS, MOST_EPS)
        turn = 2 * np.pi * (np.arange(1440) / 1440 + lon / 360)
        day = np.exp(np.log(DAY_RATIO) / 2 * -np.cos(turn))
        yield Area(name, cells, each[:, None] * (day / day.mean()), False)
        count -= 1


def make_map(seed: int, cities: int) -> list[Area]:
    recorded = list(recorded_areas())
    taken = {area.name for area in recorded}
    return [*recorded, *made_up_areas(np.random.default_rng(seed), taken, cities)]


# Bursts


def profile(burst: Burst) -> Floats:
    """By how much it multiplies the rate of each of its cells and seconds, float64[cells,
    duration]."""
    second = np.arange(burst.duration_s)
    rise = np.minimum(1.0, 2 * second / burst.duration_s) if burst.shape == "ramp" else 1.0
    times = np.tile(
        1 + (burst.factor - 1) * rise * np.ones(burst.duration_s), (len(burst.cells), 1)
    )
    if burst.extent == "moving":
        there = second * len(burst.cells) // burst.duration_s
        times[there[None, :] != np.arange(len(burst.cells))[:, None]] = 1.0
    return times


def with_limit(area: Area, burst: Burst) -> Burst:
    """The burst with its `limit_s`: when the square of the events expected beyond the usual ones is
    z^2 times all that are expected, in the cells where it is. For a step in one cell this is the
    known z^2 F / (b (F - 1)^2)."""
    minute = (burst.start_s - WARM_S + np.arange(burst.duration_s)) // 60 % 1440
    usual = area.eps[list(burst.cells)][:, minute]
    times = profile(burst)
    beyond = np.cumsum((usual * (times - 1)).sum(axis=0))
    whole = np.cumsum(np.where(times > 1, usual * times, 0.0).sum(axis=0))
    shows = np.flatnonzero(beyond**2 >= LIMIT_Z**2 * np.maximum(whole, 1e-12))
    return burst._replace(limit_s=int(shows[0]) + 1 if len(shows) else 0)


def draw_bursts(rng: np.random.Generator, areas: list[Area], count: int) -> list[Burst]:
    """Up to `count` bursts of a day, as evenly over the grid as it goes, one in eight at a recorded
    place. None is within two hours of another in its area."""
    grid = list(product(FACTORS, DURATIONS_S, SHAPES, EXTENTS))
    recorded = [i for i, area in enumerate(areas) if area.recorded]
    made_up = [i for i, area in enumerate(areas) if not area.recorded]
    order = [int(i) for _ in range(count // len(grid) + 1) for i in rng.permutation(len(grid))]
    found: list[Burst] = []
    for n, (factor, duration_s, shape, extent) in enumerate(grid[i] for i in order[:count]):
        for _ in range(50):
            area = int(rng.choice(recorded if n % 8 == 0 and recorded else made_up))
            start_s = int(rng.integers(WARM_S, WARM_S + DAY_S - duration_s - 600))
            others = [b for b in found if b.area == area]
            if all(
                start_s > b.end_s + APART_S or start_s + duration_s + APART_S < b.start_s
                for b in others
            ):
                cells = _place(rng, areas[area], extent)
                burst = Burst(area, cells, start_s, duration_s, factor, shape, extent, 0)
                found.append(with_limit(areas[area], burst))
                break
    return found


def _place(rng: np.random.Generator, area: Area, extent: str) -> tuple[int, ...]:
    if extent == "city":
        return tuple(range(len(area.cells)))
    path = [int(rng.integers(len(area.cells)))]
    while extent == "moving" and len(path) < 3:
        next_to = basic_str.grid_ring(area.cells[path[-1]], 1)
        ways = [i for i, c in enumerate(area.cells) if c in next_to and i not in path]
        if not ways:
            break
        path.append(int(rng.choice(ways)))
    return tuple(path)


# Events


def draw_area(area: Area, bursts: list[Burst], seed: int) -> Ints:
    """The events of each cell and second of a day and the time before it, int32[cells, WARM_S +
    DAY_S], at random (Poisson) at the usual rates and those of the area's bursts."""
    usual = usual_by_minute(area)
    times = np.ones((len(area.cells), WARM_S + DAY_S))
    for burst in bursts:
        times[list(burst.cells), burst.start_s : burst.end_s] = profile(burst)
    out = np.empty(times.shape, np.int32)
    _draw(usual, times, seed, out)
    return out


@njit()
def _draw(usual: Floats, times: Floats, seed: int, out: Ints) -> None:
    np.random.seed(seed)
    for c in range(out.shape[0]):
        for minute in range(usual.shape[1]):
            none = np.exp(-usual[c, minute])
            for t in range(minute * 60, minute * 60 + 60):
                rate = usual[c, minute] * times[c, t]
                if rate > 8:
                    out[c, t] = np.random.poisson(rate)
                    continue
                least = none if times[c, t] == 1 else np.exp(-rate)
                left = np.random.random()
                n = 0
                while left > least:
                    left *= np.random.random()
                    n += 1
                out[c, t] = n


def usual_by_minute(area: Area) -> Floats:
    """The usual rates along a day's stream, float64[cells, minutes]."""
    minutes = (WARM_S + DAY_S) // 60
    return np.roll(area.eps, WARM_S // 60, axis=1)[:, np.arange(minutes) % 1440]
