"""What a provider of maps can do: each file beside this one that asks another system or a table
implements one of these protocols, or both.

Every call raises PlaceUnknown if the answer is "there is none", and ProviderUnavailable if there is
no answer now. Text and coordinates may come from anybody: a provider checks them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agents.base.errors import PlaceUnknown
from agents.core.model.places import Place, Precision, TravelTime, quote_place
from kernels.geo import haversine_km, is_on_earth

FAR_KM = 300.0


class Geocoder(Protocol):
    """Finds places by name, and names by place."""

    @property
    def name(self) -> str:
        """Of the provider, as settings and records have it: `offline`, `apple`."""

    @property
    def attribution(self) -> str:
        """What has to be shown beside its answers."""

    async def find(self, text: str, country: str = "") -> Place:
        """The place that `text` means. `country`: ISO 3166 alpha-2, where that is known."""

    async def name_at(self, lat: float, lon: float) -> Place:
        """The place that these coordinates, in degrees, are in or near."""

    async def close(self) -> None:
        """Give up its connections. May be called more than once."""


class TravelTimes(Protocol):
    """Tells how long roads take."""

    @property
    def name(self) -> str:
        """Of the provider, as settings and records have it: `apple`, `valhalla`."""

    @property
    def attribution(self) -> str:
        """What has to be shown beside its answers."""

    async def measure(
        self, origin: tuple[float, float], destinations: Sequence[tuple[float, float]]
    ) -> list[TravelTime | None]:
        """The times from `origin` to each of `destinations`, all (lat, lon) in degrees, in the
        order of `destinations`. None: no route, or no time for it."""

    async def close(self) -> None:
        """Give up its connections. May be called more than once."""


def check_point(lat: float, lon: float) -> tuple[float, float]:
    """Raises PlaceUnknown if these are not degrees on Earth."""
    if not is_on_earth(lat, lon):
        raise PlaceUnknown(
            f"{lat:g},{lon:g} is not on Earth: a latitude is from -90 to 90 degrees, a longitude "
            "from -180 to 180"
        )
    return lat, lon


def check_is_near(place: Place, lat: float, lon: float) -> Place:
    """The answer to what is at these coordinates. Raises PlaceUnknown if it is a city or an address
    that cannot be."""
    km = haversine_km(place.lat, place.lon, lat, lon)
    if place.precision in (Precision.CITY, Precision.ADDRESS) and km > FAR_KM:
        raise PlaceUnknown(
            f"{place.provider} answers with {quote_place(place.name)}, which is {km:,.0f} km away "
            f"from {lat:g},{lon:g}"
        )
    return place
