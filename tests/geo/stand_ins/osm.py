"""Stand-ins for Photon and Nominatim, on invented answers about true cities."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from agents.local.demo.maps.http_stand_in import HttpRequest, HttpResponse, HttpStandIn
from agents.local.demo.maps.invented import Atlas, City, Json


def _degrees(params: dict[str, str]) -> tuple[float, float] | None:
    """(lat, lon); None if they are missing, or not on Earth."""
    try:
        lat, lon = float(params["lat"]), float(params["lon"])
    except (KeyError, ValueError):
        return None
    return (lat, lon) if abs(lat) <= 90 and abs(lon) <= 180 else None


@dataclass(slots=True)
class Photon(HttpStandIn):
    """As version 0.6, which refuses parameters that it does not know."""

    atlas: Atlas = field(default_factory=Atlas)

    def answer(self, request: HttpRequest) -> HttpResponse:
        params = request.params
        known = {
            "/api": {"q", "limit", "lang", "lat", "lon", "layer", "osm_tag", "bbox"},
            "/reverse": {"lat", "lon", "lang", "limit", "radius", "layer", "osm_tag"},
            "/status": set(),
        }.get(request.path)
        if known is None or request.method != "GET":
            return HttpResponse(404, {"message": "Not Found"})
        if unknown := sorted(params.keys() - known):
            return HttpResponse(400, {"message": f"unknown query parameter '{unknown[0]}'."})
        if request.path == "/status":
            return HttpResponse(200, {"status": "Ok", "import_date": "2026-11-01T00:00:00Z"})
        if request.path == "/api":
            if not params.get("q", "").strip():
                return HttpResponse(400, {"message": "missing search term 'q': /?q=berlin"})
            found = self.atlas.find(params["q"], frozenset())[: int(params.get("limit", "15"))]
        else:
            point = _degrees(params)
            if point is None:
                return HttpResponse(400, {"message": "missing search term 'lat' or 'lon'"})
            found = self.atlas.near(point)
        features = [_feature(city) for city in found]
        return HttpResponse(200, {"type": "FeatureCollection", "features": features})


def _feature(city: City) -> Json:
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [city.lon, city.lat]},
        "properties": {
            "osm_type": "R",
            "osm_id": 62422,
            "osm_key": "place",
            "osm_value": "city",
            "type": "city",
            "name": city.name,
            "country": city.country,
            "countrycode": city.country,
            "extent": [city.lon - 0.1, city.lat + 0.1, city.lon + 0.1, city.lat - 0.1],
        },
    }


@dataclass(slots=True)
class Nominatim(HttpStandIn):
    """As version 4, with format=jsonv2."""

    atlas: Atlas = field(default_factory=Atlas)

    def answer(self, request: HttpRequest) -> HttpResponse:
        params = request.params
        if request.path == "/status":
            return HttpResponse(200, {"status": 0, "message": "OK"})
        if request.path not in ("/search", "/reverse") or request.method != "GET":
            return HttpResponse(404, {"error": "Not Found"})
        if params.get("format") != "jsonv2":
            return _bad_request("Parameter 'format' must be jsonv2 here.")
        if request.path == "/search":
            if not params.get("q", "").strip():
                return _bad_request("Nothing to search for.")
            countries = {c.upper() for c in params.get("countrycodes", "").split(",") if c}
            found = self.atlas.find(params["q"], frozenset(countries))
            return HttpResponse(200, [_result(city) for city in found[: int(params["limit"])]])
        point = _degrees(params)
        if point is None or not all(map(math.isfinite, point)):
            return _bad_request("Parameter 'lat' must be a number.")
        near = self.atlas.near(point)
        return HttpResponse(200, _result(near[0]) if near else {"error": "Unable to geocode"})


def _bad_request(message: str) -> HttpResponse:
    return HttpResponse(400, {"error": {"code": 400, "message": message}})


def _result(city: City) -> Json:
    return {
        "place_id": 100149,
        "osm_type": "relation",
        "osm_id": 62422,
        "lat": str(city.lat),
        "lon": str(city.lon),
        "category": "boundary",
        "type": "administrative",
        "place_rank": 15,
        "importance": 0.7,
        "addresstype": "city",
        "name": city.name,
        "display_name": f"{city.name}, {city.country}",
        "address": {
            "city": city.name,
            "country": city.country,
            "country_code": city.country.lower(),
        },
        "boundingbox": ["0", "0", "0", "0"],
    }
