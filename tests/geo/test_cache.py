"""Answers are kept while they may be, and one question is asked once at a time."""

from __future__ import annotations

import asyncio

import pytest

from agents.base.errors import PlaceUnknown, ProviderUnavailable
from agents.core.model.places import Place, Precision
from agents.geo import cache
from agents.geo.cache import UNKNOWN_S, CachedGeocoder

NOW = 1_795_000_000.0


class Provider:
    """A geocoder that counts its questions."""

    name, attribution = "counting", "nobody"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.now = NOW
        self.go = asyncio.Event()
        self.go.set()
        self.closed = False

    async def find(self, text: str, country: str = "") -> Place:
        self.asked.append(f"{text}|{country}")
        await self.go.wait()
        if text == "Atlantis":
            raise PlaceUnknown("sunk")
        if text == "Away":
            raise ProviderUnavailable("away", 1.0)
        return Place(text, 1, 2, country, "", Precision.CITY, self.name, expires_at=self.now + 600)

    async def name_at(self, lat: float, lon: float) -> Place:
        self.asked.append(f"{lat},{lon}")
        return Place("here", lat, lon, "", "", Precision.CITY, self.name)

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def cached(provider: Provider) -> CachedGeocoder:
    return CachedGeocoder(provider, lambda: provider.now)


async def test_a_thousand_events_with_one_place_cost_one_call(
    provider: Provider, cached: CachedGeocoder
) -> None:
    provider.go.clear()
    asking = [
        asyncio.create_task(cached.find(text)) for text in ["Paris", " paris ", "PARIS"] * 333
    ]
    await asyncio.sleep(0)
    asking[0].cancel()
    provider.go.set()
    got = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(got[0], asyncio.CancelledError)
    assert {place.name for place in got[1:] if isinstance(place, Place)} == {"Paris"}
    await cached.find("Paris")
    assert provider.asked == ["Paris|"]


async def test_a_country_makes_another_question(provider: Provider, cached: CachedGeocoder) -> None:
    await cached.find("Paris", "FR")
    await cached.find("Paris", "US")
    await cached.name_at(1, 2)
    await cached.name_at(1.000001, 2)
    assert provider.asked == ["Paris|FR", "Paris|US", "1,2"]


async def test_what_has_expired_is_asked_again(provider: Provider, cached: CachedGeocoder) -> None:
    await cached.find("Paris")
    provider.now += 599
    await cached.find("Paris")
    provider.now += 1
    await cached.find("Paris")
    assert provider.asked == ["Paris|"] * 2


async def test_that_there_is_none_is_kept_for_a_while(
    provider: Provider, cached: CachedGeocoder
) -> None:
    for wait_s in (0, UNKNOWN_S - 1, 1):
        provider.now += wait_s
        with pytest.raises(PlaceUnknown, match="sunk"):
            await cached.find("Atlantis")
    assert len(provider.asked) == 2


async def test_a_failure_is_not_kept(provider: Provider, cached: CachedGeocoder) -> None:
    for _ in range(2):
        with pytest.raises(ProviderUnavailable, match="away"):
            await cached.find("Away")
    assert len(provider.asked) == 2


async def test_it_has_a_bound(
    provider: Provider, cached: CachedGeocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "KEPT", 2)
    for text in ("One", "Two", "One", "Three", "One", "Two"):
        await cached.find(text)
    assert provider.asked == ["One|", "Two|", "Three|", "Two|"]


async def test_what_is_under_way_ends_with_it(provider: Provider, cached: CachedGeocoder) -> None:
    provider.go.clear()
    asking = asyncio.create_task(cached.find("Paris"))
    await asyncio.sleep(0)
    await cached.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert provider.closed
