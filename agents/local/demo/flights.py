"""The real stream of the embedded stack: a week of US flights, each an event at its origin airport,
repeated with suffixed ids."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files

import msgspec
import orjson

from agents.local.demo.replay import KeyedValue
from agents.settings import Settings

_DATA = files("agents.local.demo") / "data"
DAYS = 7
PIPELINE = "agents.node.flights:pipeline"


def with_pipeline(settings: Settings, pipeline: str = PIPELINE) -> Settings:
    """The settings with this pipeline."""
    worker = msgspec.structs.replace(settings.worker, pipeline=pipeline)
    return msgspec.structs.replace(settings, worker=worker)


class Airport(msgspec.Struct, frozen=True):
    """`lat`, `lon` in degrees."""

    iata: str
    city: str
    lat: float
    lon: float


@cache
def read_airports() -> dict[str, Airport]:
    """The airports of the stream by IATA code."""
    text = (_DATA / "airports.csv").read_text("utf-8")
    return {
        row["iata"]: Airport(row["iata"], row["city"], float(row["lat"]), float(row["lon"]))
        for row in csv.DictReader(text.splitlines())
    }


def _read_flight_rows() -> Iterator[list[str]]:
    """The file's rows, unpacked as they are read, so that the week is never in memory as a
    whole."""
    with (
        (_DATA / "flights-2001-01-08_14.csv.gz").open("rb") as packed,
        gzip.open(packed, "rt", encoding="utf-8", newline="") as text,
    ):
        reader = csv.reader(text)
        next(reader)
        yield from reader


def week_of_events(loop: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """The week once, by time, as (key, event) for `events.raw`; the key is the event's id.

    `loop`: how often it came before. Each repetition is a week later and has other ids."""
    known = read_airports()
    suffix = f".k{loop}" if loop else ""
    later = timedelta(days=DAYS * loop)
    for n, (utc, origin, destination, delay, distance) in enumerate(_read_flight_rows()):
        here, there = known[origin], known[destination]
        flight = f"f-{n:07d}{suffix}"
        event = {
            "id": flight,
            "ts": f"{(datetime.fromisoformat(utc) + later).isoformat()}Z",
            "origin": {"lat": here.lat, "lon": here.lon},
            "type": "flight",
            "origin_iata": origin,
            "origin_city": here.city,
            "destination": destination,
            "dest_city": there.city,
            "dest_lat": there.lat,
            "dest_lon": there.lon,
            "delay_min": int(delay),
            "distance_mi": int(distance),
        }
        yield flight.encode(), orjson.dumps(event)


def name_origins(events: Iterable[KeyedValue]) -> Iterator[KeyedValue]:
    """The events with the name of their origin in place of its coordinates: of the city and of the
    airport, in turn."""
    for n, (key, value) in enumerate(events):
        event = orjson.loads(value)
        event["origin"] = {"place": event["origin_city" if n % 2 else "origin_iata"]}
        yield key, orjson.dumps(event)


def day_length_s(rate_eps: float) -> float:
    """How long a day of the stream takes at this rate, in seconds."""
    return sum(1 for _ in _read_flight_rows()) / DAYS / rate_eps


def endless_events() -> Iterator[tuple[bytes, bytes]]:
    """The week, repeated without end."""
    loop = 0
    while True:
        yield from week_of_events(loop)
        loop += 1


def sample_events(every: int = 5) -> Iterator[bytes]:
    """Every `every`-th event of the week, to make the lane map from."""
    for n, (_, event) in enumerate(week_of_events()):
        if n % every == 0:
            yield event
