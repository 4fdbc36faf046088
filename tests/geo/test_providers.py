"""The settings choose the providers, and say what is missing or not allowed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from agents import settings
from agents.base import log
from agents.base.errors import ProviderUnavailable, SettingsError
from agents.geo import providers
from agents.geo.apple.maps import INVENTED_ATTRIBUTION, provider_name
from agents.geo.offline import OfflineGeocoder
from agents.geo.photon import PhotonGeocoder
from agents.geo.providers import PUBLIC_HOSTS, open_providers
from agents.local.demo.maps.apple_maps import AppleMaps
from tests.geo.contract import NOW, open_for, settings_for, started


def test_the_default_asks_nobody() -> None:
    opened = open_providers(settings.Geo())
    assert isinstance(opened.events, OfflineGeocoder)
    assert opened.people is opened.names is opened.events
    assert (opened.travel_times, opened.servers, opened.budget) == (None, (), None)


@pytest.mark.parametrize("name", ["photon", "nominatim"])
def test_a_server_needs_its_url(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"geo\.{name}\.url: is missing"):
        open_providers(settings.Geo(geocoder=name))


def test_a_valhalla_needs_its_url() -> None:
    with pytest.raises(SettingsError, match=r"geo\.valhalla\.url: is missing"):
        open_providers(settings.Geo(travel_times="valhalla"))


@pytest.mark.parametrize("host", sorted(PUBLIC_HOSTS))
@pytest.mark.parametrize("form", ["https://{}", "https://{}/", "http://{}:80/x", "https://{}."])
def test_public_servers_are_refused(host: str, form: str) -> None:
    photon = settings.Photon(url=form.format(host.upper()))
    with pytest.raises(SettingsError, match="forbid bulk use"):
        open_providers(settings.Geo(geocoder="photon", photon=photon))


def test_a_public_server_that_is_allowed_gets_one_request_a_second() -> None:
    nominatim = settings.Nominatim(url="https://nominatim.openstreetmap.org")
    geo = settings.Geo(geocoder="nominatim", nominatim=nominatim, public_servers=True)
    [server] = open_providers(geo).servers
    assert server.limit is not None
    assert (server.limit.burst, server.limit.per_s) == (1, 1)


def test_only_apples_own_server_is_called_apple() -> None:
    assert provider_name("https://maps-api.apple.com/") == ("apple", "Apple Maps")
    for url in ("http://127.0.0.1:1", "https://maps-api.apple.com.example.org", "https://x"):
        assert provider_name(url) == ("invented", INVENTED_ATTRIBUTION)


async def test_apples_terms_are_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A logger keeps the way to log that there was when it was used first, by another test.
    monkeypatch.setattr(providers, "_log", log.get_logger("maps"))
    async with AppleMaps.started(tmp_path) as server:
        geo = settings_for("apple", server)
        real = msgspec.structs.replace(geo.apple, url="https://maps-api.apple.com")
        with capture_logs() as logs:
            for apple in (geo.apple, real):
                await asyncio.to_thread(open_providers, msgspec.structs.replace(geo, apple=apple))
    assert [entry["event"] for entry in logs] == ["apple_maps_invented", "apple_maps_terms"]
    assert "temporary storage only" in logs[1]["text"]


async def test_apple_is_one_server_with_one_budget_and_three_priorities(tmp_path: Path) -> None:
    async with started("apple", tmp_path) as server:
        opened = await open_for(settings_for("apple", server, daily_calls=80))
        assert opened.travel_times is not None
        for i in range(3):  # 4 of 10 calls, one of them for the token
            await opened.names.name_at(40 + i / 1000, -74)
        with pytest.raises(ProviderUnavailable, match="kept for more urgent calls"):
            await opened.names.name_at(41, -74)
        await opened.events.find("Paris")
        await opened.travel_times.measure((50, 8), [(50.1, 8.1)])
        figures = await opened.figures()
        assert (figures.calls, figures.failed, figures.refused) == (6, 0, 1)
        assert figures.budget is not None
        assert (figures.budget.calls_left, figures.budget.calls, figures.daily_calls) == (4, 6, 80)
        await opened.close()
        await opened.close()


async def test_a_restart_keeps_the_budget_and_a_429_stops_it(tmp_path: Path) -> None:
    async with started("apple", tmp_path) as server:
        assert isinstance(server, AppleMaps)
        assert server.access is not None
        server.access.daily_quota = 4  # a token and a place, twice
        for place in ("Paris", "Rome", "Berlin"):
            opened = await open_for(settings_for("apple", server))
            if place == "Berlin":
                with pytest.raises(ProviderUnavailable, match="quota is used up"):
                    await opened.events.find(place)
            else:
                await opened.events.find(place)
            await opened.close()
        sent = len(server.requests)
        opened = await open_for(settings_for("apple", server))
        with pytest.raises(ProviderUnavailable, match="quota is used up") as refused:
            await opened.people.find("Madrid")
        assert (len(server.requests), server.now()) == (sent, NOW)  # nothing more was sent
        assert refused.value.retry_s > 3600
        await opened.close()


@pytest.mark.parametrize(("ahead_s", "side"), [(3600, "ahead of"), (-3600, "behind")])
async def test_a_clock_that_is_an_hour_off_is_named(
    tmp_path: Path, ahead_s: float, side: str
) -> None:
    async with started("apple", tmp_path) as server:
        server.now = lambda: NOW - ahead_s
        opened = await open_for(settings_for("apple", server))
        with pytest.raises(ProviderUnavailable, match=f"clock is 60 min {side} Apple's") as refused:
            await opened.people.find("Paris")
        assert refused.value.retry_s == 300.0
        await opened.close()


async def test_names_are_those_of_cities(tmp_path: Path) -> None:
    async with started("apple", tmp_path) as server:
        opened = await open_for(settings_for("apple", server))
        at = (40.7, -74.0)
        assert "Invented Street" in (await opened.people.name_at(*at)).name
        assert "Street" not in (await opened.names.name_at(*at)).name
        await opened.close()


def test_photon_is_cached() -> None:
    photon = settings.Photon(url="http://127.0.0.1:1")
    opened = open_providers(settings.Geo(geocoder="photon", photon=photon))
    assert not isinstance(opened.events, PhotonGeocoder)
    assert opened.events.name == "photon"
