"""The rows of a Flink job, as they follow each other in `hotspots.rises`: rises in the order of
event time, and ticks, which have no cell and say that all rises up to their slot have come. A job
that begins again writes rows a second time; they are left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from agents.core.hotspots.lifecycle import Lifecycle
from agents.core.model.geo import NAME_LIMIT, PROVIDER_LIMIT
from agents.core.model.hotspots import Hotspot, Rise

AHEAD_S = 60
"""How far a row may be ahead of its append: the clocks of several brokers differ."""


def decode_row(value: bytes | None, appended_ms: int) -> Rise | None:
    """A rise or a tick; None if no job of ours can have written it."""
    try:
        row = msgspec.json.decode(value or b"", type=Rise)
    except (msgspec.DecodeError, RecursionError):
        return None
    possible = (
        0 <= row.started_s <= row.at_s <= appended_ms // 1000 + AHEAD_S
        and row.events >= 0
        and row.usual >= 0
        and row.usual_s > 0
        and len(row.name) <= NAME_LIMIT
        and len(row.named_by) <= PROVIDER_LIMIT
    )
    return row if possible else None


@dataclass(slots=True)
class JobRows:
    """`told_s`: the slot of the last tick. `recent`: the rises after it that were told, without
    names: a row that is written a second time may have another one."""

    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    told_s: int = -1
    recent: list[Rise] = field(default_factory=list)
    events: int = 0

    def take(self, rows: Iterable[Rise]) -> Iterator[Hotspot]:
        """The hotspots that change by these rows, in order. `events` counts those of the ticks."""
        for row in rows:
            if row.at_s <= self.told_s:
                continue
            if not row.cell:
                self.told_s, self.recent = row.at_s, []
                self.events += row.events
                yield from self.lifecycle.advance((), row.at_s)
            elif (told := msgspec.structs.replace(row, name="", named_by="")) not in self.recent:
                self.recent.append(told)
                yield from self.lifecycle.advance((row,), row.at_s)
