"""A case of a provider's contract, as data: what the server does, what it is asked, what the client
sends, and what follows. One JSON file each, in cases/."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from agents import settings
from agents.geo import providers
from agents.geo.providers import Providers
from agents.local.demo.maps.apple_maps import AppleMaps
from agents.local.demo.maps.http_stand_in import HttpFault, HttpStandIn
from tests.geo.stand_ins.osm import Nominatim, Photon
from tests.geo.stand_ins.valhalla import Valhalla

NOW = 1_795_000_000.0
"""Of clients and servers, if a test does not choose another time."""
Pair = tuple[float, float]


class FaultOf(msgspec.Struct, forbid_unknown_fields=True):
    """As `HttpFault`; `json` or `text` is its body, `times` how often it comes; 0: always."""

    path: str = ""
    status: int | None = None
    wait_s: float = 0.0
    share: float = 1.0
    json: Any = msgspec.UNSET  # Any: JSON
    text: str | None = None
    times: int = 1

    def to_fault(self) -> HttpFault:
        body = None if self.text is None else self.text.encode()
        if self.json is not msgspec.UNSET:
            body = msgspec.json.encode(self.json)
        return HttpFault(self.path, self.status, self.wait_s, self.share, body)


class ServerOf(msgspec.Struct, forbid_unknown_fields=True):
    """`is_`: fields of the stand-in. `quota`: calls that Apple allows in a day."""

    is_: dict[str, Any] = msgspec.field(default_factory=dict, name="is")
    unreachable: list[Pair] = []
    quota: int | None = None
    faults: list[FaultOf] = []


class Measure(msgspec.Struct, forbid_unknown_fields=True):
    origin: Pair
    destinations: list[Pair]


class Ask(msgspec.Struct, forbid_unknown_fields=True):
    """One of them."""

    find: str | None = None
    country: str = ""
    name_at: Pair | None = None
    measure: Measure | None = None


class Gives(msgspec.Struct, forbid_unknown_fields=True):
    """One of them. `place`, `times`: fields that the answer has, and their values; `unknown`,
    `unavailable`: parts of the reason. `retry_s`: from, to."""

    place: dict[str, Any] | None = None
    times: list[dict[str, Any] | None] | None = None
    unknown: str | None = None
    unavailable: str | None = None
    retry_s: Pair = (0.0, 1e9)


class Case(msgspec.Struct, forbid_unknown_fields=True):
    """`sent`: the paths, or the paths with their parameters, in their order; None: not of interest.
    `timeout_s`, `daily_calls`: the client's."""

    about: str
    provider: Literal["apple", "photon", "nominatim", "valhalla"]
    ask: Ask
    gives: Gives
    server: ServerOf = msgspec.field(default_factory=ServerOf)
    sent: list[tuple[str, dict[str, str]] | str] | None = None
    timeout_s: float = 10.0
    daily_calls: int = 20_000


FOLDER = Path(__file__).with_name("cases")
STAND_INS: dict[str, Callable[..., HttpStandIn]] = {
    "photon": Photon,
    "nominatim": Nominatim,
    "valhalla": Valhalla,
}


def read_case(file: Path) -> Case:
    return msgspec.json.decode(file.read_bytes(), type=Case)


@asynccontextmanager
async def started(provider: str, folder: Path) -> AsyncIterator[HttpStandIn]:
    """The provider's stand-in, with the time NOW."""
    async with AsyncExitStack() as stack:
        server: HttpStandIn
        if provider == "apple":
            server = await stack.enter_async_context(AppleMaps.started(folder))
            server.now = lambda: NOW
        else:
            server = STAND_INS[provider](now=lambda: NOW)
            await asyncio.to_thread(server.atlas.read)  # type: ignore[attr-defined]
            await stack.enter_async_context(server)
        yield server


def settings_for(provider: str, server: HttpStandIn, **apple: Any) -> settings.Geo:
    """Any: keys of `geo.apple`."""
    if isinstance(server, AppleMaps):
        own = msgspec.structs.replace(server.settings, **apple)
        return settings.Geo(geocoder="apple", travel_times="apple", apple=own)
    if provider == "valhalla":
        nowhere = settings.Photon(url="http://127.0.0.1:1")  # the offline index takes seconds
        valhalla = settings.Valhalla(url=server.url)
        return settings.Geo("photon", "valhalla", photon=nowhere, valhalla=valhalla)
    return settings.Geo(
        geocoder=provider,
        photon=settings.Photon(url=server.url),
        nominatim=settings.Nominatim(url=server.url),
    )


async def open_for(geo: settings.Geo, timeout_s: float = 10.0) -> Providers:
    """The providers of these settings, at the time NOW, which hardly pause between two tries."""
    opened = await asyncio.to_thread(providers.open_providers, geo, lambda: NOW)
    for online in opened.servers:
        online.pause_s, online.timeout_s, online.dice = 0.01, timeout_s, random.Random(1).random
    return opened
