"""What may be asked of a server: texts and coordinates come from anybody, and are checked before a
server sees them."""

from __future__ import annotations

import unicodedata

from agents.base.errors import PlaceUnknown
from agents.core.model.places import check_place_text
from kernels.geo import is_on_earth


def checked_text(text: str) -> str:
    """`text` as one line, without invisible characters. Raises PlaceUnknown if it cannot be the
    name of a place, or an address."""
    bare = unicodedata.normalize("NFC", check_place_text(text))
    return " ".join("".join(c for c in bare if unicodedata.category(c)[0] != "C").split())


def checked_point(lat: float, lon: float) -> tuple[float, float]:
    """Raises PlaceUnknown if these are not degrees on Earth."""
    if not is_on_earth(lat, lon):
        raise PlaceUnknown(
            f"{lat:g},{lon:g} is not on Earth: a latitude is from -90 to 90 degrees, a longitude "
            "from -180 to 180"
        )
    return lat, lon
