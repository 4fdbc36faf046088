"""What open hotspots add to the forecast of their lanes, so that the planner acts before lag grows.

A hotspot gives two rates of its place in event time: now, and usually. Event time may run faster
than arrivals (a compressed replay), so that only ratios of its rates are used: the share of the
lane's usual arrival rate that belongs to the place, and how many times that the place has now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agents.core.model.hotspots import LEAST_USUAL_EPS
from agents.core.model.plan import Lane, Node

MOST_TIMES = 10.0
"""The most by which all hotspots together multiply a lane's usual rate."""
GROWTH = 2.0
"""Headroom: a burst that was noticed just now has often not reached its height, and what arrives
shows its present rate anyway."""
FILL_SHARE = 0.9
"""With what hotspots add, lanes fill at most this share of what the nodes may be given: no lane has
to wait for a load that is only expected."""


@dataclass(frozen=True, slots=True)
class HotRates:
    """What one hotspot says of its lanes. `place`: its name. `eps`, `usual_eps`: its rates, in
    events/s of event time. `clock`: how many seconds of event time pass in one second. `weights`:
    by lane, its part of the rates; they sum to at most 1. `fades_s`: when it begins to fade
    (monotonic; infinite while it lasts)."""

    place: str
    eps: float
    usual_eps: float
    clock: float
    weights: Mapping[int, float]
    fades_s: float = float("inf")

    def added_eps(self, lane: int, base_eps: float) -> float:
        """What it adds to a lane's usual arrival rate, in events/s that arrive."""
        usual_eps = max(self.usual_eps, LEAST_USUAL_EPS)
        times = max(1.0, self.eps / usual_eps)
        if base_eps <= 0:
            return 0.0
        share = min(1.0, self.weights[lane] * usual_eps * self.clock / base_eps)
        return base_eps * min(GROWTH * share * (times - 1), MOST_TIMES - 1)


@dataclass(frozen=True, slots=True)
class Raised:
    """A lane's forecast was raised to `times` what it was, mostly by the hotspot at `place`."""

    times: float
    place: str


@dataclass(slots=True)
class HotspotForecast:
    """`open`: the hotspots that raise a forecast now, by id."""

    open: dict[str, HotRates] = field(default_factory=dict)
    # By hotspot and lane, the forecast when the hotspot came: by now it has learned of the burst.
    _bases: dict[str, dict[int, float]] = field(default_factory=dict)

    def set(self, id_: str, rates: HotRates) -> None:
        """Take a new hotspot, or new figures of one."""
        self.open[id_] = rates

    def forget(self, ids: Iterable[str]) -> None:
        for id_ in ids:
            self.open.pop(id_, None)
            self._bases.pop(id_, None)

    def raise_lanes(
        self,
        lanes: Sequence[Lane],
        nodes: Sequence[Node],
        now: float,
        fade_s: float,
        target_utilisation: float,
    ) -> tuple[tuple[Lane, ...], dict[int, Raised]]:
        """The lanes with raised forecasts, and which ones were raised. A hotspot that has ended
        fades over `fade_s`. A lane of which no forecast is known stays as it is."""
        self.forget([i for i, rates in self.open.items() if now - rates.fades_s >= fade_s])
        if not self.open:
            return tuple(lanes), {}
        ahead = {lane.id: lane.forecast_eps for lane in lanes if lane.forecast_eps is not None}
        wanted = self._want_rates(ahead, now, fade_s)
        takers = [n.capacity_eps for n in nodes if n.takes and not n.empty]
        most = target_utilisation * max(takers, default=0.0)  # more would fit on no node
        load = {lane.id: max(lane.rate_eps or 0.0, lane.forecast_eps or 0.0) for lane in lanes}
        more = {n: min(eps, most) - load[n] for n, (eps, _) in wanted.items()}
        more = {n: eps for n, eps in more.items() if eps > 0}
        room = FILL_SHARE * target_utilisation * sum(takers) - sum(load.values())
        share = min(1.0, max(0.0, room) / sum(more.values())) if more else 0.0
        raised = {n: load[n] + share * eps for n, eps in more.items() if share * eps > 0}
        out = tuple(
            replace(lane, forecast_eps=raised[lane.id]) if lane.id in raised else lane
            for lane in lanes
        )
        return out, {
            n: Raised(eps / max(ahead[n], LEAST_USUAL_EPS), wanted[n][1])
            for n, eps in raised.items()
        }

    def _want_rates(
        self, ahead: Mapping[int, float], now: float, fade_s: float
    ) -> dict[int, tuple[float, str]]:
        """By lane, the rate that its hotspots want, and the place of the one that adds most."""
        base: dict[int, float] = {}
        added: dict[int, float] = {}
        first: dict[int, tuple[float, str]] = {}
        for id_, rates in self.open.items():
            gone_s = max(0.0, now - rates.fades_s)
            fade = 1.0 - gone_s / fade_s if gone_s else 1.0
            bases = self._bases.setdefault(id_, {})
            for n in rates.weights.keys() & ahead.keys():
                own = bases.setdefault(n, ahead[n])
                eps = fade * rates.added_eps(n, own)
                base[n] = max(base.get(n, 0.0), own)
                added[n] = added.get(n, 0.0) + eps
                first[n] = max(first.get(n, (eps, rates.place)), (eps, rates.place))
        return {n: (min(base[n] + added[n], MOST_TIMES * base[n]), first[n][1]) for n in base}
