"""Travel times by a Valhalla of one's own. A time is from live traffic if the server has some, and
if it has counted with the time of day: then the answer has a time of arrival. Else it is the road's
usual time: no time on empty roads is told beside it, and no index follows.

https://valhalla.github.io/valhalla/api/matrix/api-reference/
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from agents.base import log
from agents.base.errors import ProviderUnavailable
from agents.base.supervisor import first_leaf_error
from agents.core.model.places import TravelTime
from agents.geo.online import Online, Refusal
from agents.geo.provider import check_point

MAX_DESTINATIONS = 50
LIVE_KEPT_S = 300.0
"""How often it is asked whether it has live traffic."""
REFUSED_S = 60.0
ATTRIBUTION = "© OpenStreetMap contributors, Valhalla"

Point = tuple[float, float]
_log = log.get_logger("maps")
_NOW = {"date_time": {"type": 0}}
_EMPTY_ROADS = _NOW | {"costing_options": {"auto": {"speed_types": ["freeflow"]}}}


class _Cell(msgspec.Struct):
    """`time` in s, `distance` in km; null where no road leads there. `date_time`: of the arrival,
    if the server has counted with the time of day."""

    to_index: int
    time: float | None = None
    distance: float | None = None
    date_time: str | None = None


class _Matrix(msgspec.Struct):
    sources_to_targets: list[list[_Cell]]


class ValhallaStatus(msgspec.Struct):
    """The rest is told where service_limits.status.allow_verbose is true."""

    version: str
    has_live_traffic: bool | None = None
    has_timezones: bool | None = None


@dataclass(slots=True)
class ValhallaTravelTimes:
    """By car."""

    online: Online
    name: str = "valhalla"
    attribution: str = ATTRIBUTION
    _is_live: bool = False
    _asked_at: float = -math.inf
    _warned: bool = False

    async def measure(
        self, origin: Point, destinations: Sequence[Point]
    ) -> list[TravelTime | None]:
        for point in (origin, *destinations):
            check_point(*point)
        live = await self.has_live_traffic()
        times: list[TravelTime | None] = []
        for begin in range(0, len(destinations), MAX_DESTINATIONS):
            some = destinations[begin : begin + MAX_DESTINATIONS]
            now = await self._ask_matrix(origin, some, _NOW)
            timed = live and self._knows_time_of_day(now)
            empty = await self._ask_matrix(origin, some, _EMPTY_ROADS) if timed else {}
            times += [_to_travel_time(now.get(i), empty.get(i), timed) for i in range(len(some))]
        return times

    async def close(self) -> None:
        """Each request has a connection of its own."""

    async def has_live_traffic(self) -> bool:
        """False if it does not tell. Raises ProviderUnavailable."""
        if self.online.clock() - self._asked_at >= LIVE_KEPT_S:
            self._is_live = (await self.status()).has_live_traffic or False
            self._asked_at = self.online.clock()
        return self._is_live

    async def status(self) -> ValhallaStatus:
        """Raises ProviderUnavailable."""
        got = await self.online.request(
            "/status", ValhallaStatus, params={"json": '{"verbose":true}'}
        )
        if isinstance(got, Refusal):
            raise self._refused(got)
        return got

    def _knows_time_of_day(self, cells: Mapping[int, _Cell]) -> bool:
        """Whether its times are those of now; a server that forbids it by its configuration, or
        has no time zones, gives the usual times instead."""
        knows = any(cell.date_time for cell in cells.values())
        if cells and not knows and not self._warned:
            self._warned = True
            _log.warning(
                "valhalla_without_time_of_day",
                text="live traffic is not used: set service_limits.max_timedep_distance_matrix in "
                "its configuration, and build its tiles with time zones",
            )
        return knows

    async def _ask_matrix(
        self,
        origin: Point,
        destinations: Sequence[Point],
        options: dict[str, Any],  # Any: JSON
    ) -> dict[int, _Cell]:
        """By the destination's index."""
        question = {
            "sources": [_to_location(origin)],
            "targets": [_to_location(point) for point in destinations],
            "costing": "auto",
            "units": "km",
            "verbose": True,
            **options,
        }
        got = await self.online.request("/sources_to_targets", _Matrix, json=question)
        if isinstance(got, Refusal):
            if got.status != 400:
                raise self._refused(got)
            # One of them is near no road, or too far away, and spoils the answer for all.
            return await self._ask_one_by_one(origin, destinations, options)
        return {cell.to_index: cell for row in got.sources_to_targets[:1] for cell in row}

    async def _ask_one_by_one(
        self,
        origin: Point,
        destinations: Sequence[Point],
        options: dict[str, Any],  # Any: JSON
    ) -> dict[int, _Cell]:
        if len(destinations) == 1:
            return {}
        try:
            async with asyncio.TaskGroup() as tasks:
                asked = [
                    tasks.create_task(self._ask_matrix(origin, [there], options))
                    for there in destinations
                ]
        except BaseExceptionGroup as group:
            raise first_leaf_error(group) from None
        return {i: task.result()[0] for i, task in enumerate(asked) if 0 in task.result()}

    def _refused(self, refusal: Refusal) -> ProviderUnavailable:
        return self.online.refuse_for(REFUSED_S, f"refuses us ({refusal.in_words})")


def _to_location(point: Point) -> dict[str, float]:
    return {"lat": round(point[0], 6), "lon": round(point[1], 6)}


def _to_travel_time(now: _Cell | None, empty: _Cell | None, timed: bool) -> TravelTime | None:
    """None where no road leads."""
    expected_s = _positive(now.time) if now else None
    if now is None or expected_s is None:
        return None
    km = now.distance
    distance_m = km * 1000 if km is not None and 0 <= km < math.inf else None
    live = timed and bool(now.date_time)
    static_s = _positive(empty.time) if empty and live else None
    return TravelTime(expected_s, static_s, distance_m, live)


def _positive(value: float | None) -> float | None:
    return value if value is not None and 0 < value < math.inf else None
