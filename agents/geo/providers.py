"""Which providers of maps the settings choose."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from agents import settings
from agents.base import log
from agents.base.errors import GeoError, SettingsError
from agents.base.tls import verifying_context
from agents.base.token_bucket import TokenBucket
from agents.geo.apple.budget import CallBudget, CallPriority, CallsLeft
from agents.geo.apple.client import AppleClient
from agents.geo.apple.maps import NAME, AppleGeocoder, AppleTravelTimes, provider_name
from agents.geo.apple.tokens import read_key
from agents.geo.cache import CachedGeocoder
from agents.geo.offline import OfflineGeocoder
from agents.geo.online import Online
from agents.geo.photon import NominatimGeocoder, PhotonGeocoder
from agents.geo.provider import Geocoder, TravelTimes
from agents.geo.valhalla import ValhallaTravelTimes
from agents.settings.geo import OwnServer

TRAFFIC_KEPT_S = 300.0
"""How long a travel time counts as one of now."""
PUBLIC_HOSTS = frozenset(
    {"nominatim.openstreetmap.org", "photon.komoot.io", "valhalla1.openstreetmap.de"}
)
_RULES = "https://operations.osmfoundation.org/policies/nominatim/"

_log = log.get_logger("maps")


@dataclass(frozen=True, slots=True)
class ProviderFigures:
    """Of this process since it began: requests sent (`calls`), those without a usable answer
    (`failed`), and those that the budget did not allow (`refused`). `circuit_open`: a server is
    left alone after faults. `budget`: what is left of `daily_calls`; None without Apple."""

    calls: int
    failed: int
    refused: int
    circuit_open: bool
    budget: CallsLeft | None
    daily_calls: int


@dataclass(frozen=True, slots=True)
class Providers:
    """`events` finds the places of events.unplaced, `people` answers somebody who waits, `names`
    names lanes and hotspots: they are one provider with three priorities in its budget. The answers
    of `names` are always fresh, since the leader keeps them. `travel_times`: None if none are
    used."""

    events: Geocoder
    people: Geocoder
    names: Geocoder
    travel_times: TravelTimes | None
    servers: tuple[Online, ...] = ()
    budget: CallBudget | None = None

    async def close(self) -> None:
        for geocoder in {id(g): g for g in (self.events, self.people, self.names)}.values():
            await geocoder.close()
        if self.travel_times is not None:
            await self.travel_times.close()

    async def figures(self) -> ProviderFigures:
        """Raises ProviderUnavailable if the budget's file cannot be read."""
        return ProviderFigures(
            sum(server.counts.calls for server in self.servers),
            sum(server.counts.failed for server in self.servers),
            self.budget.refused if self.budget else 0,
            any(server.circuit.is_open for server in self.servers),
            await self.budget.left() if self.budget else None,
            self.budget.daily_calls if self.budget else 0,
        )


def open_providers(geo: settings.Geo, now: Callable[[], float] = time.time) -> Providers:
    """The providers that the settings choose; nothing is asked yet. `now`: epoch seconds.

    Blocks: files are read. Raises SettingsError."""
    apple = connect_apple(geo.apple, now) if "apple" in (geo.geocoder, geo.travel_times) else None
    if apple is not None:
        _log_terms(geo)
    servers = [apple.online] if apple else []
    travel_times: TravelTimes | None = None
    if geo.travel_times == "apple" and apple is not None:
        travel_times = AppleTravelTimes(apple)
    elif geo.travel_times == "valhalla":
        valhalla = connect_server(geo, "valhalla")
        servers.append(valhalla)
        travel_times = ValhallaTravelTimes(valhalla)
    budget = apple.budget if apple else None
    if geo.geocoder == "apple" and apple is not None:
        return Providers(
            CachedGeocoder(AppleGeocoder(apple, CallPriority.EVENT), now),
            CachedGeocoder(AppleGeocoder(apple, CallPriority.PERSON), now),
            AppleGeocoder(apple, CallPriority.NAME, cities_only=True),
            travel_times,
            tuple(servers),
            budget,
        )
    geocoder: Geocoder
    if geo.geocoder == "photon":
        servers.append(connect_server(geo, "photon"))
        geocoder = PhotonGeocoder(servers[-1], now)
    elif geo.geocoder == "nominatim":
        servers.append(connect_server(geo, "nominatim"))
        geocoder = NominatimGeocoder(servers[-1], now)
    else:
        geocoder = _open_offline()
        return Providers(geocoder, geocoder, geocoder, travel_times, tuple(servers), budget)
    cached = CachedGeocoder(geocoder, now)
    return Providers(cached, cached, geocoder, travel_times, tuple(servers), budget)


def _log_terms(geo: settings.Geo) -> None:
    """What choosing Apple means; or what a stand-in is."""
    name, attribution = provider_name(geo.apple.url)
    if name != NAME:
        _log.warning("apple_maps_invented", url=geo.apple.url, text=attribution)
        return
    text = "Apple allows temporary storage only, no derived database and no bulk feed"
    if geo.geocoder == "apple":
        text += ", and events keep the coordinates that it gives for as long as your topics do"
    _log.warning("apple_maps_terms", text=f"{text}: read docs/maps.md")


def connect_apple(apple: settings.Apple, now: Callable[[], float] = time.time) -> AppleClient:
    """Blocks. Raises SettingsError."""
    key = read_key(apple)
    budget = CallBudget(Path(apple.budget_file), apple.daily_calls, now)
    budget.check()
    is_apple = provider_name(apple.url)[0] == NAME
    name = "Apple Maps" if is_apple else "the stand-in of Apple Maps"
    tls = verifying_context("geo.apple.url", "")
    return AppleClient.connect(Online(name, apple.url, tls, wall_clock=now), budget, key)


def connect_server(geo: settings.Geo, name: str) -> Online:
    """A server of OpenStreetMap's family: `photon`, `nominatim` or `valhalla`. Blocks. Raises
    SettingsError, also for a public one that the settings do not allow."""
    server: OwnServer = getattr(geo, name)
    url = server.url
    if not url:
        raise SettingsError(f"geo.{name}.url: is missing; name the server: http://127.0.0.1:PORT")
    host = (urlsplit(url).hostname or "").rstrip(".")
    limit = None
    if host in PUBLIC_HOSTS:
        if not geo.public_servers:
            raise SettingsError(
                f"geo.{name}.url: {host} is a public server, whose rules forbid bulk use and more "
                f"than 1 request/s ({_RULES}). Run one of your own; for a few questions by hand, "
                "set geo.public_servers = true"
            )
        limit = TokenBucket(1, 1)
    https = url.startswith("https")
    tls = verifying_context(f"geo.{name}.ca_file", server.ca_file) if https else None
    return Online(name.capitalize(), url, tls, limit=limit)


def _open_offline() -> Geocoder:
    try:
        return OfflineGeocoder.load()
    except GeoError as e:
        raise SettingsError(f"geo.geocoder: {e}") from e
