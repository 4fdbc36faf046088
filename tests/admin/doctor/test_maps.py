"""The doctor looks at the servers of maps that are used, and at no other."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from agents import settings
from agents.admin.doctor.judge.roles import Whom, with_passwords
from agents.admin.doctor.judge.verdict import Finding, Level
from agents.admin.doctor.maps import MapsCheck
from agents.core.model.inventory import Inventory
from agents.core.model.topology import Site, WorkerKind, WorkerSpec
from agents.geo.apple.budget import CallBudget, CallPriority
from agents.local.demo.maps.apple_maps import KEY_FILE, AppleMaps
from agents.local.demo.maps.http_stand_in import HttpFault
from agents.settings import Settings
from tests.admin.doctor.support import findings, named
from tests.geo.contract import NOW, open_for, settings_for, started
from tests.geo.stand_ins.valhalla import Valhalla

GEO_WORKER, COORDINATOR = Whom("geo-1"), Whom("geolane")


async def examine(
    geo: settings.Geo, who: Whom = GEO_WORKER, now: float = NOW
) -> dict[str, Finding]:
    return await findings(MapsCheck(geo, who, lambda: now).list_checks())


async def test_without_a_server_there_is_nothing_to_look_at() -> None:
    assert await examine(settings.Geo()) == {}


async def test_all_of_apple_is_ok_with_one_call_and_nothing_is_written(tmp_path: Path) -> None:
    async with started("apple", tmp_path) as server:
        found = await examine(settings_for("apple", server))
        assert {key: f.level for key, f in found.items()} == dict.fromkeys(
            ("maps apple key", "maps apple budget", "maps apple", "maps apple clock"), Level.OK
        )
        assert "0 calls since midnight UTC, of 20,000" in found["maps apple budget"].found
        assert [r.path for r in server.requests] == ["/v1/token"]
        assert os.listdir(tmp_path) == [KEY_FILE]


async def test_a_key_of_another_team_is_named(tmp_path: Path) -> None:
    async with started("apple", tmp_path) as server:
        found = await examine(settings_for("apple", server, team_id="OTHERTEAM1"))
        named(found, "maps apple", "refuses the team's key", "team id, key id, key")
        assert "OTHERTEAM1" not in str(found)


async def test_a_key_that_others_can_read_is_named(tmp_path: Path) -> None:
    async with started("apple", tmp_path) as server:
        (tmp_path / KEY_FILE).chmod(0o644)
        found = await examine(settings_for("apple", server))
        named(found, "maps apple key", "others can read", "docs/maps.md")
        named(found, "maps apple", "`maps apple key` is at fault", level=Level.SKIPPED)
        assert not server.requests


async def test_only_geo_workers_need_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    async with started("apple", tmp_path) as server:
        geo = settings_for("apple", server, key_file="")
        named(await examine(geo), "maps apple key", "is missing")
        found = await examine(geo, COORDINATOR)
        named(found, "maps apple key", "only geo workers", level=Level.SKIPPED)
        (tmp_path / KEY_FILE).rename(tmp_path / "apple-maps-key")
        beside = with_passwords(Settings(geo=geo), GEO_WORKER, tmp_path).geo
        assert (await examine(beside))["maps apple"].level is Level.OK


async def test_a_clock_that_is_wrong_is_named_even_if_apple_refuses_us(tmp_path: Path) -> None:
    async with started("apple", tmp_path) as server:
        found = await examine(settings_for("apple", server), now=NOW + 90)
        named(found, "maps apple clock", "90.0 s ahead of Apple's", "time service")
        named(found, "maps apple", "this machine's clock")


async def test_a_budget_that_is_used_up_is_named_and_not_exceeded(tmp_path: Path) -> None:
    async with started("apple", tmp_path) as server:
        assert isinstance(server, AppleMaps)
        geo = settings_for("apple", server, daily_calls=1)
        assert (await examine(geo))["maps apple"].level is Level.OK
        await CallBudget(Path(geo.apple.budget_file), 1, lambda: NOW).count_call(
            CallPriority.PERSON
        )
        found = await examine(geo)
        named(found, "maps apple budget", "used up for now", level=Level.WARNING)
        named(found, "maps apple", "the budget allows no call now", level=Level.SKIPPED)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("sites", "daily_calls", "level"),
    [(1, 25_000, Level.OK), (2, 12_500, Level.OK), (2, 20_000, Level.WARNING)],
)
async def test_several_machines_of_one_team_are_added_up(
    sites: int, daily_calls: int, level: Level
) -> None:
    where = {f"s{i}": Site(f"s{i}", 50.0, 8.0, "eu") for i in range(sites)}
    workers = {
        f"geo-{i}": WorkerSpec(f"geo-{i}", WorkerKind.GEO, f"s{i % sites}", 1.0) for i in range(3)
    }
    geo = settings.Geo(geocoder="apple", apple=settings.Apple(daily_calls=daily_calls))
    check = MapsCheck(geo, COORDINATOR, lambda: NOW, Inventory(where, workers))
    found = (await findings(check.list_checks()))["maps apple team"]
    assert found.level is level
    if sites == 1:
        assert "on 3 machines it would be 75,000" in found.found
    if level is Level.WARNING:
        assert "40,000 calls in 24 hours, and Apple allows the team 25,000" in found.found
        assert "geo.apple.daily_calls to 12,500 or less" in found.todo


async def test_a_quota_that_apple_says_is_used_up_is_named(tmp_path: Path) -> None:
    async with started("apple", tmp_path) as server:
        assert isinstance(server, AppleMaps)
        assert server.access is not None
        server.access.daily_quota = 0
        geo = settings_for("apple", server)
        named(await examine(geo), "maps apple", "quota is used up")
        await CallBudget(Path(geo.apple.budget_file), 1, lambda: NOW).end_day()
        named(await examine(geo), "maps apple budget", "quota is used up", level=Level.WARNING)


async def test_a_damaged_budget_is_named(tmp_path: Path) -> None:
    async with started("apple", tmp_path) as server:
        geo = settings_for("apple", server)
        await asyncio.to_thread(Path(geo.apple.budget_file).write_text, "{")
        named(await examine(geo), "maps apple budget", geo.apple.budget_file, "remove it")


async def test_apple_away_is_named(tmp_path: Path) -> None:
    async with started("apple", tmp_path) as server:
        server.always = HttpFault(status=500)
        named(await examine(settings_for("apple", server)), "maps apple", "status 500")


@pytest.mark.parametrize("provider", ["photon", "nominatim"])
async def test_a_server_of_ones_own_answers_or_not(provider: str, tmp_path: Path) -> None:
    async with started(provider, tmp_path) as server:
        geo = settings_for(provider, server)
        assert (await examine(geo))[f"maps {provider}"].level is Level.OK
        server.fail(HttpFault(status=404))
        named(await examine(geo), f"maps {provider}", "refuses /status", f"geo.{provider}.url")
    named(
        await examine(geo), f"maps {provider}", "gives no answer", f"see that {server.url} answers"
    )
    public = msgspec.structs.replace(
        geo, **{provider: settings.Photon(url="https://photon.komoot.io")}
    )
    named(await examine(public), f"maps {provider}", "forbid bulk use")


@pytest.mark.parametrize(
    ("live", "level", "says"),
    [
        (True, Level.OK, "with live traffic"),
        (False, Level.WARNING, "without live traffic"),
        (None, Level.WARNING, "allow_verbose"),
    ],
)
async def test_valhalla_says_whether_it_has_live_traffic(
    live: bool | None, level: Level, says: str, tmp_path: Path
) -> None:
    async with started("valhalla", tmp_path) as server:
        assert isinstance(server, Valhalla)
        server.has_live_traffic = live
        geo = msgspec.structs.replace(settings_for("valhalla", server), geocoder="offline")
        named(await examine(geo), "maps valhalla", says, level=level)


async def test_looking_leaves_the_budget_of_the_worker_as_it_is(tmp_path: Path) -> None:
    async with started("apple", tmp_path) as server:
        geo = settings_for("apple", server)
        providers = await open_for(geo)
        await providers.events.find("Paris")
        await examine(geo)
        await providers.events.find("Rome")
        figures = await providers.figures()
        await providers.close()
        assert figures.budget is not None
        assert figures.budget.calls == 3  # a token, two places
