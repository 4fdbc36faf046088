"""The example pipeline: US flights, each cleaned and enriched with its distance and a delay class.

Copy this file to start your own, and name it in the settings: `worker.pipeline =
"module:function"`. A pipeline gets a list of records and answers a list as long: a record with a
new value, None to leave it out, or a list of records. It may be run again on the same records, so
it changes nothing but what it returns.
"""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt

import orjson

from agents.core.lanes.records import Record

EARTH_KM = 6371.0088
KM_PER_MILE = 1.609344


def pipeline(batch: list[Record]) -> list[Record | None]:
    """Adds `distance_km` (great circle, from the timetable's miles where the destination is
    unknown), `delay_class` (early, on_time, late, very_late, unknown) and `cell`; leaves out
    flights without destination or back to where they started."""
    return [enrich(record) for record in batch]


def enrich(record: Record) -> Record | None:
    """One flight. Raises KeyError, TypeError or ValueError for what is no flight."""
    flight = orjson.loads(record.value)
    destination = flight["destination"]
    if not destination or destination == flight["origin_iata"]:
        return None
    origin, lat, lon = flight["origin"], flight.get("dest_lat"), flight.get("dest_lon")
    if lat is not None and lon is not None:
        flight["distance_km"] = round(km(origin["lat"], origin["lon"], lat, lon), 1)
    else:
        flight["distance_km"] = round(flight["distance_mi"] * KM_PER_MILE, 1)
    flight["delay_class"] = delay_class(flight.get("delay_min"))
    flight["cell"] = record.cell
    return record.with_value(orjson.dumps(flight))


def delay_class(delay_min: float | None) -> str:
    """The industry's quarter of an hour: a flight is on time below 15 minutes."""
    if delay_min is None:
        return "unknown"
    if delay_min < 0:
        return "early"
    if delay_min < 15:
        return "on_time"
    return "late" if delay_min < 60 else "very_late"


def km(lat: float, lon: float, lat2: float, lon2: float) -> float:
    """Great-circle distance in km (haversine), of points in degrees."""
    a, b = radians(lat), radians(lat2)
    h = sin((b - a) / 2) ** 2 + cos(a) * cos(b) * sin(radians(lon2 - lon) / 2) ** 2
    return 2 * EARTH_KM * asin(sqrt(min(1.0, h)))
