"""The answer of `status`, readable on a phone and at a desk: the answer is in the first line
(details.py has those about one node or lane, tables.py the tables)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agents.base.text import counted
from agents.core.fleet.data_paths import NO_BROKER
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.placing import Placing
from agents.core.fleet.summary import (
    find_busiest_node,
    lane_loads,
    node_load,
    summarise_fleet,
)
from agents.core.fleet.troubles import Troubles
from agents.core.model.answers import Answer, BusiestNode, FleetState, PlanFigures, StatusData
from agents.core.model.feeds import FleetSummary, TroubleRow
from agents.core.model.messages import Accelerator
from agents.core.model.placement import PAUSE
from agents.core.model.plan import DataBroker, PathBasis, Scored
from agents.core.model.times import format_duration
from agents.core.model.topology import WorkerKind
from agents.core.operators.explain import describe_network
from agents.core.operators.held_back import describe_held_back

TROUBLES = 3  # shown by `status` in a chat


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
    nodes = [w for w, v in fleet.views.items() if v.spec.kind.planned]
    settled = all(fleet.statuses[w].takes or _is_drained(fleet, w) for w in nodes)
    well = settled and s.lanes_assigned == s.lanes and s.routers > 0
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


def _is_drained(fleet: Fleet, worker: str) -> bool:
    """Whether it is there, as somebody wants it, without lanes."""
    status = fleet.statuses[worker]
    return status.usable and status.drained and not fleet.owned_by(worker)


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
