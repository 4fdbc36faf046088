"""The provider that needs nobody else: GeoNames and airports, as packages. Its precision is
"city"."""

from __future__ import annotations

from agents.core.model.places import Place
from agents.geodata.gazetteer.index import ATTRIBUTION, PROVIDER, PlaceIndex
from agents.geodata.gazetteer.load import load_place_index


class OfflineGeocoder:
    """A Geocoder whose answers are at hand at once, and do not expire."""

    name = PROVIDER
    attribution = ATTRIBUTION

    def __init__(self, index: PlaceIndex) -> None:
        self._index = index

    @classmethod
    def load(cls) -> OfflineGeocoder:
        """Blocks, as `load_place_index` does. Raises GeoError."""
        return cls(load_place_index())

    async def find(self, text: str, country: str = "") -> Place:
        return self._index.find(text, country)

    async def name_at(self, lat: float, lon: float) -> Place:
        return self._index.name_at(lat, lon)

    async def close(self) -> None:
        return None
