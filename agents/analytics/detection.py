"""Detection in process: events go in, hotspots come out. It knows no Kafka, and its state can be
saved and restored between two calls, without a hotspot lost or repeated."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from agents import settings
from agents.analytics.events import EventReader
from agents.core.geo.cell_names import CellNames
from agents.core.hotspots.areas import AREA_RESOLUTION
from agents.core.hotspots.lifecycle import Lifecycle
from agents.core.model.hotspots import Hotspot, Rise
from kernels.hotspots.detector import Detector
from kernels.hotspots.rises import FACTORS
from kernels.hotspots.slots import SlotCounter


@dataclass(slots=True)
class Detection:
    """`told_s`: the slot up to which all rises have been returned. A state that was saved before
    goes through them again and keeps silent. `names`: what rises are named after."""

    detector: Detector
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    events: EventReader = field(default_factory=EventReader)
    told_s: int = -1
    names: CellNames = field(default_factory=CellNames)

    @classmethod
    def of_settings(cls, analytics: settings.Analytics) -> Detection:
        slots = SlotCounter(round(analytics.lateness_s * 1000), AREA_RESOLUTION)
        threshold = round(analytics.threshold_nats * 1_000_000)
        return cls(Detector(slots, analytics.floor_events, threshold))

    def resume(self, told_s: int, opened: Iterable[Hotspot]) -> None:
        """Go on where an engine has told everything up to a slot, and these hotspots last."""
        self.told_s = told_s
        self.lifecycle = Lifecycle({h.id: h for h in opened})

    def count_records(self, partition: int, records: Sequence[Any]) -> int:
        """Count the events among the records of a partition of `events.lanes`; returns how
        many there are, late ones included."""
        ts_ms, cells = self.events.read_columns(records)
        self.detector.slots.count_events(partition, ts_ms, cells)
        return len(ts_ms)

    def advance(
        self, waited_for: Collection[int], now_s: float = 0.0
    ) -> tuple[list[Rise], list[Hotspot]]:
        """The rises of the slots that close now, and the hotspots that change by them.
        `waited_for`: the partitions that are not idle. `now_s`: epoch s, for names that expire."""
        rises = [rise for rise in self._find_rises(waited_for, now_s) if rise.at_s > self.told_s]
        closed_s = self.detector.slots.closed_s
        if closed_s <= self.told_s:
            return [], []
        self.told_s = closed_s
        return rises, list(self.lifecycle.advance(rises, closed_s))

    def _find_rises(self, waited_for: Collection[int], now_s: float) -> Iterator[Rise]:
        closed, rises = self.detector.find_rises(waited_for)
        for row, factor, started_s, events, usual, usual_s in zip(*rises, strict=True):
            cell = f"{closed.cell[row]:x}"
            named = self.names.name_of(cell, now_s)
            yield Rise(
                int(closed.slot_s[row]),
                cell,
                FACTORS[factor],
                int(started_s),
                int(events),
                int(usual),
                int(usual_s),
                named.name,
                named.by,
            )
