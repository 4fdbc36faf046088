"""A rise and a hotspot, as the engines, the topics `hotspots.rises` and `hotspots`, and the fronts
know them (docs/hotspots.md). Times are event time, in epoch s."""

from __future__ import annotations

from enum import StrEnum

import msgspec

MOST_CELLS = 50
LEAST_USUAL_EPS = 1 / 3600
"""A baseline counts as at least one event an hour where something is compared with it."""
_ID_LIMIT = 64


class Rise(msgspec.Struct, frozen=True, order=True):
    """One row of an engine: within `started_s` to `at_s` (slots of 1 s, both included), `events`
    came from `cell` (hex H3 index, a cell of the lane map or a coarser area), which are more than
    chance explains against `usual` events in `usual_s` seconds. `factor`: of the test, 2.2 or
    5.5. `name`, `named_by`: of the cell and the provider of maps that told it, where one has
    (docs/hotspots.md); empty otherwise."""

    at_s: int
    cell: str
    factor: float
    started_s: int
    events: int
    usual: int
    usual_s: int
    name: str = ""
    named_by: str = ""

    @property
    def eps(self) -> float:
        """Events/s since it began."""
        return self.events / (self.at_s - self.started_s + 1)

    @property
    def usual_eps(self) -> float:
        return self.usual / self.usual_s


class HotspotState(StrEnum):
    """`OPEN`: decided just now; `GROWN`: one more area is part of it; `HELD`: still rising, with
    new figures; `ENDED`."""

    OPEN = "open"
    GROWN = "grown"
    HELD = "held"
    ENDED = "ended"


class Hotspot(msgspec.Struct, frozen=True):
    """One hotspot, at its latest change. `id`: AREA-OPENED. `started_s`: when its first rise
    began; `opened_s`: the slot of that decision; `last_s`: its latest rise; `ended_s`: 0 while it
    lasts. `areas`: hex H3 indices, the first is where it began. `cells`: the first 50 that
    rose. `eps`, `usual_eps`: rate and baseline of `peak`, its cell or area
    with the highest excess so far, in events/s. `quiet_s`: it ends when it has not risen for this
    long. `name`, `named_by`: of the peak, as in a rise."""

    id: str
    state: HotspotState
    started_s: int
    opened_s: int
    last_s: int
    areas: tuple[str, ...]
    peak: str
    eps: float
    usual_eps: float
    quiet_s: int
    cells: tuple[str, ...] = ()
    ended_s: int = 0
    name: str = ""
    named_by: str = ""

    @property
    def times_usual(self) -> float:
        """How many times the usual rate."""
        return self.eps / max(self.usual_eps, LEAST_USUAL_EPS)

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, value: bytes) -> Hotspot:
        """Raises msgspec.DecodeError unless the value is one that an engine writes."""
        found = msgspec.json.decode(value, type=cls)
        if not (
            0 < len(found.id) <= _ID_LIMIT
            and found.areas
            and len(found.cells) <= MOST_CELLS
            and 0 <= found.started_s <= found.opened_s <= found.last_s
            and found.usual_eps >= 0
            and 0 <= found.eps < float("inf")
        ):
            raise msgspec.ValidationError("the figures of a hotspot contradict each other")
        return found
