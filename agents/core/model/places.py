"""What a provider of maps is asked, and what it answers: a place, or the time that a road takes."""

from __future__ import annotations

import re
import unicodedata
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
"""Of a place's name with its regions and country, or of an address. The longest name of a place has
168 (Bangkok's)."""

NO_VALUES = frozenset(
    {"null", "nil", "none", "nan", "n/a", "na", "undefined", "unknown", "(null)", "-", "?"}
)
"""What programs write instead of a missing value, in lower case."""

_NEVER_IN_NAMES = re.compile(r"[<>{}=\\$%^~]")
_COORDINATES = re.compile(
    r"\s*([+-]?\d{1,3}(?:\.\d+)?)\s*[,;\s]\s*([+-]?\d{1,3}(?:\.\d+)?)\s*", re.ASCII
)


def check_place_text(text: str) -> str:
    """`text` as one line without invisible characters. Raises PlaceUnknown, with the reason, if it
    cannot be the name of a place or an address."""
    if len(text) > MOST_CHARACTERS:
        raise PlaceUnknown(
            f"the name of the place has {len(text):,} characters; at most {MOST_CHARACTERS} are "
            "looked up"
        )
    seen = (" " if c.isspace() else c for c in unicodedata.normalize("NFC", text))
    line = " ".join("".join(c for c in seen if unicodedata.category(c)[0] != "C").split())
    if not line:
        raise PlaceUnknown("the name of the place is empty")
    if line.lower() in NO_VALUES and line != "Nan":  # a city in Thailand
        raise PlaceUnknown(f"{quote_place(line)} stands for no value, not for a place")
    if parse_coordinates(line) is not None:
        raise PlaceUnknown(
            f"{quote_place(line)} are coordinates, not a name; an event has them as origin.lat "
            "and origin.lon"
        )
    if not any(c.isalpha() for c in line):
        raise PlaceUnknown(f"{quote_place(line)} is not a name: it has no letters")
    if odd := _NEVER_IN_NAMES.search(line):
        raise PlaceUnknown(
            f"{quote_place(line)} is not a name: no place has {odd[0]!r} in its name"
        )
    return line


def parse_coordinates(text: str) -> tuple[float, float] | None:
    """The latitude and longitude of `39.8,-89.6`, in degrees; None for other text. They are not
    checked to be on Earth."""
    found = _COORDINATES.fullmatch(text) if len(text) <= MOST_CHARACTERS else None
    return (float(found[1]), float(found[2])) if found else None


def quote_place(text: str) -> str:
    """A place's name as it was given, made safe to show, in quotation marks."""
    return f'"{to_one_line(text, 60)}"'


def describe_place(place: Place, attribution: str) -> str:
    """The place for people: what and where it is, why this one, and who says so."""
    names = [place.name, place.region if place.region != place.name else "", place.country]
    more = " To mean another, add its region or country after a comma." if place.others else ""
    lines = (
        ", ".join(filter(None, names)),
        f"{place.lat:.4f}, {place.lon:.4f} (precision: {place.precision})",
        f"{place.why[:1].upper()}{place.why[1:]}.{more}" if place.why else "",
        f"Source: {place.provider}, {attribution}" if attribution else f"Source: {place.provider}",
    )
    return "\n".join(filter(None, lines))
