"""Lookups for a batch: each place once, side by side, and never longer than a bound."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest

from agents.base.errors import ProviderFailed
from agents.core.model.places import Place
from agents.geo import lookups
from agents.geo.lookups import Found, Lookups
from agents.local.demo.maps.http_stand_in import HttpRequest, HttpResponse
from tests.geo.contract import NOW, open_for, settings_for
from tests.geo.stand_ins.osm import Photon
from tests.geo.support import CHICAGO, PARIS, TableGeocoder


async def find(geocoder: TableGeocoder, *texts: str) -> Found:
    return await asyncio.to_thread(
        Lookups(geocoder, asyncio.get_running_loop()).find_places, list(texts)
    )


async def test_places_and_reasons() -> None:
    found = await find(TableGeocoder(), "Chicago", "Atlantis", "Paris")
    assert found == Found(
        {"Chicago": CHICAGO, "Atlantis": "there is no such place", "Paris": PARIS}
    )
    assert await find(TableGeocoder()) == Found({})


async def test_a_bug_on_one_text_costs_one_event() -> None:
    class Buggy(TableGeocoder):
        async def find(self, text: str, country: str = "") -> Place:
            if text == "\N{ZERO WIDTH JOINER}":
                raise IndexError("a secret")
            return await super().find(text, country)

    found = await find(Buggy(), "Chicago", "\N{ZERO WIDTH JOINER}", "Paris")
    told = str(found.answers["\N{ZERO WIDTH JOINER}"])
    assert told.startswith("a fault of the provider or of ours: IndexError at test_lookups.py:")
    assert "secret" not in told
    assert (len(found.answers), found.waits) == (3, "")


async def test_slow_answers_are_asked_side_by_side() -> None:
    geocoder = TableGeocoder(slow_s=0.3)
    began = time.monotonic()
    found = await find(geocoder, *(f"place {i}" for i in range(lookups.AT_ONCE)))
    assert len(found.answers) == lookups.AT_ONCE
    assert time.monotonic() - began < lookups.AT_ONCE * 0.3
    assert set(geocoder.asked.values()) == {1}


async def test_a_provider_that_is_away_is_asked_little_and_its_reason_is_told() -> None:
    geocoder = TableGeocoder(away="used up")
    found = await find(geocoder, *(f"place {i}" for i in range(1000)))
    assert (found.answers, found.waits) == ({}, "used up")
    assert geocoder.asked.total() <= lookups.AT_ONCE


async def test_what_is_known_when_time_is_up_is_handed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookups, "LOOK_S", 0.3)
    geocoder = TableGeocoder(slow_s=0.02)
    found = await find(geocoder, *(f"place {i}" for i in range(5000)))
    assert 0 < len(found.answers) < 5000
    assert "place 0" in found.answers
    assert not found.waits


async def test_a_provider_that_is_silent_does_not_hold_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookups, "LOOK_S", 0.05)
    monkeypatch.setattr(lookups, "FIRST_S", 0.1)
    found = await find(TableGeocoder(slow_s=60), "Chicago", "Paris")
    assert found == Found({}, {"Chicago": "table has not answered for 0.1 s"})


class Failing(TableGeocoder):
    """It fails at `fails_at`, or stays silent there; `fails`: at everything."""

    fails_at, silent, fails = "Paris", False, False

    async def find(self, text: str, country: str = "") -> Place:
        self.asked[text] += 1
        if self.fails or text == self.fails_at:
            if self.silent:
                await asyncio.sleep(60)
            raise ProviderFailed("table answers with status 500", 1.0)
        return await super().find(text, country)


@pytest.mark.parametrize("silent", [False, True])
async def test_a_name_at_which_the_provider_always_fails_is_given_up(
    silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "LOOK_S", 0.05)
    monkeypatch.setattr(lookups, "FIRST_S", 0.1)
    geocoder = Failing()
    geocoder.silent = silent
    finder = Lookups(geocoder, asyncio.get_running_loop())
    for _ in range(lookups.FAILS_AT_MOST):
        found = await asyncio.to_thread(finder.find_places, ["Paris", "Chicago"])
        assert list(found.refused) == ["Paris"]
    for _ in range(2):
        found = await asyncio.to_thread(finder.find_places, ["Paris", "Chicago"])
        told = found.answers["Paris"]
        assert str(told).startswith("the provider answers others, and fails at this name: table ")
        assert (found.answers["Chicago"], found.refused) == (CHICAGO, {})
    assert geocoder.asked["Paris"] <= 2 * (lookups.FAILS_AT_MOST + 1)
    geocoder.fails_at = ""
    finder._suspects["Paris"].until = 0.0
    found = await asyncio.to_thread(finder.find_places, ["Paris"])
    assert found == Found({"Paris": PARIS})


async def test_a_name_that_only_another_partition_waits_for_is_given_up_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookups, "LOOK_S", 0.05)
    monkeypatch.setattr(lookups, "FIRST_S", 0.1)
    geocoder = Failing()
    geocoder.silent = True
    finder = Lookups(geocoder, asyncio.get_running_loop())
    for _ in range(lookups.FAILS_AT_MOST + 1):
        found = await asyncio.to_thread(finder.find_places, ["Chicago", "Paris"], 2)
        assert found.answers["Chicago"] == CHICAGO
    assert "fails at this name" in str(found.answers["Paris"])


@pytest.mark.parametrize("silent", [False, True])
async def test_nothing_is_given_up_while_the_provider_fails_at_everything(
    silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "LOOK_S", 0.02)
    monkeypatch.setattr(lookups, "FIRST_S", 0.05)
    geocoder = Failing()
    geocoder.fails, geocoder.silent = True, silent
    finder = Lookups(geocoder, asyncio.get_running_loop())
    for _ in range(3 * lookups.FAILS_AT_MOST):
        found = await asyncio.to_thread(finder.find_places, ["Paris", "Chicago"])
        assert found.answers == {}
        assert found.waits
    geocoder.fails, geocoder.fails_at = False, ""
    found = await asyncio.to_thread(finder.find_places, ["Paris", "Chicago"])
    assert found == Found({"Paris": PARIS, "Chicago": CHICAGO})


@dataclass(slots=True)
class FailsAtOne(Photon):
    """Answers 500 to each question about Paris."""

    def answer(self, request: HttpRequest) -> HttpResponse:
        if request.params.get("q") == "Paris":
            return HttpResponse(500, {"message": "a bug"})
        return Photon.answer(self, request)


async def test_a_name_that_a_server_always_fails_at_does_not_open_its_circuit_for_good() -> None:
    async with FailsAtOne(now=lambda: NOW) as server:
        await asyncio.to_thread(server.atlas.read)
        providers = await open_for(settings_for("photon", server))
        finder = Lookups(providers.events, asyncio.get_running_loop())
        asked = ["Paris", *(f"place {n}" for n in range(30)), "Chicago"]
        found = Found({})
        async with asyncio.timeout(60):
            while not {"Paris", "Chicago"} <= found.answers.keys():
                await asyncio.sleep(0.2)
                found = await asyncio.to_thread(finder.find_places, asked)
        assert "Photon answers with status 500" in str(found.answers["Paris"])
        assert found.refused == {}
        assert not providers.servers[0].circuit.is_open
        await providers.close()


async def test_the_loop_serves_others_meanwhile() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    await find(TableGeocoder(), *(f"place {i}" for i in range(3000)))
    other.cancel()
    assert turns > 100
