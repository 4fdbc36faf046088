"""The coordinator finds a place in its own table: a place, or the reason why there is none."""

from __future__ import annotations

from agents.coordinator.queries import QueryPerformer, find_place_offline
from agents.core.effects import Errand
from agents.core.model.geo import PlaceAnswer
from agents.core.operators.places import OfflinePlaceQuery


async def ask(text: str, at: tuple[float, float] | None = None) -> PlaceAnswer:
    performer = QueryPerformer({OfflinePlaceQuery: find_place_offline})
    found = await performer.perform_query(Errand("r", OfflinePlaceQuery(text, at)))
    assert isinstance(found.result, PlaceAnswer), found.error
    return found.result


async def test_by_name_and_by_coordinates() -> None:
    by_name = await ask("Springfield, Illinois")
    by_coordinates = await ask("39.8,-89.6", (39.8, -89.6))
    assert by_name.place is not None
    assert by_coordinates.place is not None
    assert by_name.place.lat == by_coordinates.place.lat
    assert by_name.attribution == "GeoNames (CC BY 4.0)"


async def test_the_reason_why_there_is_none() -> None:
    assert (await ask("Nowhere at all")).reason == 'no place called "Nowhere at all" is known'
    assert "not a place on Earth" in (await ask("0,200", (0.0, 200.0))).reason
