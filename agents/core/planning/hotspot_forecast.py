"""What open hotspots do to the forecast of their lanes, so that the planner acts before lag grows.

That a lane's arrivals grow may be chance; a hotspot says that they do not. So the growth of its
lanes is taken to go on for a while. Only what arrives counts, on our clock: the hotspot's rates are
those of its place, which may be a small part of a lane, and in event time, which may run faster
than the clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from agents.core.model.hotspots import LEAST_USUAL_EPS
from agents.core.model.plan import Lane, Node
from kernels.tables import Floats

AHEAD_S = 20.0
"""Growth is taken to go on for this long: arrival rates are known about 5 s late, and lanes that
make room leave a node one after the other."""
GROWTH_S = 5.0  # over which growth is measured
FILL_SHARE = 0.9
"""With what hotspots add, lanes fill at most this share of what the nodes may be given: no lane has
to wait for a load that is only expected."""


@dataclass(frozen=True, slots=True)
class HotLanes:
    """The lanes of one hotspot. `place`: its name. `until_s`: after this it counts no more
    (monotonic)."""

    place: str
    lanes: tuple[int, ...]
    until_s: float


@dataclass(frozen=True, slots=True)
class Raised:
    """A lane's forecast was raised to `times` what it was, since the hotspot at `place` is in
    it."""

    times: float
    place: str


@dataclass(slots=True)
class HotspotForecast:
    """`open`: the hotspots that raise a forecast now, by id."""

    open: dict[str, HotLanes] = field(default_factory=dict)
    _seen: deque[tuple[float, Floats]] = field(default_factory=deque)

    def set(self, id_: str, hot: HotLanes) -> None:
        """Take a new hotspot, or new figures of one."""
        self.open[id_] = hot

    def forget(self, ids: Iterable[str]) -> None:
        for id_ in ids:
            self.open.pop(id_, None)

    def observe_rates(self, now: float, rate_eps: Floats) -> None:
        """Take the arrival rates of all lanes, float64[L]; NaN means unknown. `now`: monotonic."""
        self._seen.append((now, rate_eps))
        while len(self._seen) > 2 and now - self._seen[1][0] >= GROWTH_S:
            self._seen.popleft()

    def _growth_eps_s(self) -> Floats:
        """By how many events/s each lane's arrival rate grows in a second, float64[L]; 0 if it has
        grown by less than its root, as smoothed rates often do by chance."""
        if not self._seen:
            return np.zeros(0)
        (then_s, before), (now_s, rate) = self._seen[0], self._seen[-1]
        if not GROWTH_S / 2 <= now_s - then_s <= 3 * GROWTH_S:  # just begun, or after a gap
            return np.zeros(len(rate))
        grown = rate - before
        out: Floats = np.where(grown > np.sqrt(rate), grown, 0.0) / (now_s - then_s)
        return out

    def raise_lanes(
        self,
        lanes: Sequence[Lane],
        nodes: Sequence[Node],
        now: float,
        ahead_s: float,
        target_utilisation: float,
    ) -> tuple[tuple[Lane, ...], dict[int, Raised]]:
        """The lanes with raised forecasts, and which ones were raised. `ahead_s`: how far the
        forecast looks ahead. A lane whose rate is not known stays as it is."""
        self.forget([i for i, hot in self.open.items() if now >= hot.until_s])
        if not self.open:
            return tuple(lanes), {}
        places = {n: hot.place for hot in reversed(self.open.values()) for n in hot.lanes}
        growth = self._growth_eps_s()
        load = {lane.id: max(lane.rate_eps or 0.0, lane.forecast_eps or 0.0) for lane in lanes}
        takers = [n.capacity_eps for n in nodes if n.takes and not n.empty]
        most = target_utilisation * max(takers, default=0.0)  # more would fit on no node
        more = {
            lane.id: min(lane.rate_eps + growth[lane.id] * min(AHEAD_S, ahead_s), most)
            - load[lane.id]
            for lane in lanes
            if lane.id in places and lane.rate_eps is not None and lane.id < len(growth)
            if growth[lane.id] > 0
        }
        more = {n: float(eps) for n, eps in more.items() if eps > 0}
        room = FILL_SHARE * target_utilisation * sum(takers) - sum(load.values())
        share = min(1.0, max(0.0, room) / sum(more.values())) if more else 0.0
        raised = {n: load[n] + share * eps for n, eps in more.items() if share * eps > 0}
        out = tuple(
            replace(lane, forecast_eps=raised[lane.id]) if lane.id in raised else lane
            for lane in lanes
        )
        usual = {x.id: x.rate_eps if x.forecast_eps is None else x.forecast_eps for x in lanes}
        return out, {
            n: Raised(eps / max(usual[n] or 0.0, LEAST_USUAL_EPS), places[n])
            for n, eps in raised.items()
        }
