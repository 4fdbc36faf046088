"""The answers of `node` and `lane`: everything that is known of one, as text and as values from the
same figures."""

from __future__ import annotations

import math

import msgspec

from agents.base.text import clip_words, counted
from agents.core.fleet.fleet import Fleet, View
from agents.core.fleet.paths import MeasuredPaths
from agents.core.fleet.summary import health_word, lane_loads, node_rate_eps
from agents.core.geo.figures import format_figure_source
from agents.core.model.answers import (
    Answer,
    BrokerRtt,
    LaneData,
    NodeData,
    PartitionFault,
    RaisedForecast,
)
from agents.core.model.geo import lane_key
from agents.core.model.messages import Health, LaneLoad
from agents.core.model.placement import State
from agents.core.model.times import format_took
from agents.core.model.topology import ASIDE, PYTHON, Partition, WorkerSpec, short_name
from agents.core.operators.command import Context
from agents.core.operators.explain import describe_raise, describe_traffic
from agents.core.operators.look import TROUBLES, describe_device
from agents.core.operators.tables import lane_figures, worker_figures

BROKERS = 5  # shown by `node`


def _describe_paths(paths: MeasuredPaths, worker: str, now: float) -> list[str]:
    """A line with the round trips to brokers, the shortest first; none if there are none."""
    found = sorted(paths.paths_of(worker).items(), key=lambda item: item[1].rtt_ms)
    if not found:
        return []
    said = [
        f"broker {broker} {path.rtt_ms:.1f} ms ({counted(path.probes, 'probe')}, "
        f"{max(0.0, now - path.measured_s):.0f} s ago)"
        for broker, path in found[:BROKERS]
    ]
    more = f" and {len(found) - BROKERS} more, up to {found[-1][1].rtt_ms:.1f} ms"
    return [f"Round trip to {', '.join(said)}{more if found[BROKERS:] else ''}."]


def _describe_capacity(fleet: Fleet, spec: WorkerSpec) -> str:
    capacity_eps = fleet.statuses[spec.worker].capacity_eps
    if capacity_eps >= spec.capacity_eps:
        return f"capacity {capacity_eps:,.0f} events/s"
    return (
        f"capacity {spec.capacity_eps:,.0f} events/s, limited to {capacity_eps:,.0f} by its own "
        "worker.capacity_eps"
    )


def describe_node(fleet: Fleet, paths: MeasuredPaths, view: View, now: float) -> Answer:
    spec, worker = view.spec, view.spec.worker
    owned = fleet.owned_by(worker)
    who = f"Node {spec.label}" if spec.label.isdecimal() else spec.label
    lines = [
        f"{who} is {health_word(fleet, view)}: {counted(len(owned), 'partition')}, "
        f"{node_rate_eps(fleet, worker):,.0f} events/s."
    ]
    site = fleet.inventory.sites[spec.site]
    lines.append(f"At {spec.site} ({site.region}); {_describe_capacity(fleet, spec)}.")
    if view.telemetry is not None:
        t = view.telemetry
        lines.append(
            f"CPU {t.cpu:.0%} of a core, {t.mem_mb:.0f} MB; last heard "
            f"{format_took(max(0.0, now - view.heard_at))} ago."
        )
        lines += _describe_paths(paths, worker, now)
        lines += [describe_device(x) for x in t.accelerators]
    elif not view.present:
        lines.append("Nothing has been heard from it.")
    if owned:
        lines.append(
            "Owns "
            + ", ".join(p.label if spec.kind.optional else str(p.n) for p in owned[:20])
            + (" ..." if len(owned) > 20 else "")
            + "."
        )
    if view.telemetry is not None:
        faulty = [load for load in view.telemetry.lanes if load.fault]
        lines += [
            f"{Partition(load.topic, load.n).label.capitalize()} {_describe_fault(load.fault)}"
            for load in faulty[:TROUBLES]
        ]
    if view.engine != PYTHON:
        shared = ", ".join(str(p.n) for p in fleet.worked_by_streams(view)) or "none"
        lines.append(f"It runs Kafka Streams, whose group gave it raw partitions: {shared}.")
    if view.telemetry is not None and view.telemetry.pipeline:
        lines.append(f"It runs {view.telemetry.pipeline}.")
    if view.status and view.health is not Health.AVAILABLE:
        lines.append(f"It says: {clip_words(view.status, 100)}")
    return Answer("\n".join(lines), _node_data(fleet, paths, view, now))


def _node_data(fleet: Fleet, paths: MeasuredPaths, view: View, now: float) -> NodeData:
    spec, t = view.spec, view.telemetry
    return NodeData(
        **msgspec.structs.asdict(worker_figures(fleet, paths, view)),
        inventory_capacity_eps=spec.capacity_eps,
        topic=spec.kind.kafka_topic,
        owned=tuple(p.n for p in fleet.owned_by(spec.worker) or fleet.worked_by_streams(view)),
        faults=tuple(PartitionFault(x.n, x.fault) for x in (t.lanes if t else ()) if x.fault),
        cpu_cores=t.cpu if t else None,
        memory_mb=t.mem_mb if t else None,
        silent_s=round(max(0.0, now - view.heard_at), 1) if t else None,
        brokers=tuple(
            BrokerRtt(
                broker=broker,
                rtt_ms=path.rtt_ms,
                probes=path.probes,
                age_s=round(max(0.0, now - path.measured_s), 1),
            )
            for broker, path in sorted(paths.paths_of(spec.worker).items())
        ),
        accelerators=t.accelerators if t else (),
        engine=view.engine,
        pipeline=(t.pipeline or None) if t else None,
        says=view.status,
    )


def _describe_fault(fault: str) -> str:
    what = "is held up" if fault.startswith(ASIDE) else "has stopped"
    return f"{what}: {fault.removeprefix(ASIDE)}"


def describe_lane(c: Context, p: Partition) -> Answer:
    fleet, placing, now = c.fleet, c.placing, c.now
    s, load = fleet.partitions[p], lane_loads(fleet).get(p.n)
    where = {
        State.ASSIGNED: f"on {short_name(s.worker)}",
        State.RELEASING: f"being released by {short_name(s.worker)}",
        State.ORPHAN: "without an owner",
    }[s.state]
    lines = [f"Lane {p.n} is {where} (epoch {s.epoch}, {s.why or 'no reason recorded'})."]
    if load:
        lines.append(
            f"{load.rate_eps:,.0f} events/s, lag {load.lag_events:,}, p50 {load.p50_ms:,.0f} ms, "
            f"p99 {load.p99_ms:,.0f} ms."
        )
        if load.fault:
            lines.append(f"It {_describe_fault(load.fault)}")
    data = _lane_data(c, p, load)
    if data.arrival_eps is not None:
        expected = (
            f"; {data.forecast_eps:,.0f} are expected in {data.forecast_s:,.0f} s"
            if data.forecast_eps is not None
            else ""
        )
        raised = describe_raise(placing, p)
        expected += f" ({raised})" if raised else ""
        lines.append(f"{data.arrival_eps:,.0f} events/s arrive{expected}.")
    around = f"Its events come from around {data.lat:.2f}, {data.lon:.2f}"
    if (name := placing.inputs.geo.name_of(lane_key(p.n), now)) is not None:
        around += f": {name.value} ({format_figure_source(name, now)})"
    lines.append(f"{around}. {describe_traffic(placing, p, now)}".strip())
    return Answer("\n".join(lines), data)


def _lane_data(c: Context, p: Partition, load: LaneLoad | None) -> LaneData:
    s, inputs = c.fleet.partitions[p], c.placing.inputs
    arrival_eps, forecast_eps = inputs.rates.lane_eps(p.n, c.now), math.nan
    if arrival_eps is not None:
        forecast_eps = float(inputs.foresight.predict_rates(c.now_ms / 1000)[p.n])
    raised, name = inputs.raises.get(p.n), inputs.geo.name_of(lane_key(p.n), c.now)
    traffic = inputs.geo.traffic.get(p.n, c.now)
    return LaneData(
        **msgspec.structs.asdict(lane_figures(p.n, s, load)),
        why=s.why,
        arrival_eps=arrival_eps,
        forecast_eps=None if math.isnan(forecast_eps) else forecast_eps,
        forecast_s=inputs.settings.calm.forecast_s,
        raised=RaisedForecast(raised.times, raised.place) if raised else None,
        lat=float(inputs.places.lat[p.n]),
        lon=float(inputs.places.lon[p.n]),
        place=(name.value or None) if name else None,
        traffic=None
        if traffic is None or traffic.value is None
        else c.geo.traffic_row(p.n, traffic, traffic.value, c.now),
    )
