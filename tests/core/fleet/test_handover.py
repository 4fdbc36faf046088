"""The hand-over table: what it allows, what it refuses, and that it never goes backwards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.base.errors import ImpossibleTransition
from agents.core.fleet.handover import (
    LEASE,
    PARTITION,
    LeaseStep,
    Step,
    Tenancy,
    lease_after_step,
    record_after_step,
    tenancy,
)
from agents.core.model.placement import Lease, Placed, State


def placed(state: State, offset: int = 10) -> Placed:
    return Placed("node-a", "b1", 3, 1, state, offset, 0, "")


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("what", Step)
def test_a_step_is_in_the_table_or_refused(state: State, what: Step) -> None:
    def take() -> Placed:
        return record_after_step(
            placed(state),
            what,
            leader_epoch=2,
            now_ms=5,
            why="w",
            worker="node-b",
            boot="b2",
            offset=offset,
        )

    offset = 7 if what is Step.REWIND else 12
    if (state, what) not in PARTITION:
        with pytest.raises(ImpossibleTransition, match=what):
            take()
        return
    after = take()
    assert after.state is PARTITION[state, what].then
    assert after.epoch == 3 + (what is Step.PLACE)
    assert (after.leader_epoch, after.since_ms, after.offset) == (2, 5, offset)


def test_only_a_place_makes_somebody_the_owner_and_only_an_orphan_is_placed() -> None:
    owners = {
        (state, what) for (state, what), rule in PARTITION.items() if rule.then is State.ASSIGNED
    }
    assert owners == {(State.ORPHAN, Step.PLACE)}


def test_every_change_of_owner_grows_the_epoch() -> None:
    assert all(
        rule.epoch == (1 if what is Step.PLACE else 0) for (_, what), rule in PARTITION.items()
    )


@pytest.mark.parametrize("offset", [None, -1, 10, 11])
def test_a_rewind_goes_back_and_nowhere_else(offset: int | None) -> None:
    with pytest.raises(ImpossibleTransition, match="not before"):
        record_after_step(
            placed(State.ORPHAN), Step.REWIND, leader_epoch=1, now_ms=0, why="", offset=offset
        )


def test_a_place_needs_a_worker_and_its_boot() -> None:
    with pytest.raises(ImpossibleTransition, match="without a worker"):
        record_after_step(placed(State.ORPHAN), Step.PLACE, leader_epoch=1, now_ms=0, why="")


@given(st.integers(0, 100), st.integers(0, 100))
def test_offsets_never_go_back(before: int, shown: int) -> None:
    after = record_after_step(
        placed(State.RELEASING, before),
        Step.RELEASED,
        leader_epoch=1,
        now_ms=0,
        why="",
        offset=shown,
    )
    assert after.offset == max(before, shown)
    assert (after.worker, after.boot) == ("", "")


def lease_of(held: Tenancy) -> Lease | None:
    return None if held is Tenancy.NONE else Lease("b1", "t", 7, 3, 1, held is Tenancy.FENCED)


@pytest.mark.parametrize("held", Tenancy)
@pytest.mark.parametrize("what", LeaseStep)
def test_a_lease_step_is_in_the_table_or_refused(held: Tenancy, what: LeaseStep) -> None:
    boot = "" if what is LeaseStep.FENCE else "b2"

    def take() -> tuple[Lease, bool]:
        return lease_after_step(
            lease_of(held),
            what,
            new_boot=boot,
            transactional_id="t",
            producer_id=7,
            producer_epoch=4,
            leader_epoch=2,
        )

    if (held, what) not in LEASE:
        with pytest.raises(ImpossibleTransition, match=what):
            take()
        return
    lease, orphans = take()
    assert tenancy(lease) is LEASE[held, what].then
    assert orphans is LEASE[held, what].orphans
    assert lease.boot == (boot or "b1")
    assert lease.producer_epoch == 4
