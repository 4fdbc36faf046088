"""Which troubles stand, by what is known of the fleet as a whole: told to core/troubles.py, decided by nobody else."""

from __future__ import annotations

from dataclasses import dataclass

from agents.core import troubles
from agents.core.fleet import Fleet
from agents.core.model import Kind
from agents.core.troubles import Troubles

NO_ROUTER_S = 10.0  # a router that is started again is given a moment


@dataclass(slots=True)
class Lookout:
    """`router_at`: when there was a router last, or the leader began (monotonic s)."""

    fleet: Fleet
    troubles: Troubles
    router_at: float

    def advance(self, now: float, quiet_until: float) -> None:
        """`quiet_until`: before that nobody's absence means anything (liveness.py)."""
        if any(v.present and v.spec.kind is Kind.ROUTER for v in self.fleet.views.values()):
            self.router_at = now
            self.troubles.clear(troubles.Kind.NO_ROUTER, "", now, "A router is there again.")
        elif now - max(self.router_at, quiet_until) > NO_ROUTER_S:
            text = "No router: nothing reaches the lanes. Start one: geolane router, or its unit geolane-router@NAME."
            self.troubles.set(troubles.Kind.NO_ROUTER, "", text, now)
