"""From fleet to planner and back: what the planner is told, and how what it wants becomes steps of the hand-over.

Lanes go where the planner says (planner.py); raw partitions are spread evenly over the routers. Orphans are placed as soon as there
is somebody to take them; anything else at most once a second."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from agents.core.effects import Effect, Note, Publish, WakeAt, Write
from agents.core.feeds import PLACEMENT, FeedItem, Move, PlacementPlan
from agents.core.fleet import Fleet
from agents.core.handover import Step, step
from agents.core.model import PAUSE, Kind, Partition, Placed, State, short_name
from agents.core.planning.plan import Calm, Lane, Memory, Node, Plan
from agents.core.planning.planner import plan
from agents.core.planning.rates import Rates
from kernels.tables import Candidates, LaneTable, NodeTable, Terms

SETTLE_S = 3.0  # at the first placing: so long after the last worker came, unless all are there
IMPROVE_EVERY_S = 1.0
HOLD_S = 600.0
KEEP_MOVING = frozenset({"draining", "unhealthy"})  # also while the planner is paused

Scorer = Callable[[LaneTable, NodeTable], tuple[Terms, Candidates]]
"""Scores every lane at every node, and lists each lane's candidates. Pure; the coordinator chooses which kernel."""


@dataclass(frozen=True, slots=True)
class LanePlaces:
    """Per lane: where its data is (lat, lon in degrees) and the rate that the lane map expects, events/s."""

    lat: tuple[float, ...]
    lon: tuple[float, ...]
    expected_eps: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PlacingSettings:
    """`region_rows`: site name -> row of its region in the RTT table, -1 where it has none."""

    calm: Calm
    region_rows: dict[str, int]


@dataclass(slots=True)
class Scored:
    """The last time the lanes were scored, kept so that it can be explained. Rows of `lanes` and `nodes` are those of the
    tables; `nodes` are workers' names."""

    lanes: list[Partition]
    nodes: list[str]
    terms: Terms
    candidates: Candidates
    rows: list[Lane]
    columns: list[Node]
    plan: Plan


@dataclass(slots=True)
class Target:
    """Where a move under way is to end; `source` is who has it while it is asked back."""

    worker: str
    why: str
    by: str = ""
    delta_ms: float = 0.0
    source: str = ""


@dataclass(slots=True)
class Placing:
    fleet: Fleet
    places: LanePlaces
    scorer: Scorer
    settings: PlacingSettings
    led_at: float
    rates: Rates = field(default_factory=Rates)
    targets: dict[Partition, Target] = field(default_factory=dict)
    cooldown: dict[Partition, float] = field(default_factory=dict)
    memory: Memory | None = None
    last: Scored | None = None
    plans: int = 0
    waiting: tuple[Partition, ...] = ()
    moved: list[Partition] = field(default_factory=list)
    _opened: set[Kind] = field(default_factory=set)
    _joined_at: float = float("-inf")
    _improved_at: float = float("-inf")
    _placed_version: int = -1

    def joined(self, now: float) -> None:
        """Somebody new may be given partitions."""
        self._joined_at = now

    # ---- orphans, at once ----

    def place(self, now: float, now_ms: int) -> Iterator[Effect]:
        """Give orphans to workers. At the first time it waits a little for all to come, so that the first does not get all."""
        for kind in Kind:
            orphans = self.fleet.orphans(kind)
            if not orphans or not any(self.fleet.takes(w.worker) for w in self.fleet.inventory.of(kind)):
                continue
            wait_s = self._wait_s(kind, now)
            if wait_s > 0:
                yield WakeAt(wait_s + 0.01)
            elif kind is Kind.ROUTER:
                yield from self._spread(orphans, now_ms)
            elif self.fleet.version != self._placed_version:
                self._placed_version = self.fleet.version
                yield from self._place_lanes(orphans, now, now_ms)

    def _wait_s(self, kind: Kind, now: float) -> float:
        workers = self.fleet.inventory.of(kind)
        if kind in self._opened or all(self.fleet.takes(w.worker) or self.fleet.to_empty(w.worker) for w in workers):
            self._opened.add(kind)
            return 0.0
        left = max(self.led_at, self._joined_at) + SETTLE_S - now
        if left <= 0:
            self._opened.add(kind)
        return left

    def _place_lanes(self, orphans: list[Partition], now: float, now_ms: int) -> Iterator[Effect]:
        scored = self._score(now, orphans_only=True)
        self._note_waiting(scored)
        free = set(orphans)
        steps: dict[Partition, Placed] = {}
        moves: list[Move] = []
        why, by = "", ""
        for a in scored.plan.assignments:
            p, worker = scored.lanes[a.lane], scored.nodes[a.to]
            if p not in free:
                continue
            target = self.targets.pop(p, None)
            if target and target.worker == worker:
                why, by = target.why, target.by
            before = self.fleet.partitions[p]
            steps[p] = self._give(p, worker, now_ms, why or before.why)
            moves.append(
                _move(
                    p,
                    target.source if target else before.worker,
                    worker,
                    steps[p].epoch,
                    target.delta_ms if target else 0.0,
                )
            )
            self.cooldown[p] = max(self.cooldown.get(p, 0.0), now + self.settings.calm.cooldown_s)
        yield from self._write(steps, moves, why or "orphans placed", by)

    def _give(self, p: Partition, worker: str, now_ms: int, why: str) -> Placed:
        lease = self.fleet.leases[worker]
        return step(
            self.fleet.partitions[p], Step.PLACE, worker=worker, boot=lease.boot, leader_epoch=self.fleet.leader_epoch,
            now_ms=now_ms, why=why,
        )  # fmt: skip

    # ---- routers: evenly ----

    def _spread(self, orphans: list[Partition], now_ms: int) -> Iterator[Effect]:
        load = {w.worker: len(self.fleet.owned_by(w.worker)) for w in self.fleet.inventory.of(Kind.ROUTER)}
        load = {w: n for w, n in load.items() if self.fleet.takes(w)}
        steps: dict[Partition, Placed] = {}
        moves: list[Move] = []
        for p in orphans:
            worker = min(load, key=lambda w: (load[w], w))
            load[worker] += 1
            before = self.fleet.partitions[p]
            steps[p] = self._give(p, worker, now_ms, before.why)
            moves.append(_move(p, before.worker, worker, steps[p].epoch, 0.0))
        yield from self._write(steps, moves, "raw partitions spread", "")

    def _even_routers(self, now_ms: int) -> Iterator[Effect]:
        """One raw partition at a time from a router that is to be emptied, or has two more than another."""
        routers = [w.worker for w in self.fleet.inventory.of(Kind.ROUTER)]
        load = {w: len(self.fleet.owned_by(w)) for w in routers}
        takers = sorted((w for w in routers if self.fleet.takes(w)), key=lambda w: (load[w], w))
        if not takers or any(self.fleet.partitions[p].state is State.RELEASING for p in self.fleet.of(Kind.ROUTER)):
            return
        for w in sorted(routers, key=lambda w: (not self.fleet.to_empty(w), -load[w], w)):
            uneven = self.fleet.to_empty(w) or load[w] >= load[takers[0]] + 2
            mine = [p for p in self.fleet.owned_by(w) if self.can_move(p)]
            if w != takers[0] and mine and uneven:
                yield from self.begin({mine[0]: Target(takers[0], "routers evened out")}, now_ms)
                return

    # ---- everything else, once a second ----

    def improve(self, now: float, now_ms: int) -> Iterator[Effect]:
        """What the planner wants moved, as far as the calm rules let it."""
        if now - self._improved_at < IMPROVE_EVERY_S:
            return
        self._improved_at = now
        if Kind.ROUTER in self._opened:
            yield from self._even_routers(now_ms)
        if Kind.NODE not in self._opened:
            return
        scored = self._score(now, orphans_only=False)
        self.memory = scored.plan.memory
        paused = PAUSE in self.fleet.intents
        targets = {
            scored.lanes[m.lane]: Target(scored.nodes[m.to], m.reason, "", m.delta_ms)
            for m in scored.plan.moves
            if not paused or m.reason in KEEP_MOVING
        }
        if targets:
            self.moved += [p for p, t in targets.items() if t.why not in KEEP_MOVING and self.can_move(p)]
            yield from self.begin(targets, now_ms)

    def can_move(self, p: Partition) -> bool:
        """Its owner works it, and nothing is under way with it."""
        s = self.fleet.partitions[p]
        return (
            s.state is State.ASSIGNED and not self.fleet.writing[p] and self.fleet.usable(s.worker)
            and self.fleet.views[s.worker].owned.get(p) == s.epoch
        )  # fmt: skip

    def begin(self, targets: dict[Partition, Target], now_ms: int) -> Iterator[Effect]:
        """Begin to move these; where they are to end is remembered until they are released."""
        steps: dict[Partition, Placed] = {}
        for p, target in targets.items():
            if self.can_move(p):
                self.targets[p] = replace(target, source=self.fleet.partitions[p].worker)
                steps[p] = step(
                    self.fleet.partitions[p], Step.MOVE, leader_epoch=self.fleet.leader_epoch, now_ms=now_ms, why=target.why,
                )  # fmt: skip
        if steps:
            self.fleet.begin_write(steps)
            yield Write(steps)

    def hold(self, p: Partition, now: float) -> None:
        """Somebody wants it where it goes: calm leaves it there for a while."""
        self.cooldown[p] = now + HOLD_S

    def orphaned(self, partitions: Iterable[Partition]) -> None:
        """They were fenced away: where they were to go no longer binds."""
        for p in partitions:
            self.targets.pop(p, None)

    # ---- asking the planner ----

    def what_if(self, now: float, *, empty: str = "", eager: bool = False) -> Scored:
        """The plan as if the worker `empty` were drained, with all its moves at once, or as if somebody asked to rebalance;
        nothing is changed."""
        return self._score(now, orphans_only=False, empty=empty, eager=eager, keep=False)

    def _score(
        self, now: float, *, orphans_only: bool, empty: str = "", eager: bool = False, keep: bool = True
    ) -> Scored:
        nodes = [w.worker for w in self.fleet.inventory.of(Kind.NODE)]
        row_of = {w: i for i, w in enumerate(nodes)}
        lanes = self.fleet.of(Kind.NODE)
        rows = [self._lane(i, p, row_of, now) for i, p in enumerate(lanes)]
        columns = [self._node(w, rows, row_of[w], empty) for w in nodes]
        terms, candidates = self.scorer(self._lane_table(lanes, rows), self._node_table(nodes, columns))
        found = plan(
            rows, columns, candidates, all_at_once(self.settings.calm) if empty else self.settings.calm,
            now_s=now, memory=self.memory, orphans_only=orphans_only, eager=eager,
        )  # fmt: skip
        scored = Scored(lanes, nodes, terms, candidates, rows, columns, found)
        if keep:
            self.last = scored
        return scored

    def _lane(self, i: int, p: Partition, row_of: dict[str, int], now: float) -> Lane:
        s = self.fleet.partitions[p]
        held = s.state is not State.ORPHAN
        target = self.targets.get(p)
        aim = row_of.get(target.worker) if target and self.fleet.takes(target.worker) else None
        moving = s.state is State.RELEASING or (held and not self.can_move(p))
        return Lane(
            i, self.rates.lane_eps(p.n, now), self.places.expected_eps[p.n], row_of.get(s.worker) if held else None,
            None if s.state is State.ASSIGNED else aim, moving, self.cooldown.get(p, 0.0),
        )  # fmt: skip

    def _node(self, worker: str, rows: Sequence[Lane], row: int, empty: str) -> Node:
        view = self.fleet.views[worker]
        why = ""
        if worker == empty or (self.fleet.drained(worker) and view.present):
            why = "draining"
        elif self.fleet.to_empty(worker) and view.present:
            why = "unhealthy"
        flying = sum(1 for lane in rows if lane.moving and row in (lane.owner, lane.target))
        return Node(worker, view.capacity_eps, self.fleet.takes(worker) and worker != empty, why, flying)

    def _lane_table(self, lanes: Sequence[Partition], rows: Sequence[Lane]) -> LaneTable:
        ns = [p.n for p in lanes]
        return LaneTable(
            np.array([self.places.lat[n] for n in ns], dtype=np.float64),
            np.array([self.places.lon[n] for n in ns], dtype=np.float64),
            np.array([r.rate_eps or 0.0 for r in rows], dtype=np.float64),
            np.array([-1 if r.owner is None else r.owner for r in rows], dtype=np.int32),
        )

    def _node_table(self, nodes: Sequence[str], columns: Sequence[Node]) -> NodeTable:
        sites = [self.fleet.inventory.sites[self.fleet.inventory.workers[w].site] for w in nodes]
        return NodeTable(
            np.array([s.lat for s in sites], dtype=np.float64),
            np.array([s.lon for s in sites], dtype=np.float64),
            np.array([self.settings.region_rows.get(s.name, -1) for s in sites], dtype=np.int32),
            np.array([c.capacity_eps for c in columns], dtype=np.float64),
            np.array([c.takes for c in columns], dtype=np.bool_),
        )

    def _note_waiting(self, scored: Scored) -> None:
        self.waiting = tuple(scored.lanes[i] for i in scored.plan.waiting)

    def _write(self, steps: dict[Partition, Placed], moves: Sequence[Move], reason: str, by: str) -> Iterator[Effect]:
        if not steps:
            return
        self.plans += 1
        self.fleet.begin_write(steps)
        title = f"{len(moves)} placed: {reason}"
        content = ", ".join(f"{m.lane}: {m.source or 'nobody'} to {m.target}" for m in moves)
        item = FeedItem(
            PLACEMENT, f"plan-{self.fleet.leader_epoch}-{self.plans}", title, content,
            PlacementPlan(self.plans, reason, by, tuple(moves)), self.fleet.leader_epoch,
        )  # fmt: skip
        note = Note("decision", by, f"{title} ({content})"[:500], {"plan": self.plans, "reason": reason})
        yield Write(steps, then=(Publish(item), note))


def all_at_once(calm: Calm) -> Calm:
    """These rules without the budget: to foretell a drain's whole effect."""
    return replace(calm, budget_share=1.0, in_flight=10_000)


def _move(p: Partition, source: str, target: str, epoch: int, delta_ms: float) -> Move:
    return Move(p.n, short_name(source), short_name(target), epoch, round(delta_ms, 1), p.topic)
