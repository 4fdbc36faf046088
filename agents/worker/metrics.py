"""A worker's Prometheus metrics, read from engine and link on their event loop."""

from __future__ import annotations

from agents.core.model.topology import kind_from_account
from agents.observe.metrics import declared as m
from agents.observe.metrics.samples import Samples
from agents.worker.worker_engine import DataPlane
from agents.xmpp.worker_session import VERSION, WorkerLink


def add_worker_metrics(worker: str, engine: DataPlane, link: WorkerLink, out: Samples) -> None:
    """Add all metrics of `worker` (its account: node-iad-1)."""
    tenure, meters = engine.tenure, engine.meters
    kind = kind_from_account(worker)
    out.add(m.WORKER_INFO, 1, worker, kind.name if kind else "", VERSION)
    out.add(m.XMPP_UP, link.is_up, worker)
    out.add(m.KAFKA_UP, engine.kafka_up, worker)
    out.add(m.LEASED, tenure.lease is not None, worker)
    out.add(m.DRAINING, tenure.draining, worker)
    out.add(m.SEEN_EPOCH, tenure.leader_epoch, worker)
    topic = tenure.topic.partition("/")[2]
    for n, done in sorted(meters.done.items()):
        out.add(m.EVENTS_IN, done.taken, worker, topic, n)
        out.add(m.EVENTS_OUT, done.out, worker, topic, n)
        out.add(m.EVENTS_FILTERED, done.filtered, worker, topic, n)
        out.add(m.EVENTS_DEAD, done.dead, worker, topic, n)
    now_ms = engine.clock.now_ms()
    for lane in engine.owned_partitions():
        n = lane.partition.n
        out.add(m.EPOCH, lane.epoch, worker, topic, n)
        out.add(m.FAULT, bool(lane.fault), worker, topic, n)
        if (lag := lane.lag_events) is not None:
            out.add(m.LAG, lag, worker, topic, n)
        if (oldest_s := lane.oldest_event_age_s(now_ms)) is not None:
            out.add(m.OLDEST, oldest_s, worker, topic, n)
    out.add(m.FAULTS, meters.faults, worker, topic)
    out.add(m.PIPELINE_LOST, engine.lost, worker)
    out.add(m.ABORTS, meters.aborts, worker, topic)
    out.add_histogram(m.PROCESSING, meters.processing, worker, topic)
    out.add_histogram(m.COMMIT, meters.commit, worker, topic)
    for path in engine.path_reports():
        out.add(m.PATH_RTT, path.rtt_ms / 1000, worker, path.broker)
    engine.add_metrics(worker, out)
