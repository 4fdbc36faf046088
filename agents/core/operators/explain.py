"""`explain`: a decision in words and ms. It tells the present node, the chosen one and the
runner-up, each term of their costs, the price of room, what binds, which nodes were left out and
why, and what would change the decision. At most 8 lines. The text says whether milliseconds between
places were measured, or come from the RTT table and a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agents.base.text import counted, to_one_line
from agents.core.fleet.data_paths import NO_BROKER
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.paths import MeasuredPath
from agents.core.fleet.placing import Placing
from agents.core.geo.figures import NO_TRAFFIC, format_figure_source
from agents.core.model.answers import (
    Answer,
    Binding,
    CostRole,
    ExplanationData,
    LeftOut,
    NodeCost,
)
from agents.core.model.geo import NO_PROVIDER
from agents.core.model.messages import STARTING, Health
from agents.core.model.placement import PAUSE, Placed, State
from agents.core.model.plan import PathBasis, Scored
from agents.core.model.topology import Partition, WorkerKind, short_name
from agents.core.planning.limits import ROUNDING
from kernels.reference import compute_feasible_pairs, compute_terms
from kernels.tables import Bools, Floats, Ints

NO_PATHS: Mapping[str, MeasuredPath] = {}
WHY_LIMIT = 100  # characters of a reason, so that the other lines fit
NAMES = 2  # nodes named per reason to leave them out
NOTICEABLE_MS = 0.05  # anything less is shown as 0.0
_TERMS = (
    ("rtt_ms", "RTT"),
    ("traffic_ms", "traffic"),
    ("miss_ms", "cold caches"),
    ("egress_ms", "egress"),
    ("degraded_ms", "degraded"),
    ("move_ms", "moving"),
)


def explain_lane(placing: Placing, p: Partition, now: float) -> Answer:
    """Why the lane is where it is, according to the last plan."""
    scored, placed = placing.last, placing.fleet.partitions[p]
    paused, absent = PAUSE in placing.fleet.intents, describe_absences(placing.fleet)
    if scored is None or p not in scored.partitions:
        text = f"Lane {p.n} has not been scored yet; try again in a second."
        return Answer(text, _explanation_data(None, p, placed, now, paused=paused))
    case = make_case(scored, p, placed, absent, describe_raise(placing, p))
    text = describe_case(
        case,
        placed,
        now,
        paused=paused,
        paths=placing.inputs.data.paths_to(placing.inputs.data.leaders.get(p.n, NO_BROKER)),
        traffic=describe_traffic(placing, p, now),
    )
    return Answer(text, _explanation_data(case, p, placed, now, paused=paused))


def _explanation_data(
    case: _Case | None, p: Partition, placed: Placed, now: float, *, paused: bool
) -> ExplanationData:
    """The same for programs; without `case` no plan has seen the lane."""
    costs: list[NodeCost] = []
    binds: Binding | None = None
    if case is not None and case.here >= 0:
        other = case.find_cheapest(case.may & ~case.taken)
        binds = _find_constraint(case, other, now, paused)[0]
        rows: list[tuple[CostRole, int]] = [("current", case.here), ("chosen", case.to)]
        costs = [case.cost_at(n, role) for role, n in (*rows, ("runner_up", other)) if n >= 0]
    elif case is not None and p.n in case.plan.waiting:
        binds = "waits"
    return ExplanationData(
        lane=p.n,
        state=placed.state.value,
        node=None if placed.state is State.ORPHAN else short_name(placed.worker),
        epoch=placed.epoch,
        why=placed.why,
        scored=case is not None,
        load_eps=None if case is None else case.eps,
        binds=binds,
        costs=tuple(costs),
        left_out=()
        if case is None
        else tuple(LeftOut(n, why) for why, names in _find_left_out(case).items() for n in names),
    )


def describe_network(scored: Scored) -> str:
    """What the plan's RTTs rest on, in a few words, and how often an event waits for them: the
    worst known of its brokers."""
    if not scored.moment.brokers:
        return "modelled"
    basis = {b.basis for b in scored.moment.brokers}
    worst_first = (PathBasis.UNKNOWN, PathBasis.MODELLED, PathBasis.MEASURED)
    word = next(x for x in worst_first if x in basis)
    k = scored.frame.weights.round_trips
    return "not known yet" if word == PathBasis.UNKNOWN else f"{word}, x {k:g}"


def describe_raise(placing: Placing, p: Partition) -> str:
    """What hotspots did to the lane's forecast in the last plan; empty if nothing."""
    raised = placing.inputs.raises.get(p.n)
    if raised is None:
        return ""
    return f"forecast raised x{raised.times:.1f} by the hotspot at {raised.place}"


def describe_traffic(placing: Placing, p: Partition, now: float) -> str:
    """The traffic that the last plan counted for the lane, and how it is known; empty in a fleet
    without a geo worker."""
    if WorkerKind.GEO not in placing.fleet.inventory.kinds_in_use():
        return ""
    scored = placing.last
    used = NO_TRAFFIC
    if scored is not None and p in scored.partitions:
        used = scored.moment.lanes[scored.partitions.index(p)].traffic
    traffic = placing.inputs.geo.traffic
    figure = traffic.get(p.n, now) or traffic.refusal_of(p.n, now)
    if figure is None:
        if used == NO_TRAFFIC:
            return "Traffic: n/a, not told; it counts as 1."
        return f"Traffic: x{used:.2f} in this plan; that figure has expired."
    source = format_figure_source(figure, now)
    if figure.value is None:
        by = "" if figure.source.provider == NO_PROVIDER else f" ({source})"
        why = to_one_line(figure.reason, WHY_LIMIT).rstrip(".")
        return f"Traffic: n/a, {why}{by}; it counts as 1."
    was = "" if figure.value == used else f" (x{used:.2f} in this plan)"
    return f"Traffic: x{figure.value:.2f}{was}, by {source}."


def gains_elsewhere_ms(scored: Scored, owners: Mapping[Partition, str]) -> dict[Partition, float]:
    """How many ms per event each of these lanes would save at the cheapest other node that has room
    for it; lanes that would save nothing are left out. `owners`: by lane, the node that has it."""
    gains: dict[Partition, float] = {}
    for p, worker in owners.items():
        case = _Case(scored, p, scored.workers.index(worker), {})
        other = case.find_cheapest(case.may & case.takes & case.fits & ~case.taken)
        if other >= 0:
            gain_ms = float(case.ms[case.here] - case.ms[other] - case.price[other])
            gains |= {p: gain_ms} if gain_ms > 0 else {}
    return gains


def describe_absences(fleet: Fleet) -> dict[str, str]:
    """The workers that take no lanes, each with a word that says why."""
    words: dict[str, str] = {}
    for worker, view in fleet.views.items():
        if not view.present:
            words[worker] = "gone"
        elif (status := fleet.statuses[worker]).to_empty:
            words[worker] = "draining" if status.drained else "unhealthy"
        elif not status.takes:
            full = view.health is Health.DND and view.state != STARTING
            words[worker] = "full, by its own report" if full else "starting"
    return words


def make_case(
    scored: Scored, p: Partition, placed: Placed, absent: Mapping[str, str], raised: str = ""
) -> _Case:
    """What the last plan knew of the lane. `absent`: see `describe_absences`. `raised`: what raised
    its forecast."""
    owned = placed.state is not State.ORPHAN and placed.worker in scored.workers
    here = scored.workers.index(placed.worker) if owned else -1
    return _Case(scored, p, here, absent, raised)


def describe_case(
    case: _Case,
    placed: Placed,
    now: float,
    *,
    paused: bool,
    paths: Mapping[str, MeasuredPath] = NO_PATHS,
    traffic: str = "",
) -> str:
    """`explain` in words. `paths`: by worker, the round trips to the lane's broker that were
    measured. `traffic`: see `describe_traffic`."""
    if case.here < 0:
        if case.p.n not in case.plan.waiting:
            return f"Lane {case.p.n} has no owner: it is about to be placed."
        return "\n".join(_describe_waiting(case))
    current = " ".join(
        [_describe_current_node(case, placed), *_describe_path(case, paths, now), traffic]
    ).strip()
    lines = [current, *_describe_chosen_node(case, placed, paused)]
    other = case.find_cheapest(case.may & ~case.taken)
    if other >= 0:
        price = (
            f" (+ {case.price[other]:.1f} price of room)"
            if case.price[other] >= NOTICEABLE_MS
            else ""
        )
        lines.append(f"Runner-up {case.name_node(other)}: {case.describe_cost(other)}{price}.")
    lines += [_describe_room(case), *_find_constraint(case, other, now, paused)[1]]
    lines += _describe_left_out(case)
    lines.append(f"Placed there: {placed.why or 'initial placement'} (epoch {placed.epoch}).")
    return "\n".join(lines)


@dataclass
class _Case:
    """One lane in the last plan. `here`: row of its node, -1 for an orphan. `to`: row of the node
    that the plan moves it to, or -1. Per node: `ms` (the lane's cost there, without the price),
    `price`, `use` and `room` (events/s, with the moves of the plan done), `fits`, `may` (whether
    the lane may be there), `takes`, and `allowed` by its rule."""

    scored: Scored
    p: Partition
    here: int
    absent: Mapping[str, str]
    raised: str = ""

    def __post_init__(self) -> None:
        scored, row = self.scored, self.scored.partitions.index(self.p)
        self.row, self.plan, self.lane = row, scored.plan, scored.moment.lanes[row]
        owner = scored.problem.lanes.owner.copy()
        owner[row] = self.here
        self.problem = scored.problem._replace(lanes=scored.problem.lanes._replace(owner=owner))
        one: Ints = np.array([row], dtype=np.int32)
        self.terms = compute_terms(self.problem, one)
        self.ms: Floats = self.terms.total_ms[0]
        self.price: Floats = np.array(self.plan.price_ms)
        self.may: Bools = compute_feasible_pairs(self.problem, one)[0]
        self.takes: Bools = self.problem.nodes.takes
        rule = int(self.problem.lanes.rule[row])
        self.rule = scored.frame.rules[rule].name if rule >= 0 else ""
        self.allowed: Bools = (
            self.problem.allowed[rule] if rule >= 0 else np.ones(len(self.ms), dtype=bool)
        )
        self.eps = self.plan.load_eps[row]
        self.use = node_loads_eps(scored, seats_after_plan(scored))
        self.room: Floats = np.array(self.plan.room_eps)
        self.fits: Bools = self.use + self.eps <= self.room * (1 + ROUNDING)
        if self.here >= 0:
            self.fits[self.here] = True
        self.to = next((m.to for m in self.plan.moves if m.lane == self.lane.id), -1)
        self.taken: Bools = np.isin(np.arange(len(self.ms)), [self.here, self.to])

    def name_node(self, n: int) -> str:
        return short_name(self.scored.workers[n]) or self.scored.workers[n]

    def describe_cost(self, n: int) -> str:
        """`14.6 modelled ms = 12.6 RTT + 2.0 moving`; terms of 0 are left out. Without the word if
        the RTT is that to Kafka."""
        parts = [(float(getattr(self.terms, field)[0, n]), word) for field, word in _TERMS]
        shown = [(ms, word) for ms, word in parts if abs(ms) >= NOTICEABLE_MS or word == "RTT"]
        text = "".join(f" {'-' if ms < 0 else '+'} {abs(ms):.1f} {word}" for ms, word in shown)
        unit = "modelled ms" if self.lane.broker is None else "ms"
        return f"{self.ms[n]:.1f} {unit} = {text.removeprefix(' + ')}"

    def cost_at(self, n: int, role: CostRole) -> NodeCost:
        terms = {name: round(float(getattr(self.terms, name)[0, n]), 3) for name, _ in _TERMS}
        price_ms, total_ms = round(float(self.price[n]), 3), round(float(self.ms[n]), 3)
        return NodeCost(
            node=self.name_node(n), role=role, total_ms=total_ms, price_ms=price_ms, **terms
        )

    def find_cheapest(self, among: Bools) -> int:
        """The row of the cheapest node, including the price of room; -1 if there is none."""
        if not among.any():
            return -1
        return int(np.where(among, self.ms + self.price, np.inf).argmin())


def seats_after_plan(scored: Scored) -> Ints:
    """The row of each lane's node once the plan is carried out, -1 for none, int32[L]."""
    row_of = {lane.id: row for row, lane in enumerate(scored.moment.lanes)}
    sits = scored.problem.lanes.owner.copy()
    for n in scored.plan.parked:
        sits[row_of[n]] = -1
    for a in scored.plan.assignments:
        sits[row_of[a.lane]] = a.to
    for m in scored.plan.moves:
        sits[row_of[m.lane]] = m.to
    return sits


def node_loads_eps(scored: Scored, sits: Ints) -> Floats:
    """The load of each node with the lanes at `sits`, in events/s, float64[N]."""
    use: Floats = np.zeros(len(scored.workers))
    np.add.at(use, sits[sits >= 0], np.array(scored.plan.load_eps)[sits >= 0])
    return use


def _describe_current_node(case: _Case, placed: Placed) -> str:
    word = "is leaving" if placed.state is State.RELEASING else "is on"
    return f"Lane {case.p.n} {word} {case.name_node(case.here)}: {case.describe_cost(case.here)}."


def _describe_path(case: _Case, paths: Mapping[str, MeasuredPath], now: float) -> list[str]:
    """What the RTT of the lane's node to its data is, and how it is known: `RTT: 12.6 ms measured
    (15 probes, 2 s ago) x 5.5, to broker 2 at ams.`"""
    if case.lane.broker is None:
        return []
    broker = case.scored.moment.brokers[case.lane.broker]
    if broker.id == NO_BROKER:
        return ["Which broker leads it is not known yet, so all nodes count as equally near."]
    whither = f"broker {broker.id}" + (f" at {broker.site}" if broker.site else "")
    if broker.basis == PathBasis.UNKNOWN:
        return [f"The RTT to {whither} is not known yet, so all nodes count as equally near."]
    how = "modelled"
    if broker.basis == PathBasis.MEASURED:
        how = "estimated from earlier or others' probes"
        if (path := paths.get(case.scored.workers[case.here])) is not None:
            age_s = max(0.0, now - path.measured_s)
            how = f"measured ({counted(path.probes, 'probe')}, {age_s:.0f} s ago)"
    k = case.scored.frame.weights.round_trips
    return [f"RTT: {broker.path_ms[case.here]:.1f} ms {how} x {k:g}, to {whither}."]


def _describe_chosen_node(case: _Case, placed: Placed, paused: bool) -> list[str]:
    """Where the lane will go, if it will move."""
    move = next((m for m in case.plan.moves if m.lane == case.lane.id), None)
    if placed.state is State.RELEASING:
        to = case.lane.target
        return (
            []
            if to is None or to == case.here
            else [f"Chosen: {case.name_node(to)}; it is moving there."]
        )
    if case.lane.id in case.plan.parked:
        if case.allowed[case.here]:
            return ["It has to wait: not all lanes fit, and others come first."]
        return [
            f"It has to wait: rule {case.rule} forbids {case.name_node(case.here)}, and no node "
            "that meets it has room."
        ]
    if move is None:
        return []
    word = "the planner is paused, so it stays" if paused else "it moves now"
    return [
        f"Chosen: {case.name_node(move.to)}, {case.describe_cost(move.to)} ({move.reason}; {word})."
    ]


def _describe_room(case: _Case) -> str:
    n, price = case.here, float(case.price[case.here])
    cost = f"room costs {price:.1f} ms" if price >= NOTICEABLE_MS else "room costs nothing"
    return (
        f"{case.name_node(n)}: {case.use[n]:,.0f} of {case.room[n]:,.0f} events/s allowed, "
        f"{case.eps:,.0f} for this lane{f' ({case.raised})' if case.raised else ''}; {cost}."
    )


def _find_constraint(
    case: _Case, other: int, now: float, paused: bool
) -> tuple[Binding, list[str]]:
    """The constraint that keeps the lane from a cheaper node, as a word and as lines that also say
    what would change the decision.

    The first constraint that applies is told: having to leave, residency, room, then damping."""
    here, ms = case.here, case.ms
    if case.to >= 0:
        return "moves", []
    if not case.may[here]:
        why = case.scored.moment.nodes[here].empty or f"rule {case.rule}"
        if case.lane.id in case.plan.stuck:
            return "room", [
                f"It must leave ({why}), but no allowed node has room for {case.eps:,.0f} "
                "events/s: it stays."
            ]
        if case.lane.id in case.plan.parked:
            return "waits", []
        return "moves", [f"It must leave ({why}), as soon as its turn comes."]
    forbidden = np.where(case.takes & ~case.allowed, ms, np.inf)
    open_ms = np.where(case.may, ms, np.inf)
    banned, best = int(forbidden.argmin()), int(open_ms.argmin())
    if forbidden[banned] < min(open_ms[best], ms[here]) - NOTICEABLE_MS:
        gain = ms[here] - forbidden[banned]
        return "residency", [
            f"Residency binds: rule {case.rule} keeps it from {case.name_node(banned)}, "
            f"{gain:.1f} ms better.",
            f"It would move there if rule {case.rule} allowed it.",
        ]
    if ms[best] >= ms[here] - NOTICEABLE_MS:
        return "nothing", [
            "Nothing binds: no other node would be better.",
            *_describe_counterfactual(case, other),
        ]
    gain = float(ms[here] - ms[best])
    name, free = case.name_node(best), max(0.0, float(case.room[best] - case.use[best]))
    if not case.fits[best]:
        return "room", [
            f"Room binds: {name} is {gain:.1f} ms better, but has {free:,.0f} of {case.eps:,.0f} "
            "events/s free.",
            f"It would move there with {case.eps - free:,.0f} events/s more room.",
        ]
    dearer = float(case.price[best] - case.price[here])
    if dearer >= gain:
        return "room", [
            f"Room binds: {name} is {gain:.1f} ms better, but its room costs {dearer:.1f} ms more: "
            "others need it.",
            f"It would move there if {name} were {dearer - gain:.1f} ms closer.",
        ]
    return "calm", [
        f"Calm binds: {name} is {gain:.1f} ms better; {_describe_damping(case, best, now, paused)}."
    ]


def _describe_counterfactual(case: _Case, other: int) -> list[str]:
    if other < 0:
        return ["It would move if there were another node for it."]
    gap = float(case.ms[other] + case.price[other] - case.ms[case.here] - case.price[case.here])
    short = float(case.use[other] + case.eps - case.room[other])
    room = "" if case.fits[other] else f", with {short:,.0f} events/s more room"
    return [
        f"It would move to {case.name_node(other)} if that were {max(gap, 0.1):.1f} ms "
        f"closer{room}."
    ]


def _describe_damping(case: _Case, to: int, now: float, paused: bool) -> str:
    """Why the lane stays although another node would be better."""
    calm, moment = case.scored.frame.calm, case.scored.moment
    if paused:
        return "the planner is paused"
    if case.lane.moving:
        return "it is already being moved"
    if case.lane.cooldown_until_s > now:
        return f"it moved recently and stays for {case.lane.cooldown_until_s - now:.0f} s more"
    saves = float(
        case.ms[case.here] - case.ms[to] + case.terms.move_ms[0, to] + case.terms.miss_ms[0, to]
    )
    if saves * calm.horizon_s <= calm.pause_ms / 1000 * calm.pause_ms / 2:
        return f"within {calm.horizon_s:.0f} s a move would not earn its cost"
    if moment.orphans_only:
        return "lanes without a node come first"
    since = case.plan.memory.better_since_s.get(case.lane.id)
    window_s = calm.window_s * (calm.windows - 1)
    if since is not None and now - since < window_s:
        return f"it moves if that lasts {window_s - (now - since):.0f} s more"
    return "other lanes move first, or the room is kept for them"


def _describe_waiting(case: _Case) -> list[str]:
    """The lines for an orphan that waits."""
    lines = [f"Lane {case.p.n} has no owner and lags; nothing is lost."]
    lines += [f"Its load: {case.eps:,.0f} events/s, {case.raised}."] if case.raised else []
    takers = case.takes & case.allowed
    most = float(case.room[takers].max()) if takers.any() else 0.0
    if not case.allowed.any():
        lines.append(f"Residency binds: no node of the inventory meets rule {case.rule}.")
    elif not takers.any():
        whose = f"of rule {case.rule} " if case.rule else ""
        lines.append(f"No node {whose}takes lanes now; it is placed as soon as one does.")
    elif case.eps > most:
        lines.append(
            f"Too heavy: {case.eps:,.0f} events/s; no allowed node takes more than {most:,.0f}."
        )
    else:
        free = np.where(takers, case.room - case.use, -np.inf)
        n = int(free.argmax())
        lines.append(
            f"Room binds: it needs {case.eps:,.0f} events/s, {case.name_node(n)} has the most "
            f"room, {max(free[n], 0):,.0f}."
        )
        if case.lane.priority < max(lane.priority for lane in case.scored.moment.lanes):
            lines.append(
                f"Its priority is {case.lane.priority}: lanes with a higher one are placed first."
            )
        lines.append(f"It can be placed with {case.eps - max(free[n], 0):,.0f} events/s more room.")
    return lines + _describe_left_out(case)


def _find_left_out(case: _Case) -> dict[str, list[str]]:
    """The nodes that were left out, by reason: those that take no lanes, those that a rule forbids,
    and those that would be better but are full."""
    better = case.ms < (case.ms[case.here] - NOTICEABLE_MS if case.here >= 0 else np.inf)
    by: dict[str, list[str]] = {}
    for n, worker in enumerate(case.scored.workers):
        if n == case.here:
            continue
        node = case.scored.moment.nodes[n]
        if not case.takes[n]:
            why = node.empty or case.absent.get(worker, "not taking lanes")
        elif not case.allowed[n]:
            why = f"rule {case.rule}"
        elif better[n] and not case.fits[n]:
            why = "full"
        else:
            continue
        by.setdefault(why, []).append(case.name_node(n))
    return by


def _describe_left_out(case: _Case) -> list[str]:
    by = [f"{_join_some_names(names)} ({why})" for why, names in _find_left_out(case).items()]
    return [f"Left out: {'; '.join(by)}."] if by else []


def _join_some_names(names: list[str]) -> str:
    return ", ".join(names[:NAMES]) + (f" + {len(names) - NAMES}" if names[NAMES:] else "")
