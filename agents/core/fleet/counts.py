"""Moves and fences, counted by what is committed to `placement`, as any reader of that topic could
count them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agents.core.fleet.handover import Tenancy, tenancy
from agents.core.model.placement import Lease, Placed, PlacementTable, State
from agents.core.model.topology import Partition


@dataclass(slots=True)
class LeaderCounts:
    """Counts since this coordinator began to lead. `moves`: by topic, partitions that were given to
    another worker than before. `fences`: live leases that were made anew while the worker still had
    partitions."""

    moves: Counter[str] = field(default_factory=Counter)
    fences: int = 0
    _last_owner: dict[Partition, str] = field(default_factory=dict)
    _named: dict[Partition, str] = field(default_factory=dict)
    _leases: dict[str, Lease] = field(default_factory=dict)

    @classmethod
    def of(cls, before: PlacementTable) -> LeaderCounts:
        """`before`: the records that this coordinator found when it began."""
        named = {p: placed.worker for p, placed in before.placed.items() if placed.worker}
        return cls(_last_owner=dict(named), _named=named, _leases=dict(before.leases))

    def written(self, partitions: Mapping[Partition, Placed], leases: Mapping[str, Lease]) -> None:
        """These records are committed."""
        self._fenced(leases.items())
        for p, placed in partitions.items():
            self._named[p] = placed.worker
            if placed.state is State.ASSIGNED:
                before = self._last_owner.get(p, "")
                self.moves[p.kafka_topic] += bool(before) and before != placed.worker
                self._last_owner[p] = placed.worker

    def _fenced(self, leases: Iterable[tuple[str, Lease]]) -> None:
        for worker, lease in leases:
            before = self._leases.get(worker)
            self._leases[worker] = lease
            ended = before is not None and (lease.fenced or lease.boot != before.boot)
            if ended and tenancy(before) is Tenancy.LIVE:
                self.fences += worker in self._named.values()
