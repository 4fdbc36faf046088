"""The recorded streams and round-trip times that benchmarks read from `../shared/data` beside the
project. Without them a benchmark says so and ends."""

from __future__ import annotations

import csv
import gzip
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from h3.api import basic_int

from agents.core.lanes.lane_map import LaneMap, build_lane_map, murmur2
from agents.local.demo.flights import sample_events

Floats: TypeAlias = npt.NDArray[np.float64]
Longs: TypeAlias = npt.NDArray[np.int64]
Ints: TypeAlias = npt.NDArray[np.int32]

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
FLIGHTS = DATA / "events" / "flights-2001-01_03-utc.parquet"
AIRPORTS = DATA / "events" / "flights-airports.csv"
PINGS = DATA / "latency" / "pings-2018-11-10.csv.gz"
CITIES = DATA / "latency" / "cities_fixed.csv"
DAY_S = 86_400


def need(*files: Path) -> None:
    """Ends the benchmark, without failing it, if a file is missing."""
    missing = [str(file.relative_to(ROOT.parent)) for file in files if not file.exists()]
    if missing:
        print(f"skipped: it needs {', '.join(missing)} beside the project", file=sys.stderr)
        raise SystemExit(0)


@dataclass(frozen=True)
class Flights:
    """Three months of departures by time. `at_s`: seconds since the epoch (whole minutes),
    int64[E]. `lane`: int32[E]. `lat`, `lon` of the origin in degrees, float64[E]."""

    at_s: Longs
    lane: Ints
    lat: Floats
    lon: Floats
    lanemap: LaneMap

    @property
    def days(self) -> int:
        """Whole days of UTC, from 1 January 2001."""
        return int((self.at_s[-1] - self.start_s) // DAY_S)

    @property
    def start_s(self) -> int:
        return int(self.at_s[0] // DAY_S * DAY_S)

    def lane_lon(self) -> Floats:
        """Longitudes of the lanes' middles, degrees, float64[L]."""
        return np.array([lon for _, lon in self.lanemap.centroid])

    def rates_eps(self, bin_s: int) -> Floats:
        """Events/s by bin and lane over the whole days, float64[days * DAY_S / bin_s, L]."""
        bins = self.days * DAY_S // bin_s
        at = (self.at_s - self.start_s) // bin_s
        inside = at < bins
        flat = at[inside] * self.lanemap.lanes + self.lane[inside]
        counts = np.bincount(flat, minlength=bins * self.lanemap.lanes).reshape(
            bins, self.lanemap.lanes
        )
        out: Floats = counts / bin_s
        return out


def flights(lanes: int) -> Flights:
    """The three months, keyed into lanes as the product does: the map is made from its sample of
    the embedded week, heavy cells are sliced by the event's key."""
    import pyarrow.parquet as pq

    table = pq.read_table(FLIGHTS)
    at_s: Longs = table["utc"].to_numpy().astype("datetime64[s]").astype(np.int64)
    origins = table["origin"].combine_chunks()
    index = origins.indices.to_numpy()
    with AIRPORTS.open(encoding="utf-8", newline="") as file:
        places = {
            row["iata"]: (float(row["lat"]), float(row["lon"])) for row in csv.DictReader(file)
        }
    lanemap = build_lane_map(sample_events(), lanes, 4, 1)
    lane: Ints = np.empty(len(at_s), dtype=np.int32)
    names = origins.dictionary.to_pylist()
    where = np.array([places[name] for name in names])
    for i, name in enumerate(names):
        cell = basic_int.int_to_str(basic_int.latlng_to_cell(*places[name], lanemap.resolution))
        rows = np.flatnonzero(index == i)
        among = lanemap.cell_lanes.get(cell) or (murmur2(cell.encode()) % lanes,)
        lane[rows] = (
            [among[murmur2(b"f-%07d" % n) % len(among)] for n in rows]
            if len(among) > 1
            else among[0]
        )
    return Flights(at_s, lane, where[index, 0], where[index, 1], lanemap)


@dataclass(frozen=True)
class Pings:
    """Measured round trips between cities. `lat`, `lon`: degrees, float64[C]. `rtt_ms`: the mean of
    the measured directions, NaN if none was measured, float64[C, C]."""

    cities: tuple[str, ...]
    lat: Floats
    lon: Floats
    rtt_ms: Floats


def pings() -> Pings:
    with CITIES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    row_of = {row["city"]: i for i, row in enumerate(rows)}
    one_way = np.full((len(rows), len(rows)), np.nan)
    with gzip.open(PINGS, "rt", encoding="utf-8", newline="") as packed:
        for row in csv.DictReader(packed):
            if row["src"] != row["dst"]:
                one_way[row_of[row["src"]], row_of[row["dst"]]] = float(row["avg"])
    both = np.stack([one_way, one_way.T])
    known = np.isfinite(both)
    with np.errstate(invalid="ignore"):
        rtt_ms: Floats = np.where(known, both, 0.0).sum(axis=0) / known.sum(axis=0)
    return Pings(
        tuple(row["city"] for row in rows),
        np.array([float(row["lat"]) for row in rows]),
        np.array([float(row["lon"]) for row in rows]),
        rtt_ms,
    )
