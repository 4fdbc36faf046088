"""Whatever a server answers, what follows is a place, a travel time, or an error of ours."""

from __future__ import annotations

import copy
import math
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.base.errors import PlaceUnknown, ProviderUnavailable
from agents.core.model.places import Place, TravelTime
from agents.local.demo.maps.http_stand_in import HttpFault
from tests.geo.contract import FOLDER, open_for, read_case, settings_for, started

Json = Any  # Any: JSON
ODD: tuple[Json, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1e308,
        -1e308,
        2**63,
        10**30,
        "",
        "null",
        "NaN",
        "\x00\u202e",
    ),
    *([], {}, [[]], {"": {}}, "x" * 5000, [None] * 50, -0.0, 91, 181, "1"),
)
TIMES = 120


def answers_of(provider: str) -> list[Json]:
    """The answers of the cases, which are valid or nearly so."""
    cases = [read_case(file) for file in sorted(FOLDER.glob(f"{provider}-*.json"))]
    bodies = [fault.json for case in cases for fault in case.server.faults]
    return [body for body in bodies if isinstance(body, dict | list) and body]


def mutants(provider: str, seed: int) -> Iterator[bytes]:
    dice = random.Random(seed)
    answers = answers_of(provider)
    for _ in range(TIMES):
        answer = msgspec.json.decode(msgspec.json.encode(dice.choice(answers)))
        for _ in range(dice.randint(1, 3)):
            mutate(answer, dice)
        body = msgspec.json.encode(answer)
        yield body if dice.random() < 0.9 else body[: dice.randrange(len(body))]


def mutate(value: Json, dice: random.Random) -> None:
    """Replace, drop or double one value somewhere in a dict or list."""
    while isinstance(value, dict | list) and value:
        key = dice.choice(list(value) if isinstance(value, dict) else range(len(value)))
        inner = value[key]
        if isinstance(inner, dict | list) and inner and dice.random() < 0.8:
            value = inner
            continue
        if dice.random() < 0.7:
            value[key] = copy.deepcopy(dice.choice(ODD))
        elif isinstance(value, list) and dice.random() < 0.5:
            value.append(inner)
        else:
            del value[key]
        return


def check_place(place: Place) -> None:
    assert abs(place.lat) <= 90
    assert abs(place.lon) <= 180
    assert place.name.isprintable()
    assert 0 < len(place.name) <= 200
    assert place.region.isprintable()
    assert place.country == "" or (len(place.country) == 2 and place.country.isupper())


def check_time(time: TravelTime | None) -> None:
    if time is not None:
        for value in (time.expected_s, time.static_s):
            assert value is None or 0 < value < math.inf
        assert time.distance_m is None or 0 <= time.distance_m < math.inf


@pytest.mark.parametrize("provider", ["apple", "photon", "nominatim", "valhalla"])
async def test_any_answer_becomes_a_value_or_an_error_of_ours(
    provider: str, tmp_path: Path
) -> None:
    outcomes: Counter[str] = Counter()
    reasons: list[str] = []
    async with started(provider, tmp_path) as server:
        geo = settings_for(provider, server)
        if provider == "apple":
            geo = settings_for(provider, server, daily_calls=25_000)
        providers = await open_for(geo)
        if provider == "apple":
            await providers.people.find("Paris")  # the token
        for number, body in enumerate(mutants(provider, seed=14)):
            path = "/sources_to_targets" if provider == "valhalla" else ""
            server.always = HttpFault(path=path, body=body)
            for online in providers.servers:
                online.circuit.succeed()
            try:
                if provider != "valhalla" and (provider != "apple" or b"etas" not in body):
                    check_place(await providers.people.find(f"Place {number}"))
                else:
                    assert providers.travel_times is not None
                    there = [(50.1, 8.1), (50.2, 8.2), (50.3, 8.3)]
                    for time in await providers.travel_times.measure((50.0, 8.0), there):
                        check_time(time)
                outcomes["value"] += 1
            except (PlaceUnknown, ProviderUnavailable) as e:
                outcomes[type(e).__name__] += 1
                reasons.append(str(e))
        await providers.close()
    assert outcomes.total() == TIMES
    assert len(outcomes) > 1, outcomes
    assert [reason for reason in reasons if not reason.isprintable()] == []
