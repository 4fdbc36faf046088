"""What may be asked: texts and coordinates come from anybody, and are checked before a provider
sees them."""

from __future__ import annotations

import math
import unicodedata

from agents.base.errors import PlaceUnknown
from agents.base.text import to_one_line

MAX_TEXT = 200
"""Characters. The longest name of a place has 168 (Bangkok's)."""
_NO_NAMES = frozenset({"null", "none", "nil", "nan", "undefined", "unknown", "n/a", "na", "?", "-"})
_SHOWN = 40


def checked_text(text: str) -> str:
    """`text` as one line, without invisible characters. Raises PlaceUnknown if it cannot be the
    name of a place, or an address."""
    if len(text) > MAX_TEXT:
        raise PlaceUnknown(
            f"a name of {len(text):,} characters is longer than any place's; at most {MAX_TEXT} "
            "are looked up"
        )
    seen = (" " if c.isspace() else c for c in unicodedata.normalize("NFC", text))
    line = " ".join("".join(c for c in seen if unicodedata.category(c)[0] != "C").split())
    if not line:
        raise PlaceUnknown("the name is empty")
    if line.casefold() in _NO_NAMES:
        raise PlaceUnknown(f"{line!r} stands for no value; it is not the name of a place")
    if not any(c.isalpha() for c in line):
        raise PlaceUnknown(
            f"{to_one_line(line, _SHOWN)!r} has no letter, so it is not the name of a place"
        )
    return line


def checked_point(lat: float, lon: float) -> tuple[float, float]:
    """Raises PlaceUnknown if these are not degrees on Earth."""
    if not (math.isfinite(lat) and math.isfinite(lon) and abs(lat) <= 90 and abs(lon) <= 180):
        raise PlaceUnknown(
            f"{lat:g},{lon:g} is not on Earth: a latitude is from -90 to 90 degrees, a longitude "
            "from -180 to 180"
        )
    return lat, lon
