"""Moves and fences, counted by what is committed to `placement`, as any reader of that topic could
count them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from agents.core.fleet.fleet import Fleet
from agents.core.fleet.handover import Tenancy, tenancy
from agents.core.model.placement import Lease, Placed, State
from agents.core.model.topology import Partition


@dataclass(slots=True)
class LeaderCounts:
    """Counts since this coordinator began to lead. `moves`: by topic, partitions that were given to
    another worker than before. `fences`: live leases that were made anew while the worker still had
    partitions."""

    fleet: Fleet
    moves: Counter[str] = field(default_factory=Counter)
    fences: int = 0
    # The record of a released partition names nobody, so the last owner is kept.
    _last_owner: dict[Partition, str] = field(init=False)

    def __post_init__(self) -> None:
        self._last_owner = {p: s.worker for p, s in self.fleet.partitions.items() if s.worker}

    def count_records(
        self, partitions: Mapping[Partition, Placed], leases: Mapping[str, Lease]
    ) -> None:
        """These records are committed. To be called before `Fleet.apply_records`: they are compared
        with the ones before."""
        for worker, lease in leases.items():
            before = self.fleet.leases.get(worker)
            ended = before is not None and (lease.fenced or lease.boot != before.boot)
            if ended and tenancy(before) is Tenancy.LIVE:
                self.fences += any(s.worker == worker for s in self.fleet.partitions.values())
        for p, placed in partitions.items():
            if placed.state is State.ASSIGNED:
                last = self._last_owner.get(p, "")
                self.moves[p.kafka_topic] += bool(last) and last != placed.worker
                self._last_owner[p] = placed.worker
