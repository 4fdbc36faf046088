"""The example pipeline: it cleans US flights and adds a distance and a delay class to each.

Copy this file to write your own pipeline, and name it in the settings: `worker.pipeline =
"module:function"`. A pipeline takes a list of records and returns a list of the same length. Each
element is a record with a new value, None to leave the record out, or a list of records. It may run
again on the same records, so it must have no side effects. docs/pipelines.md has a faster form, for
many events: `column_pipeline` here.
"""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt

import orjson

from agents.core.lanes.records import Record
from agents.node.contract import RecordColumns, by_columns

EARTH_KM = 6371.0088
KM_PER_MILE = 1.609344


def pipeline(batch: list[Record]) -> list[Record | None]:
    """Add `distance_km` (great circle; from the timetable's miles if the destination's place is
    unknown), `delay_class` (early, on_time, late, very_late, unknown) and `cell`. Leave out flights
    without a destination and those that return to their origin."""
    return [enrich_flight(record) for record in batch]


@by_columns
def column_pipeline(columns: RecordColumns) -> list[bytes | None]:
    """The same for many events: it takes the records' fields as lists, and returns new values."""
    return list(map(enrich_value, columns.value, columns.cell))


def enrich_flight(record: Record) -> Record | None:
    """Enrich one flight. Raises KeyError, TypeError or ValueError if it is not a valid flight."""
    value = enrich_value(record.value, record.cell)
    return None if value is None else record.with_value(value)


def enrich_value(value: bytes, cell: str) -> bytes | None:
    """The new value of one flight, in a cell (hex); None to leave it out. Raises as
    `enrich_flight`."""
    flight = orjson.loads(value)
    destination = flight["destination"]
    if not destination or destination == flight["origin_iata"]:
        return None
    origin, lat, lon = flight["origin"], flight.get("dest_lat"), flight.get("dest_lon")
    if lat is not None and lon is not None:
        flight["distance_km"] = round(great_circle_km(origin["lat"], origin["lon"], lat, lon), 1)
    else:
        flight["distance_km"] = round(flight["distance_mi"] * KM_PER_MILE, 1)
    flight["delay_class"] = classify_delay(flight.get("delay_min"))
    flight["cell"] = cell
    return orjson.dumps(flight)


def classify_delay(delay_min: float | None) -> str:
    """The delay's class. As in the industry, a flight is on time below 15 minutes."""
    if delay_min is None:
        return "unknown"
    if delay_min < 0:
        return "early"
    if delay_min < 15:
        return "on_time"
    return "late" if delay_min < 60 else "very_late"


def great_circle_km(lat: float, lon: float, lat2: float, lon2: float) -> float:
    """Great-circle distance in km (haversine) of two points in degrees."""
    a, b = radians(lat), radians(lat2)
    h = sin((b - a) / 2) ** 2 + cos(a) * cos(b) * sin(radians(lon2 - lon) / 2) ** 2
    return 2 * EARTH_KM * asin(sqrt(min(1.0, h)))
