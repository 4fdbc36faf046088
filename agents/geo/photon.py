"""Geocoding by a Photon or a Nominatim of one's own, both on OpenStreetMap's data.

https://github.com/komoot/photon/blob/master/docs/api-v1.md
https://nominatim.org/release-docs/latest/api/Overview/
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from agents.base.errors import PlaceUnknown
from agents.base.text import to_one_line
from agents.core.model.places import Place, Precision, check_place_text, quote_place
from agents.geo.online import Online, Refusal
from agents.geo.provider import check_is_near, check_point

T = TypeVar("T")
_ENGLISH = {"accept-language": "en"}
"""Names in English where there are some. Photon's parameter `lang` is refused by a server that has
no English names; the header is not."""
ATTRIBUTION = "© OpenStreetMap contributors"
KEPT_S = 86_400.0
RESULTS = 10
REFUSED_S = 60.0


@dataclass(frozen=True, slots=True)
class PhotonGeocoder:
    """`now`: epoch seconds."""

    online: Online
    now: Callable[[], float] = time.time
    name: str = "photon"
    attribution: str = ATTRIBUTION

    async def find(self, text: str, country: str = "") -> Place:
        asked = check_place_text(text)
        params = {"q": asked, "limit": str(RESULTS)}
        got = await _ask(self.online, "/api", params, _Features)
        # The parameter `countrycode` is not used: a Photon before 0.7 refuses what it does not know
        return _choose(self._to_places(got), asked, country, self.name)

    async def name_at(self, lat: float, lon: float) -> Place:
        check_point(lat, lon)
        params = {"lat": f"{lat:.6f}", "lon": f"{lon:.6f}"}
        got = await _ask(self.online, "/reverse", params, _Features)
        found = _choose(self._to_places(got), f"{lat:g},{lon:g}", "", self.name)
        return check_is_near(found, lat, lon)

    async def close(self) -> None:
        """Each request has a connection of its own."""

    def _to_places(self, got: _Features) -> Iterable[Place | None]:
        for feature in got.features:
            about, at = feature.properties, feature.geometry.coordinates
            street = " ".join(x for x in (about.street, about.housenumber) if x)
            yield _make_place(
                about.name or street or about.city or about.state or about.country,
                "" if about.name and not street else about.city,
                (at[1], at[0]) if len(at) >= 2 else None,
                country=about.countrycode,
                region=about.state,
                precision=_precision_of(about),
                provider=self.name,
                expires_at=self.now() + KEPT_S,
            )


class _Properties(msgspec.Struct):
    type: str | None = None
    name: str | None = None
    street: str | None = None
    housenumber: str | None = None
    city: str | None = None
    state: str | None = None
    country: str | None = None
    countrycode: str | None = None


class _Geometry(msgspec.Struct):
    """[lon, lat]."""

    coordinates: list[float]


class _Feature(msgspec.Struct):
    geometry: _Geometry
    properties: _Properties


class _Features(msgspec.Struct):
    features: list[_Feature]


_PRECISION = {
    "house": Precision.ADDRESS,
    "street": Precision.ADDRESS,
    "locality": Precision.CITY,
    "district": Precision.CITY,
    "city": Precision.CITY,
    "county": Precision.REGION,
    "state": Precision.REGION,
    "country": Precision.COUNTRY,
}


def _precision_of(about: _Properties) -> Precision:
    """`other` is anything from a peak to a sea; older servers leave the type out."""
    if about.street or about.housenumber:
        return Precision.ADDRESS
    return _PRECISION.get(about.type or "", Precision.CITY if about.city else Precision.REGION)


@dataclass(frozen=True, slots=True)
class NominatimGeocoder:
    """`now`: epoch seconds."""

    online: Online
    now: Callable[[], float] = time.time
    name: str = "nominatim"
    attribution: str = ATTRIBUTION

    async def find(self, text: str, country: str = "") -> Place:
        asked = check_place_text(text)
        params = {"q": asked, "limit": str(RESULTS)} | _NOMINATIM
        if country:
            params["countrycodes"] = country.lower()
        got = await _ask(self.online, "/search", params, list[_Result])
        return _choose(map(self._to_place, got), asked, country, self.name)

    async def name_at(self, lat: float, lon: float) -> Place:
        check_point(lat, lon)
        params = {"lat": f"{lat:.6f}", "lon": f"{lon:.6f}"} | _NOMINATIM
        got = await _ask(self.online, "/reverse", params, _Result)  # with `error` if there is none
        found = _choose([self._to_place(got)], f"{lat:g},{lon:g}", "", self.name)
        return check_is_near(found, lat, lon)

    async def close(self) -> None:
        """Each request has a connection of its own."""

    def _to_place(self, got: _Result) -> Place | None:
        about = got.address or _Address()
        try:
            point = float(got.lat or ""), float(got.lon or "")
        except ValueError:
            return None
        city = about.city or about.town or about.village or ""
        name = got.name or (got.display_name or "").partition(",")[0]
        precision = _precision_of_rank(got.place_rank)
        return _make_place(
            name,
            city if precision is Precision.ADDRESS else "",
            point,
            country=about.country_code,
            region=about.state,
            precision=precision,
            provider=self.name,
            expires_at=self.now() + KEPT_S,
        )


_NOMINATIM = {"format": "jsonv2", "addressdetails": "1"}


class _Address(msgspec.Struct):
    city: str | None = None
    town: str | None = None
    village: str | None = None
    state: str | None = None
    country_code: str | None = None


class _Result(msgspec.Struct):
    """Degrees are texts."""

    lat: str | None = None
    lon: str | None = None
    name: str | None = None
    display_name: str | None = None
    place_rank: int | None = None
    address: _Address | None = None


def _precision_of_rank(rank: int | None) -> Precision:
    """https://nominatim.org/release-docs/latest/customize/Ranking/"""
    if rank is None or 5 <= rank <= 12:
        return Precision.REGION
    if rank < 5:
        return Precision.COUNTRY
    return Precision.CITY if rank < 26 else Precision.ADDRESS


async def _ask(online: Online, path: str, params: dict[str, str], answer: type[T]) -> T:
    """Raises PlaceUnknown if the server refuses the question, ProviderUnavailable."""
    got = await online.request(path, answer, params=params, headers=_ENGLISH)
    if not isinstance(got, Refusal):
        return got
    if got.status == 400:
        raise PlaceUnknown(f"{online.name} refuses the question ({got.in_words})")
    raise online.refuse_for(REFUSED_S, f"refuses us ({got.in_words})")


def _make_place(
    name: str | None,
    city: str | None,
    point: tuple[float, float] | None,
    *,
    country: str | None,
    region: str | None,
    precision: Precision,
    provider: str,
    expires_at: float,
) -> Place | None:
    """None for a result without a name, or that is not on Earth."""
    if not name or point is None or not (abs(point[0]) <= 90 and abs(point[1]) <= 180):
        return None
    code = (country or "").upper()
    return Place(
        to_one_line(f"{name}, {city}" if city and city != name else name),
        *point,
        country=code if len(code) == 2 and code.isascii() and code.isalpha() else "",
        region=to_one_line(region or ""),
        precision=precision,
        provider=provider,
        expires_at=expires_at,
    )


def _choose(found: Iterable[Place | None], asked: str, country: str, provider: str) -> Place:
    """The first in that country: the server has put the likeliest there."""
    places = [p for p in found if p is not None and country in ("", p.country)]
    if not places:
        where = f" in {country}" if country else ""
        raise PlaceUnknown(f"{provider} finds no {quote_place(asked)}{where}")
    others = len(places) - 1
    why = f"the first of {len(places)} that {provider} gives" if others else ""
    return replace(places[0], others=others, why=why)
