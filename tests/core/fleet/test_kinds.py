"""A third kind of worker with a topic of its own works nothing else, and no other kind works it."""

from __future__ import annotations

import msgspec
import pytest

from agents.base.errors import ImpossibleTransition
from agents.core.events import PlacementWritten
from agents.core.fleet.incidents import format_partitions
from agents.core.model.placement import Intent, State, drain_intent
from agents.core.model.topology import Partition, WorkerKind, WorkerSpec, kind_of
from tests.core.world import World

ANALYTICS = WorkerKind("analytics", "main/events.clean")
PARTITIONS = [ANALYTICS.partition(n) for n in range(4)]
NOBODYS = Partition("eu/events.raw", 0)


@pytest.fixture
def w() -> World:
    """A fleet at work with two workers of a third kind, and a partition that no kind works."""
    w = World(nodes=3, lanes=6)
    more = {n: WorkerSpec(n, ANALYTICS, "s0", 50.0) for n in ("analytics-1", "analytics-2")}
    w.read(msgspec.structs.replace(w.inv, workers={**w.inv.workers, **more}))
    w.core.fleet.expect_partitions([*PARTITIONS, NOBODYS])
    w.fair(20)
    return w


def owners(w: World, kind: WorkerKind) -> list[str]:
    return sorted(w.partitions[p].worker for p in w.partitions if kind.works(p))


def test_each_kind_works_its_own_topic_alone(w: World) -> None:
    assert owners(w, ANALYTICS) == ["analytics-1", "analytics-1", "analytics-2", "analytics-2"]
    assert set(owners(w, WorkerKind.ROUTER)) == {"router-1"}
    assert set(owners(w, WorkerKind.NODE)) == {"node-0", "node-1", "node-2"}
    assert all(s.state is State.ASSIGNED for s in w.partitions.values())


def test_a_topic_that_no_kind_works_is_nobodys(w: World) -> None:
    assert NOBODYS not in w.partitions, "nothing was ever written of it"
    assert w.core.fleet.partitions[NOBODYS].state is State.ORPHAN
    with pytest.raises(KeyError):
        kind_of(NOBODYS)
    assert (NOBODYS.label, PARTITIONS[3].label) == ("events.raw 0", "events.clean 3")
    assert format_partitions(PARTITIONS[:2]) == "events.clean 0, 1"


def test_a_drained_worker_of_a_third_kind_hands_over_to_its_own_kind(w: World) -> None:
    w.tell(PlacementWritten({}, {}, {drain_intent("analytics-1"): Intent("ana@d", 0)}))
    w.fair(20)
    assert set(owners(w, ANALYTICS)) == {"analytics-2"}
    assert set(owners(w, WorkerKind.ROUTER)) == {"router-1"}


def test_a_router_that_has_a_partition_of_a_third_kind_contradicts_the_state(w: World) -> None:
    fleet = w.core.fleet
    raw = fleet.partitions[WorkerKind.ROUTER.partition(0)]
    fleet.partitions[PARTITIONS[0]] = raw
    with pytest.raises(ImpossibleTransition, match="a worker of another kind"):
        fleet.validate()
