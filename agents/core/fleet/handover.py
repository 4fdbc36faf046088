"""The hand-over as two tables: a partition or a lease changes only by a step that is listed here
(PROTOCOL 2).

The steps have the names of the model in tests/handover_model, which is checked exhaustively at
small bounds; docs/handover.md is made from these tables. A step is *written* first. The commands
that follow from the written state are sent afterwards, and repeated until the worker shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from agents.base.errors import ImpossibleTransition
from agents.core.model.placement import Lease, Placed, State
from agents.core.model.topology import PYTHON


class Step(StrEnum):
    """What can happen to a partition. The planner or an operator causes `place` and `move`, the
    owner `released`; a fence can come at any time; an operator causes `rewind` and `reset`
    (core/fleet/rewinds.py)."""

    PLACE = "place"
    MOVE = "move"
    RELEASED = "released"
    FENCE = "fence"
    REWIND = "rewind"
    RESET = "reset"


class Owner(StrEnum):
    """The worker that the record names after a step."""

    NEW = "new"
    SAME = "same"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class HandoverRule:
    """The written outcome of a step. `say`: the step by which the worker is then told, until it
    shows the outcome (reconcile.py). `rule`: the section of docs/protocol.md."""

    then: State
    epoch: int
    owner: Owner
    say: str
    rule: str


PARTITION: Mapping[tuple[State, Step], HandoverRule] = {
    (State.ORPHAN, Step.PLACE): HandoverRule(
        State.ASSIGNED, +1, Owner.NEW, "say_assign", "2.3 2.4 2.7"
    ),
    (State.ASSIGNED, Step.MOVE): HandoverRule(State.RELEASING, 0, Owner.SAME, "ask_release", "2.6"),
    (State.RELEASING, Step.RELEASED): HandoverRule(State.ORPHAN, 0, Owner.NONE, "", "2.6"),
    (State.ASSIGNED, Step.FENCE): HandoverRule(State.ORPHAN, 0, Owner.SAME, "", "2.2"),
    (State.RELEASING, Step.FENCE): HandoverRule(State.ORPHAN, 0, Owner.SAME, "", "2.2"),
    (State.ORPHAN, Step.REWIND): HandoverRule(State.ORPHAN, 0, Owner.NONE, "", "2.3 2.6"),
    (State.ORPHAN, Step.RESET): HandoverRule(State.ORPHAN, 0, Owner.NONE, "", "2.3 2.6"),
}


class Tenancy(StrEnum):
    """The state of a worker's lease, as written."""

    NONE = "none"
    LIVE = "live"
    FENCED = "fenced"


class LeaseStep(StrEnum):
    """What can happen to a lease. Each step begins with InitProducerId; the record is written once
    that has succeeded."""

    WANTS_LEASE = "wants_lease"
    OTHER_BOOT = "other_boot"
    FENCE = "fence"


@dataclass(frozen=True, slots=True)
class LeaseRule:
    """The written outcome of a step. `orphans`: in the same transaction, all partitions of the
    boot that held the lease take the step `fence`."""

    then: Tenancy
    orphans: bool
    say: str
    rule: str


LEASE: Mapping[tuple[Tenancy, LeaseStep], LeaseRule] = {
    (Tenancy.NONE, LeaseStep.WANTS_LEASE): LeaseRule(Tenancy.LIVE, False, "say_lease", "2.1"),
    (Tenancy.FENCED, LeaseStep.WANTS_LEASE): LeaseRule(Tenancy.LIVE, True, "say_lease", "2.1"),
    (Tenancy.LIVE, LeaseStep.OTHER_BOOT): LeaseRule(Tenancy.LIVE, True, "say_lease", "2.2 2.8"),
    (Tenancy.LIVE, LeaseStep.FENCE): LeaseRule(Tenancy.FENCED, True, "say_fenced", "2.2"),
}


def tenancy(lease: Lease | None) -> Tenancy:
    if lease is None:
        return Tenancy.NONE
    return Tenancy.FENCED if lease.fenced else Tenancy.LIVE


def record_after_step(
    placed: Placed,
    what: Step,
    *,
    leader_epoch: int,
    now_ms: int,
    why: str,
    worker: str = "",
    boot: str = "",
    offset: int | None = None,
) -> Placed:
    """The record to be written for the step `what`.

    `worker`, `boot`: the new owner, for `place` only. `offset`: the offset that a release or the
    read after a fence has shown; it never moves a partition backwards, except by `rewind`, which
    only moves it backwards, and by `reset`, which may set it anywhere.

    Raises ImpossibleTransition when the table has no such step, or the arguments do not fit it."""
    rule = PARTITION.get((placed.state, what))
    if rule is None:
        raise ImpossibleTransition(f"{what} of a partition that is {placed.state}: {placed}")
    if rule.owner is Owner.NEW and not (worker and boot):
        raise ImpossibleTransition(f"{what} without a worker and its boot: {placed}")
    if what is Step.REWIND and (offset is None or not 0 <= offset < placed.offset):
        raise ImpossibleTransition(
            f"{what} to {offset}, which is not before what was committed: {placed}"
        )
    if what is Step.RESET and (offset is None or offset < 0):
        raise ImpossibleTransition(f"{what} to {offset}: {placed}")
    forward = placed.offset if offset is None else max(offset, placed.offset)
    after = replace(
        placed,
        state=rule.then,
        epoch=placed.epoch + rule.epoch,
        leader_epoch=leader_epoch,
        since_ms=now_ms,
        why=why,
        offset=offset if what in (Step.REWIND, Step.RESET) and offset is not None else forward,
    )
    if rule.owner is Owner.NEW:
        return replace(after, worker=worker, boot=boot)
    if rule.owner is Owner.NONE:
        return replace(after, worker="", boot="")
    return after


def lease_after_step(
    lease: Lease | None,
    what: LeaseStep,
    *,
    new_boot: str,
    transactional_id: str,
    producer_id: int,
    producer_epoch: int,
    leader_epoch: int,
    engine: str = PYTHON,
) -> tuple[Lease, bool]:
    """The lease to be written after InitProducerId returned `producer_id` and `producer_epoch`, and
    whether the former boot's partitions become orphans with it. Raises ImpossibleTransition."""
    rule = LEASE.get((tenancy(lease), what))
    if rule is None:
        raise ImpossibleTransition(f"{what} of a lease that is {tenancy(lease)}: {lease}")
    boot = new_boot if rule.then is Tenancy.LIVE else (lease.boot if lease else "")
    if not boot:
        raise ImpossibleTransition(f"{what} without a boot: {lease}")
    fenced = rule.then is Tenancy.FENCED
    return Lease(
        boot, transactional_id, producer_id, producer_epoch, leader_epoch, fenced, engine
    ), rule.orphans
