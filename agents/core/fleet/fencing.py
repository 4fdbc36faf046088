"""Fences: a lease is made anew, which fences the boot that had it (PROTOCOL 2.1, 2.2). First Kafka
makes the lease, then it is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from agents.core.effects import Effect, Note, Write
from agents.core.events import LeaseFailed, LeaseMade, Now
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.handover import (
    LeaseStep,
    Step,
    Tenancy,
    lease_after_step,
    record_after_step,
    tenancy,
)
from agents.core.fleet.incidents import News
from agents.core.fleet.membership import Membership
from agents.core.fleet.placing import Placing
from agents.core.fleet.reconcile import RETRY_S, make_lease
from agents.core.fleet.troubles import TroubleKind
from agents.core.model.topology import KAFKA_STREAMS, PYTHON, WorkerKind, short_name

MAX_RETRY_S = 30.0
"""A lease that Kafka refuses is tried again after RETRY_S, doubled each time up to this, since only
people can mend it."""


@dataclass(frozen=True, slots=True)
class _LeaseFailure:
    """The last of `times` failures in a row of a worker's lease; none is made before `retry_at`."""

    reason: str
    times: int
    retry_at: float


@dataclass(slots=True)
class Fencing:
    """`failed_leases`: how many Kafka did not make."""

    fleet: Fleet
    placing: Placing
    news: News
    membership: Membership
    failed_leases: int = 0
    _failures: dict[str, _LeaseFailure] = field(default_factory=dict)
    _told_gone: set[str] = field(default_factory=set)  # until their leases are made anew

    def fence_worker(self, worker: str, why: str, now: Now) -> Iterator[Effect]:
        """Fence a worker that is gone: make its lease anew for nobody. Calling it twice is
        harmless."""
        view = self.fleet.views[worker]
        if view.fencing or not self.fleet.statuses[worker].lease_live:
            return
        failure = self._failures.get(worker)
        if failure is not None and now.s < failure.retry_at:
            return
        # Noted before the fence is performed: from here on nothing is given or said to this boot.
        self.fleet.begin_fence(worker, self.fleet.leases[worker].boot)
        fence = make_lease(self.fleet, worker, "")
        if worker not in self._told_gone:
            self._told_gone.add(worker)
            if view.state == "draining" and not fence.partitions:
                self.news.report_stopped(view.spec)
            else:
                self.news.report_gone(view.spec, why, fence.partitions, now.s)
        yield fence

    def handle_lease_made(self, e: LeaseMade, now: Now) -> Iterator[Effect]:
        """Write a lease that was made, and in the same transaction its former boot's partitions as
        orphans. Making the lease was the fence, so the order is: fence, then write."""
        fleet, before = self.fleet, self.fleet.leases.get(e.worker)
        self._failures.pop(e.worker, None)
        self._told_gone.discard(e.worker)
        ended = f"The outcome of {short_name(e.worker)}'s last transaction is known now."
        self.news.troubles.clear(TroubleKind.TRANSACTION_UNDECIDED, e.worker, now.s, ended)
        ended = f"Kafka makes leases for {short_name(e.worker)} again."
        self.news.troubles.clear(TroubleKind.LEASE_REFUSED, e.worker, now.s, ended)
        live = tenancy(before) is Tenancy.LIVE
        if e.new_boot:
            what = LeaseStep.OTHER_BOOT if live else LeaseStep.WANTS_LEASE
        elif live:
            what = LeaseStep.FENCE
        else:  # a second fence changes nothing that is written
            fleet.end_fence(e.worker)
            return
        lease, orphans = lease_after_step(
            before,
            what,
            new_boot=e.new_boot,
            transactional_id=e.transactional_id,
            producer_id=e.producer_id,
            producer_epoch=e.producer_epoch,
            leader_epoch=fleet.leader_epoch,
            engine=self._engine_of(e),
        )
        lost = fleet.owned_by(e.worker) if orphans else []
        why = f"{e.worker} restarted" if e.new_boot else f"{e.worker} is gone"
        records = {
            p: record_after_step(
                fleet.partitions[p],
                Step.FENCE,
                leader_epoch=fleet.leader_epoch,
                now_ms=now.ms,
                why=why,
                # If the group's offsets are gone, the last ones that we saw: a new owner would
                # start at 0 if the record said 0.
                offset=e.offsets.get(p, fleet.committed.get(p)),
            )
            for p in lost
        }
        if lost and e.new_boot:
            self.news.report_restarted(fleet.inventory.workers[e.worker], lost, now.s)
        self.placing.forget_targets(lost)
        fleet.begin_write(records)
        note = Note("fleet", e.worker, f"{what} of {e.worker}", {"lanes": [p.n for p in lost]})
        yield Write(records, {e.worker: lease}, then=(note,))

    def _engine_of(self, made: LeaseMade) -> str:
        """The engine of the boot that gets the lease; a fenced lease keeps its own."""
        view, before = self.fleet.views.get(made.worker), self.fleet.leases.get(made.worker)
        if made.new_boot and view is not None:
            known = view.boot == made.new_boot or view.spec.kind != WorkerKind.ROUTER
            return view.engine if known else KAFKA_STREAMS  # until it is fenced, as it will be
        return before.engine if before is not None else PYTHON

    def handle_lease_failed(self, e: LeaseFailed, now: Now) -> Iterator[Effect]:
        """Kafka has made no lease: try again, and note each reason once."""
        before = self._failures.get(e.worker)
        times = before.times + 1 if before is not None else 1
        rest_s = min(RETRY_S * 2.0 ** min(times - 1, 30), MAX_RETRY_S) if e.refused else RETRY_S
        self._failures[e.worker] = _LeaseFailure(e.reason, times, now.s + rest_s)
        self.failed_leases += 1
        if e.undecided:
            self.news.troubles.set(TroubleKind.TRANSACTION_UNDECIDED, e.worker, e.reason, now.s)
        elif e.refused:
            text = (
                f"Kafka refuses me a lease for {short_name(e.worker)}: {e.reason}. It works "
                "nothing until that is fixed (geolane provision --only kafka sets the rights). I "
                f"try again, at least every {MAX_RETRY_S:g} s."
            )
            self.news.troubles.set(TroubleKind.LEASE_REFUSED, e.worker, text, now.s)
        if e.worker in self.fleet.views:
            self.fleet.end_fence(e.worker)
            self.fleet.views[e.worker].retry_at = now.s + rest_s
        else:
            self.membership.strangers[e.worker] = now.s + rest_s
        if before is None or before.reason != e.reason:
            yield Note("alert", "", f"no lease for {e.worker}: {e.reason}", {"about": e.worker})
