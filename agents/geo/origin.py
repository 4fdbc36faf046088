"""Fills the coordinates of a place into an event, and leaves everything else of it as it is."""

from __future__ import annotations

import msgspec

from agents.core.model.places import Place

_DECIMALS = 6  # of a degree: 0.1 m
_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def fill_origin(value: bytes, place: Place) -> bytes:
    """The event `value`, whose `origin` has no coordinates, with those of `place`, and with a
    member `geo` of `origin` that says whose they are and what they mean. All other members keep
    their bytes.

    Raises msgspec.DecodeError, RecursionError if the JSON cannot be read."""
    event = _decoder.decode(value)
    origin = _decoder.decode(event["origin"])
    found: dict[str, object] = {
        "name": place.name,
        "precision": place.precision.value,
        "provider": place.provider,
    }
    if place.others:
        found |= {"others": place.others, "why": place.why}
    filled = origin | {
        "lat": round(place.lat, _DECIMALS),
        "lon": round(place.lon, _DECIMALS),
        "geo": found,
    }
    return msgspec.json.encode(event | {"origin": filled})
