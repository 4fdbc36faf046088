"""What follows from a lease that was made: it is written, with the orphaning of all that its former boot had (PROTOCOL 2.2)."""

from __future__ import annotations

from collections.abc import Iterator

from agents.core.effects import Effect, LeaseMade, Note, Write
from agents.core.fleet import Fleet
from agents.core.handover import LeaseStep, Step, Tenancy, lease_step, step, tenancy
from agents.core.operators.news import News
from agents.core.planning.placing import Placing


def lease_made(fleet: Fleet, placing: Placing, news: News, e: LeaseMade, now: float, now_ms: int) -> Iterator[Effect]:
    """Fence first, then write: the lease and the orphans in one transaction."""
    before = fleet.leases.get(e.worker)
    what = LeaseStep.FENCE if not e.new_boot else LeaseStep.WANTS_LEASE
    if e.new_boot and tenancy(before) is Tenancy.LIVE:
        what = LeaseStep.OTHER_BOOT
    if what is LeaseStep.FENCE and tenancy(before) is not Tenancy.LIVE:
        if e.worker in fleet.views:
            fleet.views[e.worker].fencing = False
        return
    lease, orphans = lease_step(
        before, what, new_boot=e.new_boot, transactional_id=e.transactional_id, producer_id=e.producer_id,
        producer_epoch=e.producer_epoch, leader_epoch=fleet.leader_epoch,
    )  # fmt: skip
    lost = fleet.owned_by(e.worker) if orphans else []
    why = f"{e.worker} restarted" if e.new_boot else f"{e.worker} is gone"
    records = {
        p: step(
            fleet.partitions[p], Step.FENCE, leader_epoch=fleet.leader_epoch, now_ms=now_ms, why=why,
            # Where the group's offsets are gone: what was seen of them. A record that says 0 is begun at 0.
            offset=e.offsets.get(p, fleet.committed.get(p)),
        )
        for p in lost
    }  # fmt: skip
    if lost and e.new_boot:
        news.restarted(fleet.inventory.workers[e.worker], lost, now)
    placing.orphaned(lost)
    fleet.begin_write(records)
    yield Write(
        records,
        {e.worker: lease},
        then=(Note("fleet", e.worker, f"{what} of {e.worker}", {"lanes": [p.n for p in lost]}),),
    )
