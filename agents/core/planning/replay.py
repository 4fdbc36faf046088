"""What other settings would have done: the recorded load and fleet, with lanes where the new plans
put them.

This is a model, and an optimistic one: every move that a plan begins is done by the next moment.
Everything else comes from the record: arrival rates, nodes and their health. A node counts as gone
if it takes no lanes, is not being emptied, and has no lane in the record."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from agents.core.model.plan import Lane, Memory, Moment, Node, Plan, PlanningFrame
from agents.core.planning.planner import make_plan
from agents.settings.calm import Calm
from kernels.tables import Numerics

WARM_S = 300.0


@dataclass(slots=True)
class ReplayTotals:
    """Totals over the plans, each counting the same: `moves` begun, orphans `placed`, and the
    figures of the placements that the plans lead to."""

    ticks: int = 0
    moves: int = 0
    placed: int = 0
    rtt_ms: float = 0.0
    busiest: float = 0.0
    busiest_most: float = 0.0
    waiting_most: int = 0
    waiting_ticks: int = 0

    def add_plan(self, p: Plan) -> None:
        """Count one more plan."""
        waiting = len(p.waiting) + len(p.parked)
        self.ticks += 1
        self.moves += len(p.moves)
        self.placed += len(p.assignments)
        self.rtt_ms += p.after.mean_rtt_ms
        self.busiest += p.after.utilisation
        self.busiest_most = max(self.busiest_most, p.after.utilisation)
        self.waiting_most = max(self.waiting_most, waiting)
        self.waiting_ticks += waiting > 0

    @property
    def mean_rtt_ms(self) -> float:
        return self.rtt_ms / self.ticks if self.ticks else 0.0

    @property
    def mean_busiest(self) -> float:
        """The busiest node's utilisation, a share of its capacity; mean over the plans."""
        return self.busiest / self.ticks if self.ticks else 0.0


@dataclass(slots=True)
class _Trail:
    """Where a lane was before (row of a node), when it left, and how often it returned."""

    node: int
    left_s: float
    returns: int = 0


@dataclass(slots=True)
class DecisionReplay:
    """One leader's life again, under the settings of `frame`. `in_flight`: its value in the
    recorded settings."""

    frame: PlanningFrame
    numerics: Numerics
    in_flight: int
    tally: ReplayTotals = field(default_factory=ReplayTotals)
    _at: dict[int, int | None] = field(default_factory=dict)
    _cooldown: dict[int, float] = field(default_factory=dict)
    _trail: dict[int, _Trail] = field(default_factory=dict)
    _memory: Memory | None = None

    def replay_moment(self, recorded: Moment) -> tuple[Moment, Plan]:
        """The moment as it would have been, and its plan, whose moves are then done. Raises
        ValueError as `make_plan` does."""
        moment = self._adapt_moment(recorded)
        out = make_plan(self.frame, moment, self.numerics)
        self._memory = out.memory
        self.tally.add_plan(out)
        for a in out.assignments:
            self._move_lane(a.lane, a.to, moment.now_s)
        for m in out.moves:
            self._move_lane(m.lane, m.to, moment.now_s)
        for lane in out.parked:
            self._at[lane] = None
        return moment, out

    def _adapt_moment(self, recorded: Moment) -> Moment:
        having = {lane.owner for lane in recorded.lanes}
        gone = {
            row
            for row, n in enumerate(recorded.nodes)
            if not n.takes and not n.empty and row not in having
        }
        return replace(
            recorded,
            lanes=tuple(self._adapt_lane(lane, gone, recorded.now_s) for lane in recorded.lanes),
            nodes=tuple(self._adapt_node(node) for node in recorded.nodes),
            memory=recorded.memory if self._memory is None else self._memory,
        )

    def _adapt_lane(self, lane: Lane, gone: set[int], now_s: float) -> Lane:
        if lane.id not in self._at:
            on_its_way = lane.target is not None and (lane.moving or lane.owner is None)
            self._at[lane.id] = lane.target if on_its_way else lane.owner
            self._cooldown[lane.id] = lane.cooldown_until_s
        if self._at[lane.id] in gone:
            self._at[lane.id] = None
        trail = self._trail.get(lane.id)
        warm = trail.node if trail is not None and now_s - trail.left_s <= WARM_S else None
        return replace(
            lane,
            owner=self._at[lane.id],
            target=None,
            moving=False,
            cooldown_until_s=self._cooldown[lane.id],
            warm=lane.warm if trail is None else warm,
        )

    def _adapt_node(self, node: Node) -> Node:
        """The node without moves in flight. Slots that trouble had reduced stay reduced; all others
        are those of the new settings."""
        slots = None if node.slots is None or node.slots >= self.in_flight else node.slots
        return replace(node, in_flight=0, slots=slots)

    def _move_lane(self, lane: int, to: int, now_s: float) -> None:
        """Move the lane and let it cool down, with the time doubled at each return, as a
        coordinator does (PlacingInputs.note_assignment)."""
        calm, before, source = self.frame.calm, self._trail.get(lane), self._at.get(lane)
        back = (
            before is not None
            and before.node == to
            and now_s - before.left_s <= 2 * calm.cooldown_most_s
        )
        returns = before.returns + 1 if before is not None and back else 0
        if source is not None and source != to:
            self._trail[lane] = _Trail(source, now_s, returns)
        self._at[lane] = to
        self._cooldown[lane] = max(
            self._cooldown.get(lane, 0.0), now_s + _cooldown_s(calm, returns)
        )


def _cooldown_s(calm: Calm, returns: int) -> float:
    return min(calm.cooldown_s * 2.0 ** min(returns, 60), calm.cooldown_most_s)
