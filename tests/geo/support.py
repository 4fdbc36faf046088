"""What the tests of the geo process share."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import orjson

from agents.base.errors import PlaceUnknown, ProviderUnavailable
from agents.core.model.places import Place, Precision

CHICAGO = Place("Chicago", 41.85, -87.65, "US", "Illinois", Precision.CITY, "table")
PARIS = Place(
    "Paris", 48.85341, 2.3488, "FR", "", Precision.CITY, "table", 14, "the largest of 15 places"
)
TABLE = {"Chicago": CHICAGO, "Paris": PARIS}


def unplaced(i: int, place: str = "Chicago", **more: object) -> bytes:
    """An event that names a place and has no coordinates."""
    return orjson.dumps({"id": f"p{i}", "ts": 978964500000, "origin": {"place": place}, **more})


@dataclass
class TableGeocoder:
    """A provider with a table of places. `away`: why it does not answer at all; `slow_s`: how long
    an answer takes. `asked`: how often, by text."""

    name: str = "table"
    attribution: str = ""
    places: dict[str, Place] = field(default_factory=lambda: dict(TABLE))
    away: str = ""
    slow_s: float = 0.0
    asked: Counter[str] = field(default_factory=Counter)

    async def find(self, text: str, country: str = "") -> Place:
        self.asked[text] += 1
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        if self.away:
            raise ProviderUnavailable(self.away, 1.0)
        if (found := self.places.get(text)) is None:
            raise PlaceUnknown("there is no such place")
        return found

    async def name_at(self, lat: float, lon: float) -> Place:
        raise PlaceUnknown("the sea")

    async def close(self) -> None:
        return None
