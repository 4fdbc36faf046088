"""Names of cells from the topic `geo.context`, for what is written to other topics: only names that
do not expire, since what is written lasts longer than what a provider lends."""

from __future__ import annotations

from dataclasses import dataclass, field

from agents.core.geo.context import ContextKind, GeoContext
from agents.core.model.geo import VALID_S

KEPT = 20_000
LASTS_S = VALID_S[1] - 1
"""What does not expire is told as the longest time that can be told; rounding may take a little."""


@dataclass(frozen=True, slots=True)
class CellName:
    """`by`: the provider."""

    name: str
    by: str


NO_NAME = CellName("", "")


@dataclass(slots=True)
class CellNames:
    """The newest name of each cell (hex H3 index), of the KEPT that were named last."""

    _of: dict[str, tuple[CellName, float]] = field(default_factory=dict)

    def note(self, record: GeoContext) -> None:
        """Take a record. A name that expires is only lent, and left out."""
        lasts = record.expires_at - record.fetched_at >= LASTS_S
        if record.kind is not ContextKind.NAME or not record.cell or not lasts:
            return
        self._of.pop(record.cell, None)
        self._of[record.cell] = CellName(record.name, record.provider), record.expires_at
        while len(self._of) > KEPT:
            del self._of[next(iter(self._of))]

    def name_of(self, cell: str, now_s: float) -> CellName:
        """Its name at this epoch second; an empty one if none is known."""
        found = self._of.get(cell)
        return found[0] if found is not None and now_s < found[1] else NO_NAME
