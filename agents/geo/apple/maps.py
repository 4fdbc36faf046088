"""Geocoding and travel times from Apple: what is asked, and what the answers mean.

Apple's terms allow temporary storage only, so each place expires after minutes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agents.base.errors import PlaceUnknown
from agents.base.text import to_one_line
from agents.core.model.places import Place, Precision, TravelTime, check_place_text, quote_place
from agents.geo.apple.answers import (
    ApplePlace,
    Eta,
    EtaResponse,
    PlaceResults,
    StructuredAddress,
    seconds_or_none,
)
from agents.geo.apple.budget import CallPriority
from agents.geo.apple.client import AppleClient
from agents.geo.online import Refusal
from agents.geo.provider import check_is_near, check_point
from agents.settings.geo import APPLE_URL

KEPT_S = 600.0
"""How long a place is kept, in memory."""
MAX_DESTINATIONS = 10
TOLERANCE_DEG = 1e-4
"""Apple repeats a destination with rounded numbers; this is 11 m."""
NAME, ATTRIBUTION = "apple", "Apple Maps"
INVENTED = "invented"
INVENTED_ATTRIBUTION = "invented by geolane's demonstration, not from Apple"

Point = tuple[float, float]


def provider_name(url: str) -> tuple[str, str]:
    """The provider's name and attribution. Another server than Apple's is a stand-in."""
    is_apple = url.rstrip("/") == APPLE_URL
    return (NAME, ATTRIBUTION) if is_apple else (INVENTED, INVENTED_ATTRIBUTION)


@dataclass(frozen=True, slots=True)
class _Apple:
    """What both protocols ask of a provider."""

    client: AppleClient

    @property
    def name(self) -> str:
        return provider_name(self.client.online.url)[0]

    @property
    def attribution(self) -> str:
        return provider_name(self.client.online.url)[1]

    async def close(self) -> None:
        await self.client.close()


@dataclass(frozen=True, slots=True)
class AppleGeocoder(_Apple):
    """`cities_only`: `name_at` names the city, not the street."""

    priority: CallPriority
    cities_only: bool = False

    async def find(self, text: str, country: str = "") -> Place:
        asked = check_place_text(text)
        params = {"q": asked} | ({"limitToCountries": country} if country else {})
        results = await self._ask("/v1/geocode", params)
        found = [p for r in results if (p := self._to_place(r)) and country in ("", p.country)]
        if not found:
            where = f" in {country}" if country else ""
            raise PlaceUnknown(f"{self.client.online.name} finds no {quote_place(asked)}{where}")
        return _with_others(found, self.client.online.name)

    async def name_at(self, lat: float, lon: float) -> Place:
        check_point(lat, lon)
        results = await self._ask("/v1/reverseGeocode", {"loc": _format_point((lat, lon))})
        found = [p for r in results if (p := self._to_place(r))]
        if not found:
            raise PlaceUnknown(
                f"{self.client.online.name} has no name for {_format_point((lat, lon))}"
            )
        return check_is_near(found[0], lat, lon)

    async def _ask(self, path: str, params: dict[str, str]) -> list[ApplePlace]:
        got = await self.client.ask(path, params, PlaceResults, self.priority)
        if isinstance(got, Refusal):
            raise PlaceUnknown(f"{self.client.online.name} refuses the question ({got.in_words})")
        return got.results or []

    def _to_place(self, result: ApplePlace) -> Place | None:
        """None for a result without a place on Earth, or without a name."""
        point = result.coordinate.point if result.coordinate else None
        address = result.structured_address or StructuredAddress()
        name = self._name_of(result, address)
        if point is None or not name:
            return None
        code = (result.country_code or "").upper()
        precision = _precision_of(address)
        if self.cities_only and address.locality and precision is Precision.ADDRESS:
            precision = Precision.CITY
        return Place(
            name,
            *point,
            country=code if len(code) == 2 and code.isascii() and code.isalpha() else "",
            region=to_one_line(address.administrative_area or ""),
            precision=precision,
            provider=self.name,
            expires_at=self.client.budget.now() + KEPT_S,
        )

    def _name_of(self, result: ApplePlace, address: StructuredAddress) -> str:
        city, name = address.locality or "", result.name or ""
        if self.cities_only:
            parts = [city or address.administrative_area or name]
        elif name:
            parts = [name] if name == city else [name, city]
        else:
            parts = result.formatted_address_lines or [result.country or ""]
        return to_one_line(", ".join(part for part in parts if part))


def _precision_of(address: StructuredAddress) -> Precision:
    if (
        address.thoroughfare
        or address.full_thoroughfare
        or address.sub_thoroughfare
        or address.areas_of_interest
    ):
        return Precision.ADDRESS
    if address.locality:
        return Precision.CITY
    return Precision.REGION if address.administrative_area else Precision.COUNTRY


def _with_others(found: list[Place], server: str) -> Place:
    others = len(found) - 1
    why = f"the first of {len(found)} that {server} gives" if others else ""
    return replace(found[0], others=others, why=why)


@dataclass(frozen=True, slots=True)
class AppleTravelTimes(_Apple):
    """By car, as traffic is now."""

    async def measure(
        self, origin: Point, destinations: Sequence[Point]
    ) -> list[TravelTime | None]:
        for point in (origin, *destinations):
            check_point(*point)
        times: list[TravelTime | None] = []
        for begin in range(0, len(destinations), MAX_DESTINATIONS):
            times += await self._measure(origin, destinations[begin : begin + MAX_DESTINATIONS])
        return times

    async def _measure(
        self, origin: Point, destinations: Sequence[Point]
    ) -> list[TravelTime | None]:
        """One call."""
        params = {
            "origin": _format_point(origin),
            "destinations": "|".join(map(_format_point, destinations)),
            "transportType": "Automobile",
        }
        got = await self.client.ask("/v1/etas", params, EtaResponse, CallPriority.TRAFFIC)
        if isinstance(got, Refusal):  # as one that no road leads to may be answered
            return [None] * len(destinations)
        return [_to_travel_time(eta) for eta in match_etas(got.etas or [], destinations)]


def match_etas(etas: Sequence[Eta], destinations: Sequence[Point]) -> list[Eta | None]:
    """Each destination's ETA, by the coordinates that Apple repeats. One without coordinates counts
    by its place in the order, if there are as many as were asked for."""
    matched: list[Eta | None] = [None] * len(destinations)
    nameless: list[int] = []
    for i, eta in enumerate(etas):
        point = eta.destination.point if eta.destination else None
        if point is None:
            nameless.append(i)
            continue
        free = [j for j, there in enumerate(matched) if there is None]
        apart = {j: _degrees_apart(point, destinations[j]) for j in free}
        nearest = min(apart, key=apart.__getitem__, default=-1)
        if nearest >= 0 and apart[nearest] <= TOLERANCE_DEG:
            matched[nearest] = eta
    if len(etas) == len(destinations):
        for i in nameless:
            matched[i] = matched[i] or etas[i]
    return matched


def _degrees_apart(a: Point, b: Point) -> float:
    lon = abs(a[1] - b[1])
    return max(abs(a[0] - b[0]), min(lon, 360 - lon))


def _to_travel_time(eta: Eta | None) -> TravelTime | None:
    """None without a route, or without its time."""
    expected_s = seconds_or_none(eta.expected_travel_time_seconds) if eta else None
    if eta is None or expected_s is None:
        return None
    metres = eta.distance_meters
    return TravelTime(
        expected_s,
        seconds_or_none(eta.static_travel_time_seconds),
        metres if metres is not None and math.isfinite(metres) and metres >= 0 else None,
        live=True,
    )


def _format_point(point: Point) -> str:
    return f"{point[0]:.6f},{point[1]:.6f}"
