"""A coordinator's Prometheus metrics, read from the process on its event loop."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any, Protocol

from agents.coordinator.performer import Performer
from agents.core.coordinator import Coordinator
from agents.core.fleet.geo_questions import GeoQuestions
from agents.core.fleet.placing import Placing
from agents.core.fleet.plausibility import WHAT
from agents.core.guard import FAULTS
from agents.core.model.messages import Health
from agents.core.model.placement import PAUSE, State
from agents.core.model.topology import WorkerKind
from agents.journal.store import Journal
from agents.observe.metrics import declared as m
from agents.observe.metrics.samples import Samples
from agents.xmpp.election import CoordinatorLink

ME = "coordinator"


class Looked(Protocol):
    """The part of the process (agents/coordinator/process.py) that the metrics read."""

    xmpp_up: bool
    dropped: int
    events: asyncio.Queue[Any]  # only its length is read
    journal: Journal | None
    link: CoordinatorLink
    leading: tuple[Coordinator, Performer] | None


def add_coordinator_metrics(process: Looked, out: Samples) -> None:
    """Add all metrics of the process. A standby has only a few."""
    out.add(m.XMPP_UP, process.xmpp_up, ME)
    out.add(m.QUEUE, process.events.qsize())
    out.add(m.TELEMETRY_DROPPED, process.dropped)
    if process.journal is not None:
        out.add(m.JOURNAL_DROPPED, process.journal.dropped, "notes")
        out.add(m.JOURNAL_DROPPED, process.journal.ticks_dropped, "ticks")
    out.add(m.LEADER, process.leading is not None and process.link.is_leading)
    if process.leading is not None:
        core, performer = process.leading
        out.add(m.STANDBYS, process.link.standby_count)
        add_leader_metrics(core, performer, out)


def add_leader_metrics(core: Coordinator, performer: Performer, out: Samples) -> None:
    """Add the leader's metrics of the fleet and its plan."""
    fleet = core.fleet
    out.add(m.KAFKA_UP, performer.is_kafka_answering(), ME)
    out.add(m.LEADER_EPOCH, fleet.leader_epoch)
    workers = Counter(
        (v.spec.kind, v.health if v.present else Health.UNAVAILABLE) for v in fleet.views.values()
    )
    kinds = fleet.inventory.kinds_in_use()
    for kind in kinds:
        for health in Health:
            out.add(m.WORKERS, workers[kind, health], kind.name, health)
    states = Counter((p.topic, placed.state) for p, placed in fleet.partitions.items())
    for kind in kinds:
        topic = kind.kafka_topic
        for state in State:
            out.add(m.PARTITIONS, states[kind.topic, state], topic, state)
        out.add(m.MOVES, core.counts.moves[topic], topic)
    for trouble, count in core.news.troubles.count_by_kind().items():
        out.add(m.TROUBLES, count, trouble)
    out.add(m.FENCES, core.counts.fences)
    out.add(m.LEASES_FAILED, core.fencing.failed_leases)
    out.add(m.PAUSED, PAUSE in fleet.intents)
    for what in WHAT:
        out.add(m.REFUSED, core.refusals.counts[what], what)
    for what in FAULTS:
        out.add(m.COORDINATOR_FAULTS, core.guard.counts[what], what)
    out.add(m.DRAINED, sum(status.drained for status in fleet.statuses.values()))
    counts = core.hotspots.counts
    out.add(m.HOTSPOTS_OPEN, len(core.hotspots.open))
    out.add(m.HOTSPOTS_OPENED, counts["opened"])
    out.add(m.HOTSPOTS_ENDED, counts["ended"])
    out.add(m.HOTSPOT_RECORDS_SKIPPED, counts["skipped"] + counts["untracked"])
    _add_plan_metrics(core.placing, out)
    if WorkerKind.GEO in kinds:
        add_geo_metrics(core.geo, out)


def add_geo_metrics(geo: GeoQuestions, out: Samples) -> None:
    """Add the traffic that plans count now, and what was asked for it."""
    for lane, _, index in geo.list_known(time.monotonic()):
        out.add(m.TRAFFIC_INDEX, index, str(lane))
    for command in ("traffic", "names"):
        for outcome in ("answered", "failed"):
            out.add(m.GEO_QUESTIONS, geo.counts[command, outcome], command, outcome)
    out.add(m.GEO_CALLS, geo.budget.calls)
    out.add(m.GEO_DAILY_CALLS, geo.budget.daily_calls)


def _add_plan_metrics(placing: Placing, out: Samples) -> None:
    out.add(m.LANES_WAITING, len(placing.waiting))
    if (error := placing.inputs.foresight.error_shares()) is not None:
        out.add(m.FORECAST_ERROR, error[0])
        out.add(m.LAST_VALUE_ERROR, error[1])
    if (last := placing.last) is None:
        return
    plan = last.plan
    out.add(m.LANES_STUCK, len(plan.stuck))
    out.add(m.PLAN_OBJECTIVE, plan.optimum.objective / 1000)
    out.add(m.PLAN_BOUND, plan.optimum.bound / 1000)
    out.add(m.PLAN_GAP, plan.optimum.gap)
    out.add(m.PLAN_MOVES, plan.optimum.moves)
    out.add(m.PLAN_SECONDS, last.took_ms / 1000)
    out.add(m.MEAN_RTT, plan.after.mean_rtt_ms / 1000)
    out.add(m.UTILISATION, plan.after.utilisation)
