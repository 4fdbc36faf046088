"""What a provider of maps is asked, and what it answers: a place, or the time that a road takes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from agents.base.errors import PlaceUnknown
from agents.base.text import to_one_line


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


MOST_CHARACTERS = 200
"""Of a place's name with its regions and country, or of an address."""

NO_VALUES = frozenset(
    {"null", "nil", "none", "nan", "n/a", "na", "undefined", "unknown", "(null)", "-", "?"}
)
"""What programs write where there is no value, in lower case."""

_NEVER_IN_NAMES = re.compile(r"[<>{}=\\\\$%^~\x00-\x1f]")
_COORDINATES = re.compile(
    r"\s*([+-]?\d{1,3}(?:\.\d+)?)\s*[,;\s]\s*([+-]?\d{1,3}(?:\.\d+)?)\s*", re.ASCII
)


def check_place_text(text: str) -> str:
    """The text that can be the name of a place, without space at its ends. Raises PlaceUnknown with
    the reason why it cannot."""
    bare = text.strip()
    if not bare:
        raise PlaceUnknown("the name of the place is empty")
    if len(bare) > MOST_CHARACTERS:
        raise PlaceUnknown(
            f"the name of the place has {len(bare):,} characters; {MOST_CHARACTERS} are allowed"
        )
    if odd := _NEVER_IN_NAMES.search(bare):
        raise PlaceUnknown(f"{quote(bare)} is not a name: no place has {odd[0]!r} in its name")
    if parse_coordinates(bare) is not None:
        raise PlaceUnknown(
            f"{quote(bare)} are coordinates, not a name; an event has them as origin.lat and "
            "origin.lon"
        )
    if not any(c.isalpha() for c in bare):
        raise PlaceUnknown(f"{quote(bare)} is not a name: it has no letters")
    if bare.lower() in NO_VALUES and bare != "Nan":  # a city in Thailand
        raise PlaceUnknown(f"{quote(bare)} stands for no value, not for a place")
    return bare


def parse_coordinates(text: str) -> tuple[float, float] | None:
    """The latitude and longitude of `39.8,-89.6`, in degrees; None for other text. They are not
    checked to be on Earth."""
    found = _COORDINATES.fullmatch(text)
    return (float(found[1]), float(found[2])) if found else None


def quote(text: str) -> str:
    """A place's name as it was given, made safe to show, in quotation marks."""
    return f'"{to_one_line(text, 60)}"'
