"""Moves and fences by what is written: a drained node that goes home is no fence, a lane that comes
back to its node no move."""

from __future__ import annotations

from agents.core.fleet.counts import LeaderCounts
from agents.core.fleet.fleet import Fleet
from agents.core.model.placement import Lease, Placed, State
from agents.core.model.topology import Partition, WorkerKind
from tests.core.world import inventory

P = WorkerKind.NODE.partition(3)


def placed(worker: str, state: State, epoch: int = 1) -> dict[Partition, Placed]:
    return {P: Placed(worker, "boot", epoch, 1, state, 0, 0, "")}


class Counted:
    """Counts of what is written to a fleet, as the coordinator passes it on."""

    def __init__(
        self,
        partitions: dict[Partition, Placed] | None = None,
        leases: dict[str, Lease] | None = None,
    ) -> None:
        self.fleet = Fleet(inventory(1), 1, partitions or {}, leases or {})
        self.counts = LeaderCounts(self.fleet)

    def written(self, partitions: dict[Partition, Placed], leases: dict[str, Lease]) -> None:
        self.counts.count_records(partitions, leases)
        self.fleet.apply_records(partitions, leases, {})

    @property
    def fences(self) -> int:
        return self.counts.fences

    @property
    def lane_moves(self) -> int:
        return self.counts.moves["events.lanes"]


def lease(boot: str, *, fenced: bool = False) -> Lease:
    return Lease(boot, "t", 1, 1, 1, fenced)


def test_a_hand_over_is_one_move_and_the_first_placing_none() -> None:
    counts = Counted()
    counts.written(placed("node-a-1", State.ASSIGNED), {})
    counts.written(placed("node-a-1", State.RELEASING), {})
    counts.written(placed("", State.ORPHAN), {})
    assert counts.lane_moves == 0
    counts.written(placed("node-b-1", State.ASSIGNED, 2), {})
    assert counts.lane_moves == 1
    counts.written(placed("", State.ORPHAN, 2), {})
    counts.written(placed("node-b-1", State.ASSIGNED, 3), {})
    assert counts.lane_moves == 1


def test_a_fence_is_of_one_who_had_something() -> None:
    counts = Counted()
    counts.written({}, {"node-a-1": lease("one")})
    counts.written(placed("node-a-1", State.ASSIGNED), {})
    assert counts.fences == 0
    counts.written(placed("node-a-1", State.ORPHAN), {"node-a-1": lease("one", fenced=True)})
    assert counts.fences == 1
    counts.written({}, {"node-a-1": lease("one", fenced=True)})
    counts.written({}, {"node-a-1": lease("two")})
    assert counts.fences == 1, "a fenced one that comes back is not fenced again"


def test_who_was_drained_and_ends_is_not_counted_and_who_restarts_with_lanes_is() -> None:
    counts = Counted()
    counts.written(
        placed("node-a-1", State.ASSIGNED), {"node-a-1": lease("one"), "node-b-1": lease("one")}
    )
    counts.written({}, {"node-b-1": lease("one", fenced=True)})
    assert counts.fences == 0
    counts.written(placed("node-a-1", State.ORPHAN), {"node-a-1": lease("two")})
    assert counts.fences == 1


def test_what_was_written_before_counts_as_known() -> None:
    counts = Counted(placed("node-a-1", State.ASSIGNED), {"node-a-1": lease("one")})
    counts.written(placed("node-a-1", State.ORPHAN), {"node-a-1": lease("one", fenced=True)})
    counts.written(placed("node-b-1", State.ASSIGNED, 2), {})
    assert (counts.fences, counts.lane_moves) == (1, 1)
