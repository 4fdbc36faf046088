"""The answers of commands that look, readable on a phone and at a desk: the answer is in the first
line (tables.py has the tables)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agents.base.text import clip_words, counted
from agents.core.fleet.data_paths import NO_BROKER
from agents.core.fleet.fleet import Fleet, View
from agents.core.fleet.paths import MeasuredPaths
from agents.core.fleet.placing import Placing
from agents.core.fleet.summary import (
    find_busiest_node,
    health_word,
    lane_loads,
    node_load,
    node_rate_eps,
    summarise_fleet,
)
from agents.core.fleet.troubles import Troubles
from agents.core.geo.figures import format_figure_source
from agents.core.model.answers import Answer, BusiestNode, FleetState, PlanFigures, StatusData
from agents.core.model.feeds import FleetSummary, TroubleRow
from agents.core.model.geo import lane_key
from agents.core.model.messages import Accelerator, Health
from agents.core.model.placement import PAUSE, State
from agents.core.model.plan import DataBroker, PathBasis, Scored
from agents.core.model.times import format_duration, format_took
from agents.core.model.topology import (
    ASIDE,
    PYTHON,
    Partition,
    WorkerKind,
    WorkerSpec,
    short_name,
)
from agents.core.operators.explain import describe_network, describe_raise, describe_traffic
from agents.core.operators.held_back import describe_held_back

TROUBLES = 3  # shown by `status` in a chat
BROKERS = 5  # shown by `node`


def describe_fleet(
    fleet: Fleet,
    placing: Placing,
    troubles: Troubles,
    now: float,
    troubles_at_most: int = TROUBLES,
    prefix: str = "",
) -> Answer:
    """The fleet in a few lines, beginning with the troubles, the worst first."""
    s = summarise_fleet(fleet, placing.inputs.rates, troubles, now, paused=PAUSE in fleet.intents)
    well = s.nodes_available == s.nodes and s.lanes_assigned == s.lanes and s.routers > 0
    standing = troubles.list_worst_first()
    state: FleetState = (
        "paused" if s.paused else "trouble" if standing else "calm" if well else "working"
    )
    word = "Working on it" if state == "working" else state.capitalize()
    lines = [
        f"{t.severity.value.capitalize()}, for {format_duration(now - t.since_s)} "
        f"({f'{t.at_work} is at it' if t.at_work else f'{prefix}ack {t.id}'}): {t.text}"
        for t in standing[:troubles_at_most]
    ]
    if more := len(standing[troubles_at_most:]):
        lines.append(f"{counted(more, 'more trouble')}: follow alerts, or geolane ctl status.")
    lines += [
        f"{word}: {s.nodes_available}/{s.nodes} nodes, {s.lanes_assigned}/{s.lanes} lanes, "
        f"{s.rate_eps:,.0f} events/s."
    ]
    lines += _describe_lag(fleet, s)
    if not s.routers:
        lines.append("No router: nothing reaches the lanes.")
    if waiting := sum(load.lag_events for load in lane_loads(fleet, WorkerKind.GEO).values()):
        lines.append(f"{counted(waiting, 'event')} wait for the coordinates of their place.")
    if placing.last is not None:
        lines += _describe_plan(fleet, placing.last)
    lines += describe_held_back(placing, now)
    if (off := placing.inputs.foresight.error_shares()) is not None:
        ahead_s = placing.inputs.settings.calm.forecast_s
        lines.append(
            f"Forecast {ahead_s:,.0f} s ahead: off by {off[0]:.0%}; the last value would be off "
            f"by {off[1]:.0%}."
        )
    runs = {
        v.telemetry.pipeline
        for v in fleet.views.values()
        if v.present and v.telemetry and v.telemetry.pipeline
    }
    if len(runs) > 1:
        lines.append(f"{len(runs)} versions of the pipeline run; node NAME shows which.")
    lines += [f"The coordinator's {describe_device(x)}" for x in fleet.devices]
    lines.append(f"Leader epoch {fleet.leader_epoch}.")
    rows = troubles.worst_rows(now).rows
    return Answer("\n".join(lines), _status_data(fleet, placing.last, s, state, rows))


def _describe_lag(fleet: Fleet, s: FleetSummary) -> Iterator[str]:
    if loads := lane_loads(fleet).values():
        worst = max(loads, key=lambda lane: lane.lag_events)
        slow = max(loads, key=lambda lane: lane.p99_ms)
        lag = f"{counted(s.lag_events, 'event')}, most in lane {worst.n} ({worst.lag_events:,})"
        yield f"Lag {lag}." if s.lag_events else "No lag."
        yield f"Processing p99 {slow.p99_ms:,.0f} ms at worst (lane {slow.n})."


def _describe_plan(fleet: Fleet, last: Scored) -> Iterator[str]:
    after, best = last.plan.after, last.plan.optimum
    yield (
        f"Network RTT {after.mean_rtt_ms:.1f} ms an event ({describe_network(last)}); busiest "
        f"node{_describe_busiest_node(fleet)}, {after.utilisation:.0%} in the forecast that plans "
        "use."
    )
    yield from _describe_brokers(last.moment.brokers)
    moves = f"{counted(best.moves, 'lane')} to move" if best.moves else "nothing to move"
    yield (
        f"Within {best.gap:.1%} of the best placement ({moves}); planned in {last.took_ms:.0f} ms."
    )


def _status_data(
    fleet: Fleet,
    last: Scored | None,
    s: FleetSummary,
    state: FleetState,
    troubles: tuple[TroubleRow, ...],
) -> StatusData:
    busiest, plan = find_busiest_node(fleet), None
    if last is not None:
        plan = PlanFigures(
            mean_rtt_ms=round(last.plan.after.mean_rtt_ms, 3),
            rtt_basis=describe_network(last),
            busiest_load=round(last.plan.after.utilisation, 4),
            gap=last.plan.optimum.gap,
            moves_left=last.plan.optimum.moves,
            took_ms=round(last.took_ms, 1),
        )
    return StatusData(
        state=state,
        leader_epoch=fleet.leader_epoch,
        busiest=None
        if busiest is None
        else BusiestNode(busiest.spec.label, round(node_load(fleet, busiest), 4)),
        plan=plan,
        troubles=troubles,
        **{name: getattr(s, name) for name in FleetSummary.figure_names()},
    )


def _describe_busiest_node(fleet: Fleet) -> str:
    busiest = find_busiest_node(fleet)
    return "" if busiest is None else f" {node_load(fleet, busiest):.0%} now ({busiest.spec.label})"


def _describe_brokers(brokers: Sequence[DataBroker]) -> list[str]:
    """Which RTTs to Kafka are not measured, and what follows."""
    lines = []
    modelled = [b for b in brokers if b.basis == PathBasis.MODELLED]
    if modelled:
        lines.append(
            f"RTT to {_name_brokers(modelled)}: modelled by site, until workers have measured it."
        )
    unknown = [b for b in brokers if b.basis == PathBasis.UNKNOWN and b.id != NO_BROKER]
    if unknown:
        lines.append(
            f"RTT to {_name_brokers(unknown)}: not measured yet, and no rack names a site of the "
            "inventory. For their lanes all nodes count as equally near. Set broker.rack to the "
            "site's name, or list the rack in [[site]] racks."
        )
    if any(b.id == NO_BROKER for b in brokers):
        lines.append(
            "Kafka names no leader for some lanes yet: for them all nodes count as equally near."
        )
    return lines


def _name_brokers(brokers: Sequence[DataBroker]) -> str:
    names = [f"broker {b.id}" + (f" at {b.site}" if b.site else "") for b in brokers]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")


def describe_device(x: Accelerator) -> str:
    """One accelerator in a line, with its figures."""
    said = []
    if x.utilisation is not None:
        said.append(f"{x.utilisation:.0%} busy")
    if x.mem_used_mb is not None and x.mem_total_mb is not None:
        said.append(f"{x.mem_used_mb / 1024:.0f} of {x.mem_total_mb / 1024:.0f} GB")
    if x.temperature_c is not None:
        said.append(f"{x.temperature_c:.0f} C")
    if x.faults:
        said.append(f"faults: {', '.join(x.faults)}")
    return f"{x.name}: {', '.join(said) or 'ok'}."


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


def describe_node(fleet: Fleet, paths: MeasuredPaths, view: View, now: float) -> str:
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
    return "\n".join(lines)


def _describe_fault(fault: str) -> str:
    what = "is held up" if fault.startswith(ASIDE) else "has stopped"
    return f"{what}: {fault.removeprefix(ASIDE)}"


def describe_lane(fleet: Fleet, placing: Placing, p: Partition, now: float, now_ms: int) -> str:
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
    arriving = placing.inputs.rates.lane_eps(p.n, now)
    if arriving is not None:
        soon = float(placing.inputs.foresight.predict_rates(now_ms / 1000)[p.n])
        expected = (
            f"; {soon:,.0f} are expected in {placing.inputs.settings.calm.forecast_s:,.0f} s"
            if soon == soon
            else ""
        )
        raised = describe_raise(placing, p)
        expected += f" ({raised})" if raised else ""
        lines.append(f"{arriving:,.0f} events/s arrive{expected}.")
    places = placing.inputs.places
    around = f"Its events come from around {places.lat[p.n]:.2f}, {places.lon[p.n]:.2f}"
    if (name := placing.inputs.geo.name_of(lane_key(p.n), now)) is not None:
        around += f": {name.value} ({format_figure_source(name, now)})"
    lines.append(f"{around}. {describe_traffic(placing, p, now)}".strip())
    return "\n".join(lines)
