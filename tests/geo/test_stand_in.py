"""The stand-in of Apple Maps speaks the contract: its endpoints, parameters, statuses, bodies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.base import http_client
from agents.geo.apple.tokens import read_key
from agents.geodata.gazetteer.load import load_place_index
from agents.local.demo.maps.apple_maps import PARAMETERS, AppleMaps
from tests.geo.contract import NOW, started

CONTRACT = Path(__file__).parents[3] / "shared" / "apple_maps_contract.yaml"
Got = tuple[int, Any]
Get = Callable[..., Awaitable[Got]]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[AppleMaps]:
    async with started("apple", tmp_path) as stand_in:
        assert isinstance(stand_in, AppleMaps)
        yield stand_in


@pytest.fixture
async def get(server: AppleMaps) -> Get:
    """Sends a request with a valid access token (or `token`), and returns status and JSON."""
    assert server.access is not None
    valid = server.access.issue_token(NOW)

    async def get(path: str, token: str = valid, method: str = "GET", **params: str) -> Got:
        response = await http_client.request(
            method,
            server.url + path,
            timeout_s=10,
            params=params or None,
            headers={"authorization": f"Bearer {token}"},
        )
        return response.status_code, json.loads(response.content)

    return get


def message(got: Got) -> str:
    assert set(got[1]) == {"error"}
    assert set(got[1]["error"]) == {"message", "details"}
    return f"{got[0]} {got[1]['error']['message']}"


async def test_a_token_for_a_jwt(server: AppleMaps, get: Get) -> None:
    jwt = (await asyncio.to_thread(read_key, server.settings)).sign(NOW)
    status, body = await get("/v1/token", jwt)
    assert (status, body["expiresInSeconds"]) == (200, 1800)
    assert (await get("/v1/geocode", body["accessToken"], q="Paris"))[0] == 200
    assert message(await get("/v1/geocode", jwt, q="Paris")) == "401 Not Authorized"
    assert message(await get("/v1/token", body["accessToken"])) == "401 Not Authorized"
    server.now = lambda: NOW + 1800
    assert message(await get("/v1/geocode", body["accessToken"], q="Paris")) == "401 Not Authorized"


async def test_the_body_of_a_401_has_51_bytes(server: AppleMaps) -> None:
    response = await http_client.request("GET", f"{server.url}/v1/geocode", timeout_s=10)
    assert (response.status_code, len(response.content)) == (401, 51)


async def test_the_quota_counts_every_call_and_begins_anew(server: AppleMaps, get: Get) -> None:
    assert server.access is not None
    server.access.daily_quota, server.access.day_begins_s = 2, 8 * 3600
    for _ in range(2):
        assert (await get("/v1/etas", origin="50,8", destinations="50.1,8.1"))[0] == 200
    assert (await get("/v1/geocode", q="Paris"))[0] == 429
    server.now = lambda: NOW + 21 * 3600
    server.access.token_valid_s = 100_000
    assert (await get("/v1/geocode", server.access.issue_token(NOW), q="Paris"))[0] == 200


async def test_places_and_roads(get: Get) -> None:
    _, found = await get("/v1/geocode", q="Springfield", limitToCountries="US,DE")
    place = found["results"][0]
    assert {"name", "coordinate", "countryCode", "structuredAddress", "displayMapRegion"} <= set(
        place
    )
    assert (await get("/v1/geocode", q="Springfield", limitToCountries="DE"))[1] == {"results": []}
    assert (await get(f"/v1/place/{place['id']}"))[1]["name"] == "Springfield"
    ids = f"{place['id']},I000000000000000,x"
    _, both = await get("/v1/place", ids=ids)
    assert [p["name"] for p in both["results"]] == ["Springfield"]
    codes = [e["errorCode"] for e in both["errors"]]
    assert codes == ["FAILED_NOT_FOUND", "FAILED_INVALID_ID"]
    assert (await get("/v1/place/alternateIds", ids=ids))[1]["results"][0]["id"] == place["id"]
    _, way = await get("/v1/directions", origin="50.1,8.7", destination="Berlin, DE")
    assert way["routes"][0]["stepIndexes"] == [0]
    assert len(way["stepPaths"][way["steps"][0]["stepPathIndex"]]) == 2
    _, search = await get("/v1/search", q="Berlin", enablePagination="true")
    assert search["paginationInfo"]["totalResults"] == len(search["results"])
    _, suggested = await get("/v1/searchAutocomplete", q="Berl")
    assert suggested["results"][0]["completionUrl"].startswith("/v1/search?q=")
    assert (await get(suggested["results"][0]["completionUrl"]))[1]["results"]


@pytest.mark.parametrize(
    ("path", "params", "says"),
    [
        ("/v1/geocode", {}, "q is required"),
        ("/v1/geocode", {"q": "x", "searchLocation": "1,1", "searchRegion": "1,1,0,0"}, "both"),
        ("/v1/reverseGeocode", {"loc": "north"}, "loc is not lat,lon"),
        ("/v1/reverseGeocode", {"loc": "91,0"}, "not on Earth"),
        ("/v1/etas", {"origin": "50,8"}, "destinations is required"),
        ("/v1/etas", {"origin": "50,8", "destination": "50,8"}, "destinations is required"),
        ("/v1/etas", {"origin": "Berlin", "destinations": "50,8"}, "origin is not lat,lon"),
        ("/v1/etas", {"origin": "50,8", "destinations": "|".join(["50,8"] * 11)}, "at most 10"),
        ("/v1/etas", {"origin": "50,8", "destinations": "50,8", "transportType": "Boat"}, "transp"),
        (
            "/v1/etas",
            {
                "origin": "50,8",
                "destinations": "50,8",
                "departureDate": "2026-11-29T12:00:00Z",
                "arrivalDate": "2026-11-29T13:00:00Z",
            },
            "cannot specify both",
        ),
        ("/v1/etas", {"origin": "50,8", "destinations": "50,8", "arrivalDate": "noon"}, "ISO 8601"),
        ("/v1/directions", {"origin": "50,8"}, "destination is required"),
        ("/v1/search", {}, "q is required"),
        ("/v1/search", {"pageToken": "x", "q": "y"}, "sent alone"),
        ("/v1/search", {"q": "x", "includeAddressCategories": "Country"}, "resultTypeFilter"),
        ("/v1/searchAutocomplete", {}, "q is required"),
        ("/v1/place", {}, "ids is required"),
    ],
)
async def test_wrong_parameters_are_400(
    get: Get, path: str, params: dict[str, str], says: str
) -> None:
    assert says in message(await get(path, **params))


async def test_other_paths_and_methods(get: Get) -> None:
    assert message(await get("/v2/geocode", q="x")) == "404 Not Found"
    assert message(await get("/v1/geocode", method="POST", q="x")) == "405 Method Not Allowed"


async def test_traffic_comes_and_goes(server: AppleMaps, get: Get) -> None:
    times = []
    for minute in range(0, 60, 3):
        server.now = lambda minute=minute: NOW + 60 * minute  # type: ignore[misc]
        assert server.access is not None
        token = server.access.issue_token(server.now())
        _, got = await get("/v1/etas", token, origin="50,8", destinations="50.5,8.5")
        [eta] = got["etas"]
        times.append(eta["expectedTravelTimeSeconds"] / eta["staticTravelTimeSeconds"])
    assert min(times) == 1.0
    assert 2.0 < max(times) <= 2.5


@pytest.mark.skipif(not CONTRACT.exists(), reason="no ../shared/data (nor its contract)")
def test_every_endpoint_and_parameter_of_the_contract_is_known() -> None:
    contract = yaml.safe_load(CONTRACT.read_text("utf-8"))
    shared = contract["components"]["parameters"]
    for path, methods in contract["paths"].items():
        rows = methods["get"].get("parameters", [])
        rows = [shared[r["$ref"].rpartition("/")[2]] if "$ref" in r else r for r in rows]
        names = {row["name"] for row in rows if row["in"] == "query"}
        if path != "/v1/place/{id}":
            assert PARAMETERS[path] == names, path


async def test_a_demonstration_knows_names_with_what_they_are_in(
    server: AppleMaps, get: Get
) -> None:
    text = "Springfield, Illinois"
    assert await get("/v1/geocode", q=text) == (200, {"results": []})
    server.atlas.index = await asyncio.to_thread(load_place_index)
    _, body = await get("/v1/geocode", q=text)
    [found] = body["results"]
    assert (found["name"], found["countryCode"]) == ("Springfield", "US")
    assert round(found["coordinate"]["latitude"], 1) == 39.8
    for text, countries in (("Atlantis Nova", ""), ("Springfield, Illinois", "DE")):
        more = {"limitToCountries": countries} if countries else {}
        assert await get("/v1/geocode", q=text, **more) == (200, {"results": []})
