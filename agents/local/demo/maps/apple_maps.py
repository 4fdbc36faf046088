"""Stands in for Apple Maps Server API 1.2: all endpoints of its contract, its tokens and its quota.
The contract leaves some things open; here each of them is a field that can be set."""

from __future__ import annotations

import asyncio
import random
import re
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agents import settings
from agents.base.files import replace_file
from agents.local.demo.maps.apple_access import MapsAccess
from agents.local.demo.maps.http_stand_in import HttpRequest, HttpResponse, HttpStandIn
from agents.local.demo.maps.invented import (
    Atlas,
    City,
    Json,
    Point,
    address_near,
    map_region,
    place_of,
    route,
)

KEY_FILE, BUDGET_FILE = "apple-maps-key.p8", "apple-maps-budget.json"
TEAM_ID, KEY_ID = "INVENTED00", "INVENTED01"
MAX_DESTINATIONS = 10
_POINT = re.compile(r"-?\d+(\.\d+)?, ?-?\d+(\.\d+)?")
_LANGUAGE = {"lang"}
_HINTS = {"searchLocation", "searchRegion", "userLocation"}
_POI = {"excludePoiCategories", "includePoiCategories"}
_SEARCH = (
    _LANGUAGE
    | _HINTS
    | _POI
    | {
        "limitToCountries",
        "resultTypeFilter",
        "searchRegionPriority",
        "includeAddressCategories",
        "excludeAddressCategories",
    }
)
PARAMETERS: Mapping[str, set[str]] = {
    "/v1/token": set(),
    "/v1/geocode": {"q", "limitToCountries"} | _LANGUAGE | _HINTS,
    "/v1/reverseGeocode": {"loc"} | _LANGUAGE,
    "/v1/etas": {"origin", "destinations", "transportType", "departureDate", "arrivalDate"},
    "/v1/directions": {
        *("origin", "destination", "departureDate", "arrivalDate", "avoid"),
        *("requestsAlternateRoutes", "transportType"),
    }
    | _LANGUAGE
    | _HINTS,
    "/v1/search": {"q", "enablePagination", "pageToken", "metadata"} | _SEARCH,
    "/v1/searchAutocomplete": {"q"} | _SEARCH,
    "/v1/place": {"ids"} | _LANGUAGE,
    "/v1/place/alternateIds": {"ids"},
}
_CAR_AND_MORE = {"Automobile", "Transit", "Walking", "Cycling"}


class BadRequest(Exception):
    """A parameter is missing or wrong: 400."""


@dataclass(slots=True)
class AppleMaps(HttpStandIn):
    """`unroutable`: whether a destination to which no road leads is left out, has no times, or
    makes the request fail. `shuffles_etas`: their order is random. `keeps_static_times`: whether
    they are told. `refuses_unknown_parameters`: else they are ignored."""

    access: MapsAccess | None = None
    atlas: Atlas = field(default_factory=Atlas)
    unroutable: Literal["absent", "null", "error"] = "absent"
    shuffles_etas: bool = False
    keeps_static_times: bool = True
    refuses_unknown_parameters: bool = False
    settings: settings.Apple = field(default_factory=settings.Apple)
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    @classmethod
    @asynccontextmanager
    async def started(cls, folder: Path, port: int = 0) -> AsyncIterator[AppleMaps]:
        """A running server, whose `settings` make a client ask it; the key and the budget's file
        lie in `folder`."""
        server = cls(content_type="application/json;charset=utf8", port=port)
        public_key = await asyncio.to_thread(server._prepare, folder)
        server.access = MapsAccess(TEAM_ID, KEY_ID, public_key)
        async with server:
            server.settings = settings.Apple(
                team_id=TEAM_ID,
                key_id=KEY_ID,
                key_file=str(folder / KEY_FILE),
                budget_file=str(folder / BUDGET_FILE),
                url=server.url,
            )
            yield server

    def _prepare(self, folder: Path) -> ec.EllipticCurvePublicKey:
        self.atlas.read()
        private_key = ec.generate_private_key(ec.SECP256R1())
        pem = private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (folder / KEY_FILE).unlink(missing_ok=True)
        replace_file(folder / KEY_FILE, pem.decode())
        return private_key.public_key()

    def answer(self, request: HttpRequest) -> HttpResponse:
        response = self._judge(request)
        headers = {"x-rid": str(uuid.uuid4()), "cache-control": "max-age=0"}
        return HttpResponse(response.status, response.body, headers)

    def _judge(self, request: HttpRequest) -> HttpResponse:
        handlers: Mapping[str, Callable[[dict[str, str]], Json]] = {
            "/v1/geocode": self._geocode,
            "/v1/reverseGeocode": self._reverse_geocode,
            "/v1/etas": self._etas,
            "/v1/directions": self._directions,
            "/v1/search": self._search,
            "/v1/searchAutocomplete": self._autocomplete,
            "/v1/place": self._places,
            "/v1/place/alternateIds": self._alternate_ids,
        }
        path, now, access = request.path, self.now(), self.access
        place_id = path.removeprefix("/v1/place/") if path not in PARAMETERS else ""
        is_place = path.startswith("/v1/place/") and place_id != ""
        if request.method != "GET":
            return _error(405, "Method Not Allowed")
        if path not in PARAMETERS and not is_place:
            return _error(404, "Not Found")
        authorization = request.headers.get("authorization", "")
        if access is None:
            return _error(500, "Not Ready")
        if path == "/v1/token":
            if not access.accepts_jwt(authorization, request.headers.get("origin", ""), now):
                return _error(401, "Not Authorized")
        elif not access.knows_token(authorization, now):
            return _error(401, "Not Authorized")
        if not access.count_call(now, for_token=path == "/v1/token"):
            return _error(429, "Quota Exceeded")
        if path == "/v1/token":
            valid_s = access.token_valid_s
            return HttpResponse(
                200, {"accessToken": access.issue_token(now), "expiresInSeconds": valid_s}
            )
        try:
            self._check_parameters(request, PARAMETERS.get(path, _LANGUAGE))
            if is_place:
                return HttpResponse(200, place_of(self._city_of(place_id)))
            return HttpResponse(200, handlers[path](request.params))
        except BadRequest as e:
            return _error(400, str(e))

    def _check_parameters(self, request: HttpRequest, known: set[str]) -> None:
        unknown = sorted(request.params.keys() - known)
        if unknown and self.refuses_unknown_parameters:
            raise BadRequest(f"unknown parameter {unknown[0]}")
        if {"searchLocation", "searchRegion"} <= request.params.keys():
            raise BadRequest("cannot specify both searchLocation and searchRegion")

    def _geocode(self, params: dict[str, str]) -> Json:
        countries = _list_of(params.get("limitToCountries", ""))
        found = self.atlas.find(_required(params, "q"), frozenset(countries))
        return {"results": [place_of(city) for city in found]}

    def _reverse_geocode(self, params: dict[str, str]) -> Json:
        point = _point(_required(params, "loc"), "loc")
        return {"results": [address_near(city, point) for city in self.atlas.near(point)]}

    def _etas(self, params: dict[str, str]) -> Json:
        origin = _point(_required(params, "origin"), "origin")
        texts = _required(params, "destinations").split("|")
        if len(texts) > MAX_DESTINATIONS:
            raise BadRequest(f"destinations: at most {MAX_DESTINATIONS}")
        _check_times(params)
        if params.get("transportType", "Automobile") not in _CAR_AND_MORE:
            raise BadRequest("transportType is not valid")
        etas = []
        for destination in (_point(text, "destinations") for text in texts):
            eta = self.atlas.eta(origin, destination, self.now())
            if eta is None and self.unroutable == "error":
                raise BadRequest("no route")
            if eta is None and self.unroutable == "null":
                eta = {"destination": _location(destination), "transportType": "Automobile"}
                eta |= dict.fromkeys(("expectedTravelTimeSeconds", "staticTravelTimeSeconds"))
            if eta is not None:
                if not self.keeps_static_times:
                    eta.pop("staticTravelTimeSeconds", None)
                etas.append(eta)
        if self.shuffles_etas:
            self.dice.shuffle(etas)
        return {"etas": etas}

    def _directions(self, params: dict[str, str]) -> Json:
        ends = [self._end(_required(params, name)) for name in ("origin", "destination")]
        _check_times(params)
        if params.get("transportType", "Automobile") not in _CAR_AND_MORE - {"Transit"}:
            raise BadRequest("transportType is not valid")
        points = [(e["coordinate"]["latitude"], e["coordinate"]["longitude"]) for e in ends]
        eta = self.atlas.eta(points[0], points[1], self.now())
        if eta is None:
            return {"origin": ends[0], "destination": ends[1], "routes": []}
        return route(ends[0], ends[1], eta)

    def _end(self, text: str) -> Json:
        """An end of a route: coordinates, or a name."""
        if _POINT.fullmatch(text):
            return {"coordinate": _location(_point(text, "origin"))}
        if not (found := self.atlas.find(text, frozenset())):
            raise BadRequest(f"no place {text}")
        return place_of(found[0])

    def _search(self, params: dict[str, str]) -> Json:
        if "pageToken" in params:
            if params.keys() - {"pageToken", "lang"}:
                raise BadRequest("pageToken is sent alone")
            return {"results": [], "displayMapRegion": map_region((0.0, 0.0))}
        found = self.atlas.find(_required(params, "q"), frozenset())
        _check_address_categories(params)
        shown: Json = {"results": [place_of(city) for city in found]}
        if found:
            shown["displayMapRegion"] = map_region((found[0].lat, found[0].lon))
        if params.get("enablePagination") == "true":
            shown["paginationInfo"] = {"totalPageCount": 1, "totalResults": len(found)}
        return shown

    def _autocomplete(self, params: dict[str, str]) -> Json:
        text = _required(params, "q")
        _check_address_categories(params)
        return {"results": [_suggestion(city) for city in self.atlas.starting_with(text)]}

    def _places(self, params: dict[str, str]) -> Json:
        results, errors = [], []
        for place_id in _list_of(_required(params, "ids")):
            city = self.atlas.by_id(place_id)
            if city is not None:
                results.append(place_of(city))
            else:
                is_id = re.fullmatch(r"I[0-9A-F]{15}", place_id)
                code = "FAILED_NOT_FOUND" if is_id else "FAILED_INVALID_ID"
                errors.append({"id": place_id, "errorCode": code})
        return {"results": results, "errors": errors}

    def _alternate_ids(self, params: dict[str, str]) -> Json:
        got = self._places(params)
        results = [{"id": place["id"], "alternateIds": []} for place in got["results"]]
        return {"results": results, "errors": got["errors"]}

    def _city_of(self, place_id: str) -> City:
        if (city := self.atlas.by_id(place_id)) is None:
            raise BadRequest("no such place")
        return city


def _error(status: int, message: str) -> HttpResponse:
    return HttpResponse(status, {"error": {"message": message, "details": []}})


def _required(params: dict[str, str], name: str) -> str:
    if not params.get(name, "").strip():
        raise BadRequest(f"{name} is required")
    return params[name]


def _list_of(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _point(text: str, name: str) -> Point:
    if not _POINT.fullmatch(text):
        raise BadRequest(f"{name} is not lat,lon")
    lat, lon = (float(part) for part in text.split(","))
    if not (abs(lat) <= 90 and abs(lon) <= 180):
        raise BadRequest(f"{name} is not on Earth")
    return lat, lon


def _location(point: Point) -> Json:
    return {"latitude": point[0], "longitude": point[1]}


def _check_times(params: dict[str, str]) -> None:
    given = [params[name] for name in ("departureDate", "arrivalDate") if name in params]
    if len(given) == 2:
        raise BadRequest("cannot specify both departureDate and arrivalDate")
    for text in given:
        try:
            zone = datetime.fromisoformat(text).tzinfo
        except ValueError:
            zone = None
        if zone is None:
            raise BadRequest("a date is ISO 8601 in UTC")


def _check_address_categories(params: dict[str, str]) -> None:
    wanted = {"includeAddressCategories", "excludeAddressCategories"} & params.keys()
    if wanted and "address" not in _list_of(params.get("resultTypeFilter", "").casefold()):
        raise BadRequest("address categories need address in resultTypeFilter")


def _suggestion(city: City) -> Json:
    q = quote(f"{city.name}, {city.country}")
    return {
        "completionUrl": f"/v1/search?q={q}&metadata={city.place_id}",
        "displayLines": [city.name, city.country],
        "location": _location((city.lat, city.lon)),
        "structuredAddress": {"locality": city.name},
    }
