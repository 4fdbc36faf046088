"""The leader asks a geo worker over the real server; nobody else is answered."""

from __future__ import annotations

import pytest

from agents.base.errors import CommandRefused, NoAnswer
from agents.core.model.geo import (
    GeoAnswer,
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
from agents.core.model.places import Place, Precision
from tests.xmpp.conftest import Links

APPLE = Source("apple", "Apple Maps", 0.5, 299.5)
ASKED: list[tuple[GeoCommand, GeoAnswer]] = [
    (
        TrafficCommand(4, "boot1", (LaneRoutes(12, (50.11, 8.68), ((50.08, 8.24),)),)),
        TrafficAnswer((LaneTraffic(12, 1.4, APPLE, live=True),), ProviderCalls(12, 20_000)),
    ),
    (
        TrafficCommand(4, "boot1", (LaneRoutes(12, (50.11, 8.68), ((50.08, 8.24),)),)),
        TrafficAnswer((LaneTraffic(12, None, APPLE, "no route"),)),
    ),
    (
        NamesCommand(4, "boot1", (Unnamed("lane-12", (50.11, 8.68)),)),
        NamesAnswer((Named("lane-12", "Frankfurt am Main, DE", APPLE),)),
    ),
    (
        PlaceCommand(4, "boot1", "東京 <&> \u202e"),
        PlaceAnswer(None, "GeoNames", "there is no such place"),
    ),
    (
        PlaceCommand(4, "boot1", at=(35.69, 139.69)),
        PlaceAnswer(
            Place(
                "Tokyo", 35.69, 139.69, "JP", "Tōkyō", Precision.CITY, "offline", 3, "the largest"
            ),
            "GeoNames",
        ),
    ),
]


async def test_every_question_arrives_as_it_was_sent_and_its_answer_returns(links: Links) -> None:
    leader, worker = await links.coordinator(), await links.worker()
    heard: list[GeoCommand] = []

    async def answer(command: GeoCommand) -> GeoAnswer:
        heard.append(command)
        return ASKED[len(heard) - 1][1]

    worker.link._answer_geo = answer
    for command, wanted in ASKED:
        assert await leader.link.ask_geo(worker.account, command, 5.0) == wanted
    assert [type(x) for x in heard] == [type(command) for command, _ in ASKED]
    assert heard[0] == ASKED[0][0]


async def test_a_worker_of_another_kind_refuses(links: Links) -> None:
    leader, worker = await links.coordinator(), await links.worker()
    with pytest.raises(CommandRefused, match="answers no questions about places"):
        await leader.link.ask_geo(worker.account, ASKED[0][0], 5.0)
    assert worker.commands == []


async def test_a_worker_that_is_not_there_gives_no_answer(links: Links) -> None:
    leader = await links.coordinator()
    with pytest.raises(NoAnswer):
        await leader.link.ask_geo(await links.server.worker(), ASKED[0][0], 5.0)


async def test_an_answer_that_breaks_a_bound_is_none(links: Links) -> None:
    leader, worker = await links.coordinator(), await links.worker()

    async def lie(command: GeoCommand) -> GeoAnswer:
        return TrafficAnswer((LaneTraffic(12, 99.0, APPLE),))

    worker.link._answer_geo = lie
    with pytest.raises(NoAnswer, match="its answer cannot be read"):
        await leader.link.ask_geo(worker.account, ASKED[0][0], 5.0)
