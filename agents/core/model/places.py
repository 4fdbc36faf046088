"""What a provider of maps answers: a place, or the time that a road takes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Precision(StrEnum):
    """How much of the Earth an answer means: its coordinates are those of the middle of it."""

    ADDRESS = "address"
    CITY = "city"
    REGION = "region"
    COUNTRY = "country"


@dataclass(frozen=True, slots=True)
class Place:
    """A place with its coordinates in degrees (WGS 84).

    `country`: ISO 3166 alpha-2, or empty. `region`: its name for people, or empty. `others`: how
    many other places the text could have meant. `why`: for people, why this one was chosen (`the
    largest of 12 places of this name`). `expires_at`: epoch s from which on the answer may not be
    used; 0: it does not expire."""

    name: str
    lat: float
    lon: float
    country: str
    region: str
    precision: Precision
    provider: str
    others: int = 0
    why: str = ""
    expires_at: float = 0.0


@dataclass(frozen=True, slots=True)
class TravelTime:
    """How long the road from one place to another takes.

    `expected_s`: now. `static_s`: on empty roads, None where the provider does not tell. `live`:
    whether `expected_s` is from traffic as it is now."""

    expected_s: float
    static_s: float | None
    distance_m: float | None
    live: bool
