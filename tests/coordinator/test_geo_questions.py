"""A question to a geo worker has one outcome, whatever becomes of it, and ends no leader."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from agents.base.errors import CommandRefused, NoAnswer, NotConnected
from agents.coordinator.performer import Performer
from agents.core import effects as fx
from agents.core import events as ev
from agents.core.coordinator import AnyEvent
from agents.core.model.geo import GeoAnswer, GeoCommand, LaneRoutes, TrafficAnswer, TrafficCommand
from agents.core.model.placement import Leader

NOBODY = cast(Any, None)  # Any: what a performer has besides is not used here
QUESTION = TrafficCommand(1, "b", (LaneRoutes(0, (50.0, 8.0), ((50.1, 8.0),)),))
ANSWER = TrafficAnswer(())


class Link:
    """Gives one answer, or raises one error."""

    def __init__(self, outcome: GeoAnswer | Exception) -> None:
        self._outcome = outcome

    async def ask_geo(self, worker: str, command: GeoCommand, timeout_s: float) -> GeoAnswer:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


@pytest.mark.parametrize(
    ("outcome", "answer", "why"),
    [
        (ANSWER, ANSWER, ""),
        (NoAnswer("geo-1: no answer within 20 s"), None, "geo-1: no answer within 20 s"),
        (NotConnected("not leading"), None, "not leading"),
        (CommandRefused("item-not-found", "no such command"), None, "item-not-found"),
        (ValueError("at most 10 in one command, not 11"), None, "a bug of mine"),
    ],
    ids=["answered", "no answer", "not connected", "refused", "a bug"],
)
async def test_it_is_answered_or_it_is_said_why_not(
    outcome: GeoAnswer | Exception, answer: GeoAnswer | None, why: str
) -> None:
    told = asyncio.Queue[AnyEvent]()
    hands = Performer(
        cast(Any, Link(outcome)),
        *(NOBODY, NOBODY, {}, NOBODY),
        told.put_nowait,
        leader=Leader(1, "b"),
        planner=NOBODY,
    )
    hands.perform([fx.AskGeo("geo-1", QUESTION)], 0)
    async with asyncio.timeout(5):
        event = await told.get()
    assert isinstance(event, ev.GeoAnswered)
    assert (event.worker, event.command, event.answer) == ("geo-1", QUESTION, answer)
    assert event.why.startswith(why)
