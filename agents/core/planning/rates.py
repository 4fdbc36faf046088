"""What arrives for each lane, as the routers count it (DESIGN 1: what a node manages hides its lag).

Smoothed over about 5 s, added up over the routers; a router that has been silent for 10 s no longer counts."""

from __future__ import annotations

from dataclasses import dataclass, field

from agents.core.model import Telemetry

SMOOTH_S = 5.0
FORGET_S = 10.0


@dataclass(slots=True)
class Rates:
    """Per lane and router: the smoothed rate in events/s and when it was heard (monotonic s)."""

    of: dict[int, dict[str, tuple[float, float]]] = field(default_factory=dict)

    def heard(self, router: str, telemetry: Telemetry, now: float) -> None:
        said = {a.n: a.rate_eps for a in telemetry.arrivals}
        for lane in said.keys() | {n for n, by in self.of.items() if router in by}:
            by = self.of.setdefault(lane, {})
            new = said.get(lane, 0.0)
            old, at = by.get(router, (new, now))
            share = min(1.0, (now - at) / SMOOTH_S) if at < now else 1.0
            by[router] = (old + share * (new - old), now)

    def lane_eps(self, lane: int, now: float) -> float | None:
        """Events/s that arrive for the lane; None when no router has told of it lately."""
        known = [rate for rate, at in self.of.get(lane, {}).values() if now - at <= FORGET_S]
        return sum(known) if known else None
