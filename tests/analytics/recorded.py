"""Recorded streams from `../shared/data` beside the project, as events of `events.lanes`. The
README there has their sources; they may not be committed."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from datetime import datetime

import numpy as np
import orjson
import pytest
from h3.api import basic_str as h3

from agents.geodata.cities import CITIES
from benchmarks.recorded import DATA
from tests.analytics.support import Event

HONEYPOT = DATA / "events" / "honeypot-2013-03_06.parquet"
WIKITICKER = DATA / "events" / "wikiticker-2015-09-12-sampled.json.gz"
SHUFFLED_MS = 4_900  # within the lateness


def need_recorded_streams() -> None:
    """Skip the test if they are not there."""
    missing = [file.name for file in (HONEYPOT, WIKITICKER) if not file.exists()]
    if missing:
        pytest.skip(f"no ../shared/data/events beside the project: needs {', '.join(missing)}")


def honeypot(count: int, partitions: int, seed: int = 1) -> list[Event]:
    """The `count` attacks on honeypots that came in the shortest time, at their sources, shuffled
    within the lateness. Those without a place are left out."""
    import pyarrow.parquet as pq

    table = pq.read_table(HONEYPOT, columns=["ts", "lat", "lon", "src_id"])
    at_s = table["ts"].to_numpy().astype("datetime64[s]").astype(np.int64)
    lat, lon = (table[name].to_numpy().astype(float) for name in ("lat", "lon"))
    source = table["src_id"].to_numpy()
    rows = np.flatnonzero(np.isfinite(lat) & np.isfinite(lon))
    first = int((at_s[rows][count:] - at_s[rows][:-count]).argmin())
    rows = rows[first : first + count]
    return _shuffled(
        [
            Event(
                int(source[i]) % partitions,
                int(at_s[i]) * 1000,
                h3.latlng_to_cell(lat[i], lon[i], 5),
            )
            for i in rows
        ],
        seed,
    )


def wikiticker(partitions: int, times: int = 20, seed: int = 2) -> list[Event]:
    """The edits whose country is known (3,795 of 39,244: of anonymous users), `times` as fast as
    they were, shuffled within the lateness. The recording has no coordinates: an edit is placed in
    the city that it names, if the project's gazetteer has it in that country, else in the country's
    largest city."""
    largest: dict[str, tuple[int, str]] = {}
    named: dict[tuple[str, str], str] = {}
    with gzip.open(CITIES, "rt", encoding="utf-8", newline="") as packed:
        for row in csv.DictReader(packed):
            cell = h3.latlng_to_cell(float(row["lat"]), float(row["lon"]), 5)
            country, people = row["country"], int(row["people"])
            named.setdefault((country, row["name"]), cell)
            largest[country] = max(largest.get(country, (0, "")), (people, cell))
    found = []
    with gzip.open(WIKITICKER) as lines:
        for n, line in enumerate(lines):
            edit = orjson.loads(line)
            country = edit["countryIsoCode"]
            if country not in largest:
                continue
            cell = named.get((country, edit["cityName"]), largest[country][1])
            ms = round(datetime.fromisoformat(edit["time"]).timestamp() * 1000)
            found.append(Event(n % partitions, ms, cell))
    first_ms = found[0].ms
    return _shuffled([e._replace(ms=first_ms + (e.ms - first_ms) // times) for e in found], seed)


def _shuffled(events: Sequence[Event], seed: int) -> list[Event]:
    rng = np.random.default_rng(seed)
    return sorted(events, key=lambda e: e.ms + int(rng.integers(SHUFFLED_MS)))
