"""The life of hotspots, a pure function of the rises and of how far event time has come
(docs/hotspots.md): both engines feed it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from agents.core.hotspots.areas import area_of, areas_around
from agents.core.model.hotspots import MOST_CELLS, Hotspot, HotspotState, Rise

QUIET_S = (120, 3600)
"""The least and the most of how long a hotspot must not have risen before it ends. Between them, it
is twice as long as its latest rise took to be noticed: a weak one is noticed more seldom."""
MOST_OPEN = 1000


@dataclass(slots=True)
class Lifecycle:
    """`open`: the hotspots that last, the oldest first, by id. `untracked`: rises that belong to no
    hotspot, since 1,000 are open, or since there is no such cell on earth."""

    open: dict[str, Hotspot] = field(default_factory=dict)
    untracked: int = 0

    def advance(self, rises: Iterable[Rise], closed_s: int) -> Iterator[Hotspot]:
        """Take the rises up to slot `closed_s`, and yield each hotspot that changes, in order. A
        hotspot that has ended does not change again."""
        for rise in sorted(rises):
            yield from self._end_quiet_ones(rise.at_s)
            yield from self._take_rise(rise)
        yield from self._end_quiet_ones(closed_s)

    def _take_rise(self, rise: Rise) -> Iterator[Hotspot]:
        try:
            area = area_of(rise.cell)
            near = areas_around(area)
        except ValueError:
            self.untracked += 1
            return
        there = next((h for h in self.open.values() if h.areas[0] in near), None)
        quiet_s = min(max(QUIET_S[0], 2 * (rise.at_s - rise.started_s + 1)), QUIET_S[1])
        cells = () if rise.cell == area else (rise.cell,)
        if there is None:
            if len(self.open) >= MOST_OPEN:
                self.untracked += 1
                return
            now = Hotspot(
                f"{area}-{rise.at_s}",
                HotspotState.OPEN,
                *(rise.started_s, rise.at_s, rise.at_s, (area,), rise.cell),
                *(rise.eps, rise.usual_eps, quiet_s, cells),
            )
        else:
            now = msgspec.structs.replace(
                there,
                state=HotspotState.HELD if area in there.areas else HotspotState.GROWN,
                started_s=min(there.started_s, rise.started_s),
                last_s=max(there.last_s, rise.at_s),
                areas=there.areas if area in there.areas else (*there.areas, area),
                cells=tuple(dict.fromkeys((*there.cells, *cells)))[:MOST_CELLS],
                quiet_s=quiet_s,
            )
            if rise.eps - rise.usual_eps > there.eps - there.usual_eps:
                named = now.peak == rise.cell and not rise.name  # it keeps its name
                now = msgspec.structs.replace(
                    now,
                    peak=rise.cell,
                    eps=rise.eps,
                    usual_eps=rise.usual_eps,
                    name=now.name if named else "",
                    named_by=now.named_by if named else "",
                )
        if rise.name and rise.cell == now.peak:
            now = msgspec.structs.replace(now, name=rise.name, named_by=rise.named_by)
        self.open[now.id] = now
        yield now

    def _end_quiet_ones(self, now_s: int) -> Iterator[Hotspot]:
        quiet = [h for h in self.open.values() if now_s - h.last_s > h.quiet_s]
        # In the order in which they end, however far the watermark has jumped.
        for hotspot in sorted(quiet, key=lambda h: h.last_s + h.quiet_s):
            del self.open[hotspot.id]
            yield msgspec.structs.replace(hotspot, state=HotspotState.ENDED, ended_s=hotspot.last_s)
