"""Commands that follow from the written state: they are sent to a worker until it shows that state,
and never before it is written (PROTOCOL 2.3 to 2.5).

The functions have the names of their steps in tests/handover_model: say_fenced, wants_lease,
say_assign, ask_release; the model's say_lease is in `_reconcile_worker`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agents.core.effects import Effect, MakeLease, Send
from agents.core.fleet.fleet import Fleet, View
from agents.core.model.messages import AssignCommand, Grant, LeaseCommand, ReleaseCommand
from agents.core.model.placement import State
from agents.core.model.topology import Partition

LACKING_LIMIT = 2  # telemetry items that lack a partition before it is sent again (2.8)
GRANTS_AT_MOST = 500  # per command (PROTOCOL 4)
TELL_FENCED_EVERY_S = 1.0
RETRY_S = 0.5  # before a command that failed is sent again, or a lease made again


def transactional_id(worker: str) -> str:
    """The worker's transactional id (2.1). Each worker has one, so that making its lease anew
    fences the boot that had it."""
    return f"geolane-{worker}"


def reconcile_fleet(fleet: Fleet, now: float) -> Iterator[Effect]:
    """Every command to send and every lease to make now, given what is written and what each worker
    has shown."""
    # A partition with a write under way is left out: only what is committed may be said.
    written: dict[str, list[Partition]] = {}
    for p, s in sorted(fleet.partitions.items()):
        if not fleet.writing[p]:
            written.setdefault(s.worker, []).append(p)
    for view in fleet.views.values():
        if view.present and view.boot and not view.fencing and now >= view.retry_at:
            yield from _reconcile_worker(fleet, view, written.get(view.spec.worker, []), now)


def _reconcile_worker(
    fleet: Fleet, view: View, written: Sequence[Partition], now: float
) -> Iterator[Effect]:
    """One worker's commands. The order is that of its life: a fenced boot must end, a boot without
    a lease gets one, a lease is sent, and only a boot that holds its lease is given lanes."""
    worker = view.spec.worker
    status = fleet.statuses[worker]
    if view.boot in view.dead:
        yield from say_fenced(fleet, view, now)
    elif not status.holds_lease:
        if worker not in fleet.leaving and fleet.may_lease(view):
            yield from wants_lease(fleet, view)
    elif not status.confirmed:
        if LeaseCommand not in view.inflight:
            lease = fleet.leases[worker]
            yield _send_command(
                view,
                LeaseCommand(
                    fleet.leader_epoch,
                    view.boot,
                    lease.transactional_id,
                    lease.producer_id,
                    lease.producer_epoch,
                ),
            )
    else:
        yield from say_assign(fleet, view, written)
        yield from ask_release(fleet, view, written)


def say_fenced(fleet: Fleet, view: View, now: float) -> Iterator[Effect]:
    """Tell a fenced boot that is heard again that it is fenced, so that it ends (2.2)."""
    if now - view.fenced_said_at >= TELL_FENCED_EVERY_S and LeaseCommand not in view.inflight:
        view.fenced_said_at = now
        yield _send_command(
            view,
            LeaseCommand(fleet.leader_epoch, view.boot, transactional_id(view.spec.worker), -1, -1),
        )


def wants_lease(fleet: Fleet, view: View) -> Iterator[Effect]:
    """Make a lease for a boot that has none. This fences the boot before it: a changed boot is a
    death (2.1, 2.8)."""
    fleet.begin_fence(view.spec.worker)
    yield make_lease(fleet, view.spec.worker, view.boot)


def make_lease(fleet: Fleet, worker: str, new_boot: str) -> MakeLease:
    """Make the worker's lease anew, which fences its holder. An empty `new_boot` only fences
    (2.2)."""
    return MakeLease(worker, new_boot, transactional_id(worker), tuple(fleet.owned_by(worker)))


def say_assign(fleet: Fleet, view: View, written: Sequence[Partition]) -> Iterator[Effect]:
    """Assign the partitions that are written as the worker's and that this boot was not told of, or
    that two of its telemetry items lack (2.8)."""
    if AssignCommand in view.inflight:
        return
    grants = []
    for p in _partitions_in_state(fleet, view, written, State.ASSIGNED):
        epoch = fleet.partitions[p].epoch
        unsaid = view.said.get(p) != epoch and view.owned.get(p) != epoch
        if unsaid or view.lacking[p] >= LACKING_LIMIT:
            grants.append(Grant(p.n, epoch, fleet.partitions[p].offset))
            view.said[p] = epoch
            view.lacking.pop(p, None)
    if grants:
        yield _send_command(
            view,
            AssignCommand(
                fleet.leader_epoch, view.boot, view.spec.kind.topic, tuple(grants[:GRANTS_AT_MOST])
            ),
        )
        for g in grants[GRANTS_AT_MOST:]:
            del view.said[Partition(view.spec.kind.topic, g.n)]


def ask_release(fleet: Fleet, view: View, written: Sequence[Partition]) -> Iterator[Effect]:
    """Ask for the partitions that are written as releasing, again while there is no answer (2.4,
    2.6)."""
    if ReleaseCommand in view.inflight:
        return
    grants = [
        Grant(p.n, fleet.partitions[p].epoch, fleet.partitions[p].offset)
        for p in _partitions_in_state(fleet, view, written, State.RELEASING)
    ]
    if grants:
        yield _send_command(
            view,
            ReleaseCommand(
                fleet.leader_epoch, view.boot, view.spec.kind.topic, tuple(grants[:GRANTS_AT_MOST])
            ),
        )


def _partitions_in_state(
    fleet: Fleet, view: View, written: Sequence[Partition], state: State
) -> list[Partition]:
    """The partitions of `written` that are this boot's and in this state."""
    return [
        p
        for p in written
        if fleet.partitions[p].boot == view.boot and fleet.partitions[p].state is state
    ]


def _send_command(view: View, command: LeaseCommand | AssignCommand | ReleaseCommand) -> Send:
    view.inflight[type(command)] = command
    return Send(view.spec.worker, command)
