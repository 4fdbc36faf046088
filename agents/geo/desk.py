"""Answers the leader's questions about traffic and places. Each figure goes with its provider, its
attribution and how long it holds, to the leader and to the topic geo.context; an invented one says
so in its provider."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import TypeVar

from agents.base import log
from agents.base.errors import CommandRefused, GeoError, ProviderUnavailable
from agents.base.text import to_one_line
from agents.core.geo.context import ContextKind, GeoContext
from agents.core.model.geo import (
    NAME_LIMIT,
    NO_PROVIDER,
    NO_ROUTE,
    NO_STATIC,
    REASON_LIMIT,
    VALID_S,
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
    lane_key,
    traffic_index,
)
from agents.core.model.places import Place
from agents.geo.lookups import describe_fault
from agents.geo.providers import TRAFFIC_KEPT_S, Providers

ANSWER_S = 15.0
"""The leader waits a little longer. What is not known by then is left out of the answer."""
AT_ONCE = 4
_log = log.get_logger("geo")
_LANE = lane_key(0).removesuffix("0")
NOT_ASKED_S = 600.0
"""How long a reason that a repeated question does not mend is to hold."""
Asked = TypeVar("Asked")
Row = TypeVar("Row")


class GeoDesk:
    """`tell`: takes the records of geo.context. `now`: epoch seconds."""

    def __init__(
        self,
        providers: Providers,
        tell: Callable[[Iterable[GeoContext]], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._providers, self._tell, self._now = providers, tell, now

    async def answer(self, command: GeoCommand) -> GeoAnswer:
        """The answer, within about ANSWER_S. Raises CommandRefused if a bug of ours prevents it:
        the worker goes on."""
        try:
            return await self._answer(command)
        except Exception as e:  # noqa: BLE001 - the boundary: it is logged and reported
            where = describe_fault(e)
            _log.error("question_failed", command=type(command).__name__, error=where)
            raise CommandRefused("internal-server-error", where) from None

    async def _answer(self, command: GeoCommand) -> GeoAnswer:
        match command:
            case TrafficCommand():
                return await self._answer_traffic(command.lanes)
            case NamesCommand():
                return NamesAnswer(tuple(await _ask_in_turn(command.places, self._name_place)))
            case PlaceCommand():
                return await self._answer_place(command)

    def _second(self) -> float:
        """Now, in whole seconds: with them, sums and differences of times are exact."""
        return float(int(self._now()))

    # Traffic

    async def _answer_traffic(self, lanes: Sequence[LaneRoutes]) -> TrafficAnswer:
        rows = await _ask_in_turn(lanes, self._measure_lane)
        try:
            figures = await self._providers.figures()
        except ProviderUnavailable:  # the count cannot be read: each row has the reason
            return TrafficAnswer(tuple(rows))
        calls = figures.budget.calls if figures.budget else figures.calls
        return TrafficAnswer(tuple(rows), ProviderCalls(calls, figures.daily_calls))

    async def _measure_lane(self, lane: LaneRoutes) -> LaneTraffic:
        provider = self._providers.travel_times
        if provider is None:
            source = Source(NO_PROVIDER, valid_s=NOT_ASKED_S)
            why = "the settings choose no provider of travel times (geo.travel_times)"
            return LaneTraffic(lane.lane, None, source, why)
        try:
            times = await provider.measure(lane.origin, lane.destinations)
        except GeoError as e:
            source = Source(provider.name, provider.attribution, valid_s=_retry_s(e))
            return LaneTraffic(lane.lane, None, source, _as_reason(e))
        at = self._second()
        source = Source(provider.name, provider.attribution, valid_s=TRAFFIC_KEPT_S)
        if (index := traffic_index(times)) is None:
            why = NO_STATIC if any(times) else NO_ROUTE
            return LaneTraffic(lane.lane, None, source, why)
        self._tell([_make_context(source, at, lane_key(lane.lane), index=index)])
        return LaneTraffic(
            lane.lane, index, source, live=any(t.live for t in times if t is not None)
        )

    # Names and places

    async def _name_place(self, wanted: Unnamed) -> Named:
        geocoder = self._providers.names
        try:
            place = await geocoder.name_at(*wanted.at)
        except GeoError as e:
            source = Source(geocoder.name, geocoder.attribution, valid_s=_retry_s(e))
            return Named(wanted.key, "", source, _as_reason(e))
        at, name = self._second(), ", ".join(filter(None, (place.name, place.country)))
        name = to_one_line(name, NAME_LIMIT)
        source = Source(place.provider, geocoder.attribution, valid_s=_valid_s(place, at))
        self._tell([_make_context(source, at, wanted.key, name=name)])
        return Named(wanted.key, name, source)

    async def _answer_place(self, command: PlaceCommand) -> PlaceAnswer:
        geocoder = self._providers.people
        try:
            async with asyncio.timeout(ANSWER_S):
                if command.at is not None:
                    return PlaceAnswer(await geocoder.name_at(*command.at), geocoder.attribution)
                return PlaceAnswer(await geocoder.find(command.text), geocoder.attribution)
        except GeoError as e:
            return PlaceAnswer(None, geocoder.attribution, _as_reason(e))
        except TimeoutError:
            why = f"{geocoder.name} has not answered for {ANSWER_S:g} s"
            return PlaceAnswer(None, geocoder.attribution, why)


async def _ask_in_turn(some: Sequence[Asked], ask: Callable[[Asked], Awaitable[Row]]) -> list[Row]:
    """The rows that are known after ANSWER_S, in order; the first are asked first. The first one is
    asked alone: a server that was away gets one request, as a trial, and all others would be
    refused meanwhile."""
    rows: dict[int, Row] = {}
    left = iter(enumerate(some))

    async def take(ones: Iterable[tuple[int, Asked]]) -> None:
        for i, one in ones:
            rows[i] = await ask(one)

    try:
        async with asyncio.timeout(ANSWER_S), asyncio.TaskGroup() as tasks:
            await take(islice(left, 1))
            for _ in range(AT_ONCE):
                tasks.create_task(take(left))
    except TimeoutError:
        pass
    return [row for _, row in sorted(rows.items())]


def _make_context(
    source: Source, at: float, key: str, *, index: float | None = None, name: str = ""
) -> GeoContext:
    """`key`: of a lane, or a cell."""
    lane = key.removeprefix(_LANE)
    return GeoContext(
        kind=ContextKind.NAME if index is None else ContextKind.TRAFFIC,
        provider=source.provider,
        fetched_at=at,
        expires_at=at + source.valid_s,
        attribution=source.attribution,
        lane=int(lane) if lane != key and lane.isdecimal() else None,
        cell=key if lane == key else "",
        index=index,
        name=name,
    )


def _retry_s(error: GeoError) -> float:
    retry_s = error.retry_s if isinstance(error, ProviderUnavailable) else NOT_ASKED_S
    return min(max(retry_s, VALID_S[0]), VALID_S[1])


def _valid_s(place: Place, now: float) -> float:
    return min(max(place.expires_at - now, 0.0), VALID_S[1]) if place.expires_at else VALID_S[1]


def _as_reason(error: GeoError) -> str:
    return to_one_line(str(error), REASON_LIMIT)
