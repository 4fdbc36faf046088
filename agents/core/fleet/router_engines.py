"""Which engine routers run, and who therefore shares the raw partitions out: this coordinator, or
Kafka Streams by its own group protocol (docs/router-engines.md).

The two never work at the same time. A router on Kafka Streams works with its lease alone: it gets
one when no raw partition has an owner any more. A raw partition is given to a router of the Python
engine when no lease of a router on Kafka Streams is live any more: it is fenced, and so commits
nothing. While the offset of a raw partition is being set, no router on Kafka Streams has a lease,
since it would not see the new offset. A router whose engine is not that of our settings is told to
restart, and gets no lease until it has the right one."""

from __future__ import annotations

from collections.abc import Iterator

from agents.core.effects import Effect
from agents.core.events import Now
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.incidents import News
from agents.core.fleet.placing import Placing
from agents.core.fleet.placing_inputs import Target
from agents.core.fleet.reconcile import make_lease
from agents.core.fleet.troubles import TroubleKind
from agents.core.model.feeds import Severity
from agents.core.model.topology import KAFKA_STREAMS, WorkerKind

CHANGED = "routers run on Kafka Streams now"


def advance_engines(fleet: Fleet, placing: Placing, now: Now) -> Iterator[Effect]:
    """Ask the raw partitions back that Kafka Streams is to work, and end the leases of routers
    whose engine is another than ours and that own nothing, and of routers on Kafka Streams while an
    offset is being set."""
    if fleet.router_engine == KAFKA_STREAMS:
        owned = {
            p: Target("", CHANGED)
            for p in fleet.partitions_of(WorkerKind.ROUTER)
            if placing.can_move(p)
        }
        yield from placing.begin_moves(owned, now.ms)
    writing = {fleet.partitions[p].worker for p in fleet.writing}
    setting = any(p in fleet.held for p in fleet.partitions_of(WorkerKind.ROUTER))
    for spec in fleet.inventory.workers_of(WorkerKind.ROUTER):
        worker, view = spec.worker, fleet.views[spec.worker]
        lease = fleet.leases.get(worker)
        if (
            lease is not None
            and not lease.fenced
            and (lease.engine != fleet.router_engine or (setting and lease.engine == KAFKA_STREAMS))
            and not view.fencing
            and now.s >= view.retry_at
            and worker not in writing
            and not fleet.owned_by(worker)
        ):
            fleet.begin_fence(worker, lease.boot)
            yield make_lease(fleet, worker, "")


def report_engines(fleet: Fleet, news: News, now: float) -> None:
    """The routers that are present with another engine than ours."""
    texts = {
        spec.worker: (
            f"{spec.label} runs the engine {view.engine}, but router.engine of the coordinator is "
            f"{fleet.router_engine}: set it in the settings of both, and restart what was changed. "
            "It works nothing until then."
        )
        for spec in fleet.inventory.workers_of(WorkerKind.ROUTER)
        if (view := fleet.views[spec.worker]).present
        and view.boot not in view.dead
        and view.engine != fleet.router_engine
    }
    news.troubles.set_exactly(TroubleKind.ROUTER_ENGINE, texts, now, Severity.CRITICAL)
