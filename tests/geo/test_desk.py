"""The geo worker's answers to the leader: each figure with its source, and the same to
geo.context."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytest

from agents.base.errors import CommandRefused, PlaceUnknown, ProviderUnavailable
from agents.core.geo.context import ContextKind, GeoContext, decode_record
from agents.core.model.geo import (
    VALID_S,
    GeoCommand,
    LaneRoutes,
    LaneTraffic,
    Named,
    NamesAnswer,
    NamesCommand,
    PlaceAnswer,
    PlaceCommand,
    ProviderCalls,
    Source,
    TrafficAnswer,
    TrafficCommand,
    Unnamed,
)
from agents.core.model.places import Place, TravelTime
from agents.geo import desk as desk_module
from agents.geo.desk import NOT_ASKED_S, GeoDesk
from agents.geo.providers import TRAFFIC_KEPT_S, Providers
from plugins import geo as plugin
from tests.geo.support import CHICAGO, PARIS, TableGeocoder

NOW, CELL = 1_000_000.0, "842664dffffffff"
HOME, AWAY = (41.85, -87.65), (42.0, -88.0)


@dataclass
class Roads:
    """Travel times by the origin's latitude: a list, an error, or a wait without an end."""

    times: dict[float, list[TravelTime | None] | Exception | None]
    name: str = "roads"
    attribution: str = "(c) roads"

    async def measure(
        self, origin: tuple[float, float], destinations: Sequence[tuple[float, float]]
    ) -> list[TravelTime | None]:
        found = self.times[origin[0]]
        if isinstance(found, Exception):
            raise found
        if found is None:
            await asyncio.sleep(60)
            return []
        return found

    async def close(self) -> None:
        return None


class NamingGeocoder(TableGeocoder):
    async def name_at(self, lat: float, lon: float) -> Place:
        if lat > 80:
            raise PlaceUnknown("the Arctic Ocean")
        return CHICAGO


def desk(
    roads: Roads | None = None, geocoder: TableGeocoder | None = None
) -> tuple[GeoDesk, list[GeoContext]]:
    told: list[GeoContext] = []

    def tell(records: Iterable[GeoContext]) -> None:
        told.extend(records)

    geocoder = geocoder or NamingGeocoder()
    return GeoDesk(
        Providers(geocoder, geocoder, geocoder, roads), tell, lambda: NOW + 0.123456
    ), told


def traffic(*latitudes: float) -> TrafficCommand:
    return TrafficCommand(
        1, "B", tuple(LaneRoutes(n, (lat, 0.0), (AWAY,)) for n, lat in enumerate(latitudes))
    )


def minute(expected: float, static: float | None = 60.0, *, live: bool = True) -> TravelTime:
    return TravelTime(expected, static, 1000.0, live)


async def test_an_index_with_its_source_and_a_record() -> None:
    d, told = desk(Roads({1.0: [minute(90), None, minute(90, live=False)]}))
    answer = await d.answer(traffic(1.0))
    source = Source("roads", "(c) roads", valid_s=TRAFFIC_KEPT_S)
    assert answer == TrafficAnswer((LaneTraffic(0, 1.5, source, live=True),), ProviderCalls(0, 0))
    [record] = told
    assert decode_record(record.key.encode(), record.encode()) == record
    assert (record.kind, record.lane, record.index) == (ContextKind.TRAFFIC, 0, 1.5)
    assert (record.fetched_at, record.expires_at) == (NOW, NOW + TRAFFIC_KEPT_S)


async def test_what_is_not_known_has_a_reason_and_no_index() -> None:
    times: dict[float, list[TravelTime | None] | Exception | None] = {
        1.0: [None, None],
        2.0: [minute(50, None)],
        3.0: ProviderUnavailable("used up", 77.0),
        4.0: PlaceUnknown("not on Earth"),
    }
    d, told = desk(Roads(times))
    answer = await d.answer(traffic(*times))
    assert isinstance(answer, TrafficAnswer)
    assert [(x.index, x.reason, x.source.valid_s) for x in answer.lanes] == [
        (None, "no route", TRAFFIC_KEPT_S),
        (None, "the provider tells no times without traffic", TRAFFIC_KEPT_S),
        (None, "used up", 77.0),
        (None, "not on Earth", NOT_ASKED_S),
    ]
    assert not told
    d, told = desk(None)
    answer = await d.answer(traffic(1.0))
    assert isinstance(answer, TrafficAnswer)
    assert answer.lanes[0].reason.endswith("(geo.travel_times)")


async def test_lanes_that_are_not_known_in_time_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(desk_module, "ANSWER_S", 0.3)
    d, told = desk(Roads({1.0: [minute(60)], 2.0: None, 3.0: [minute(120)]}))
    answer = await d.answer(traffic(1.0, 2.0, 3.0))
    assert isinstance(answer, TrafficAnswer)
    assert [(x.lane, x.index) for x in answer.lanes] == [(0, 1.0), (2, 2.0)]
    assert [x.lane for x in told] == [0, 2]


async def test_a_server_that_comes_back_is_asked_about_all_lanes_at_once() -> None:
    """While one request is on trial, its circuit refuses all others."""

    class Circuit(Roads):
        tried = done = False

        async def measure(
            self, origin: tuple[float, float], destinations: Sequence[tuple[float, float]]
        ) -> list[TravelTime | None]:
            if self.tried and not self.done:
                raise ProviderUnavailable("is being tried again", 1.0)
            self.tried = True
            await asyncio.sleep(0)
            self.done = True
            return [minute(90)]

    d, _ = desk(Circuit({}))
    answer = await d.answer(traffic(*range(10)))
    assert isinstance(answer, TrafficAnswer)
    assert [x.index for x in answer.lanes] == [1.5] * 10


async def test_names_of_lanes_and_cells() -> None:
    d, told = desk()
    places = (Unnamed("lane-12", HOME), Unnamed(CELL, HOME), Unnamed("lane-3", (85.0, 0.0)))
    answer = await d.answer(NamesCommand(1, "B", places))
    lasting = Source("table", valid_s=VALID_S[1])
    assert answer == NamesAnswer(
        (
            Named("lane-12", "Chicago, US", lasting),
            Named(CELL, "Chicago, US", lasting),
            Named("lane-3", "", Source("table", valid_s=NOT_ASKED_S), "the Arctic Ocean"),
        )
    )
    for record in told:
        assert decode_record(record.key.encode(), record.encode()) == record
    assert [record.key for record in told] == ["lane-12", CELL]


async def test_places_for_people() -> None:
    d, told = desk()
    ask = PlaceCommand(1, "B", "Paris")
    assert await d.answer(ask) == PlaceAnswer(PARIS)
    assert await d.answer(PlaceCommand(1, "B", "", HOME)) == PlaceAnswer(CHICAGO)
    nowhere = await d.answer(PlaceCommand(1, "B", "Atlantis"))
    assert nowhere == PlaceAnswer(None, reason="there is no such place")
    assert not told, "nobody else needs it"


async def test_a_bug_is_refused_and_the_worker_goes_on() -> None:
    d, _ = desk(Roads({1.0: KeyError("a secret"), 2.0: [minute(60)]}))
    with pytest.raises(
        CommandRefused, match=r"internal-server-error: KeyError at test_desk.py"
    ) as e:
        await d.answer(traffic(1.0))
    assert "secret" not in str(e.value)
    assert await d.answer(traffic(2.0))


@pytest.mark.parametrize(
    "command",
    [
        traffic(1.0, 2.0),
        NamesCommand(1, "B", (Unnamed("lane-1", HOME),)),
        PlaceCommand(1, "B", "Paris"),
    ],
)
async def test_each_answer_can_be_sent(command: GeoCommand) -> None:
    d, _ = desk(Roads({1.0: [minute(90)], 2.0: [None]}))
    node = plugin.command_to_xml(command).get("node") or ""
    assert plugin.answer_to_xml(node, await d.answer(command)) is not None
