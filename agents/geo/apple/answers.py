"""What Apple Maps Server API answers (version 1.2, https://developer.apple.com/documentation/
applemapsserverapi). Apple marks no field as required, and adds fields: what is not used is left
out, and each value is checked where it is read."""

from __future__ import annotations

import math

import msgspec


class Location(msgspec.Struct, frozen=True):
    """Degrees. Apple's sample of autocompletion has lat and lng; all other answers the long
    names."""

    latitude: float | None = None
    longitude: float | None = None
    lat: float | None = None
    lng: float | None = None

    @property
    def point(self) -> tuple[float, float] | None:
        """(lat, lon); None if it is not a place on Earth."""
        lat = self.lat if self.latitude is None else self.latitude
        lon = self.lng if self.longitude is None else self.longitude
        if lat is None or lon is None or not (abs(lat) <= 90 and abs(lon) <= 180):
            return None
        return lat, lon


class StructuredAddress(msgspec.Struct, frozen=True, rename="camel"):
    """Empty fields are absent."""

    administrative_area: str | None = None
    locality: str | None = None
    thoroughfare: str | None = None
    sub_thoroughfare: str | None = None
    full_thoroughfare: str | None = None
    areas_of_interest: list[str] | None = None


class ApplePlace(msgspec.Struct, frozen=True, rename="camel"):
    """One result of geocode or reverseGeocode."""

    name: str | None = None
    coordinate: Location | None = None
    formatted_address_lines: list[str] | None = None
    structured_address: StructuredAddress | None = None
    country: str | None = None
    country_code: str | None = None


class PlaceResults(msgspec.Struct, frozen=True):
    """Of geocode and reverseGeocode; empty if nothing is found."""

    results: list[ApplePlace] | None = None


class Eta(msgspec.Struct, frozen=True, rename="camel"):
    """One travel time. `destination` repeats the request's, with rounded numbers."""

    destination: Location | None = None
    distance_meters: float | None = None
    expected_travel_time_seconds: float | None = None
    static_travel_time_seconds: float | None = None


class EtaResponse(msgspec.Struct, frozen=True):
    """There may be fewer than were asked for, in any order."""

    etas: list[Eta] | None = None


class TokenResponse(msgspec.Struct, frozen=True, rename="camel"):
    """An access token, and how long it is valid."""

    access_token: str
    expires_in_seconds: float

    def __repr__(self) -> str:
        return "TokenResponse(hidden)"


def seconds_or_none(value: float | None) -> float | None:
    """A travel time that can be one. Null, zero and less are not: nobody arrives at once."""
    return value if value is not None and math.isfinite(value) and value > 0 else None
