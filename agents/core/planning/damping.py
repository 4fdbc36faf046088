"""Damping (the calm rules, docs/planning.md): which moves towards the best placement begin now.

In this order: lanes that must leave their node, lanes of hot nodes, lanes that are cheaper
elsewhere. All share one budget. Moves of the last two kinds must have looked right for long enough;
lanes that moved lately are left alone (the planner fixes them). A move of the last kind must also
earn the cost of its hand-over; lanes that make room for it count together with it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from agents.core.model.plan import Memory, PlannedMove
from agents.core.planning.limits import ROUNDING
from agents.core.planning.scoreboard import NOBODY, Scoreboard
from kernels.tables import Bools, Floats, Ints

DRAINING, UNHEALTHY, RESIDENCY = "draining", "unhealthy", "residency"
MUST = frozenset({DRAINING, UNHEALTHY, RESIDENCY})
OVER, HOT, NEARER, MAKES_ROOM = "over capacity", "hot", "nearer", "makes room"
PRESSING = MUST | {OVER}  # these moves may use all the room of a node, up to its hard limit
CHAIN = 2  # how deep moves that make room for one another may be nested


@dataclass(frozen=True, slots=True)
class Calmed:
    """The moves that begin now (see Plan), and what the next plan needs."""

    moves: list[PlannedMove]
    stuck: tuple[int, ...]
    parked: tuple[int, ...]
    memory: Memory


def carry_over_memory(board: Scoreboard, memory: Memory) -> Memory:
    """`memory` after a plan for orphans only: its windows neither pass nor break."""
    return Memory(board.moment.now_s, memory.hot_since_s, memory.better_since_s, memory.price_ms)


def choose_moves(
    board: Scoreboard, target: Ints, price: Floats, room: Floats, movable: Bools
) -> Calmed:
    """Choose the moves that begin now. `target`: row of the best node of each lane, -1 for a lane
    without room. `price`: of room, in ms, per node. `room`: events/s that each node may hold.
    `movable`: the lanes that have a node, are not on their way, and may move."""
    calm, now_s, eager = board.calm, board.moment.now_s, board.moment.eager
    known = board.moment.memory
    if now_s - known.at_s > 2 * calm.window_s:  # nothing was seen in the gap: windows start anew
        known = Memory()
    hot = [
        n
        for n in _nodes_by_heat(board)
        if board.use[n] > board.limits.hot[n] * (1 + ROUNDING) and not board.nodes[n].empty
    ]
    hot_since = {board.nodes[n].id: known.hot_since_s.get(board.nodes[n].id, now_s) for n in hot}
    owned = (board.owner >= 0) & ~board.flying
    wanted = [int(r) for r in np.flatnonzero(owned & movable & (target != board.owner))]
    leave = {r: why for r in wanted if (why := _reason_to_leave(board, r))}
    since = {board.lanes[r].id: known.better_since_s.get(board.lanes[r].id, now_s) for r in wanted}
    prices = {n.id: round(float(p), 3) for n, p in zip(board.nodes, price, strict=True) if p > 0}
    memory = Memory(now_s, hot_since, since, prices)

    def has_lasted(began_s: float) -> bool:
        return eager or now_s - began_s >= calm.window_s * (calm.windows - 1)

    # The order is that of the module's docstring: what comes first gets the budget.
    way = _Way(board, target, room, [r for r in wanted if target[r] != NOBODY])
    for r in sorted(leave, key=board.rank):
        if target[r] != NOBODY:
            way.begin_move(r, leave[r])
    for n in hot:
        if has_lasted(hot_since[board.nodes[n].id]):
            _relieve_node(board, way, n)
    for r in sorted(way.worth, key=lambda r: (-way.worth[r], board.lanes[r].id)):
        if (
            r not in leave
            and has_lasted(since[board.lanes[r].id])
            and way.worth[r] > 0
            and way.pays_for_itself(r)
        ):
            way.begin_move(r, NEARER, chain=CHAIN)
    # Lanes without room: parked if a residency rule or more important lanes take their place,
    # else they stay where they are.
    yields = board.may_have_to_yield()
    nowhere = [r for r in wanted if target[r] == NOBODY]
    goes_short = [r for r in nowhere if leave.get(r) == RESIDENCY or (r not in leave and yields[r])]
    stays = set(nowhere) - set(goes_short)
    stuck = tuple(board.lanes[r].id for r in sorted(leave, key=board.rank) if r in stays)
    parked = tuple(board.lanes[r].id for r in goes_short if has_lasted(since[board.lanes[r].id]))
    return Calmed(way.moves, stuck, parked, memory)


def _reason_to_leave(board: Scoreboard, row: int) -> str:
    """Why the lane must leave its node, or ""."""
    n = int(board.owner[row])
    if board.nodes[n].empty:
        return board.nodes[n].empty
    return "" if board.rules_allow(row, n) else RESIDENCY


def _nodes_by_heat(board: Scoreboard) -> Iterable[int]:
    capacity = [n.capacity_eps for n in board.nodes]
    return sorted(
        (n for n, c in enumerate(capacity) if c > 0), key=lambda n: (-board.use[n] / capacity[n], n)
    )


def _relieve_node(board: Scoreboard, way: _Way, n: int) -> None:
    """Move lanes off the hot node until it is settled: those that lose the fewest ms first, those
    that are too light to help last."""
    reason = OVER if board.use[n] > board.limits.hard[n] * (1 + ROUNDING) else HOT
    settled = float(board.limits.settled[n])
    excess = float(board.use[n]) - settled
    offers = []
    for r, worth in way.worth.items():
        if board.owner[r] == n and r not in way.moved:
            light = float(board.load[r]) * board.calm.in_flight < excess
            offers.append((light, -worth / float(board.load[r]), *board.rank(r), r))
    for *_, r in sorted(offers):
        if board.use[n] <= settled:
            return
        way.begin_move(r, reason, chain=CHAIN if reason == OVER else 0)


_State = tuple[Floats, Ints, list[int], float, int, int]


class _Way:
    """The moves that were begun so far, within three bounds: a share of the load over all moves (or
    one lane; from a node over its capacity also with the lanes that make room for it), a number of
    moves per node, and the room at the target, where lanes that leave it now no longer count."""

    def __init__(self, board: Scoreboard, target: Ints, room: Floats, rows: list[int]) -> None:
        self.board, self.target, self.room = board, target, room
        # No lane is sent to a node that would be relieved at once.
        self.settled = np.minimum(room, board.limits.room_eps(board.use))
        self.moves: list[PlannedMove] = []
        self.moved: dict[int, None] = {}  # the rows that move, in the order of their tries
        self.budget_eps = board.calm.budget_share * float(board.load.sum())
        self.spent_eps = float(
            board.load[board.flying | ((board.owner < 0) & (board.sits >= 0))].sum()
        )
        self.slots = [
            (board.calm.in_flight if n.slots is None else n.slots) - n.in_flight
            for n in board.nodes
        ]
        index = np.array(rows, dtype=np.int32)
        to = target[index]
        here = board.costs.costs_at(index, board.owner[index]).astype(np.float64)
        there = board.costs.costs_at(index, to).astype(np.float64)
        stays, rests = board.resting_ms(index, board.owner[index]), board.resting_ms(index, to)
        load = board.load[index]
        self.worth = {
            r: float(w)
            for r, w in zip(
                rows, np.where(np.isfinite(here), (here - there) * load, np.inf), strict=True
            )
        }
        self.saves_ms = {r: float(s) for r, s in zip(rows, stays - rests, strict=True)}
        self.delta_ms = {r: round(-s, 3) for r, s in self.saves_ms.items()}

    def pays_for_itself(self, row: int) -> bool:
        """Whether the lane saves more within the horizon than its hand-over costs: the events of
        the pause wait for half of it on average."""
        calm = self.board.calm
        return self.saves_ms[row] * calm.horizon_s > calm.pause_ms / 1000 * calm.pause_ms / 2

    def begin_move(self, row: int, reason: str, chain: int = 0) -> bool:
        """Begin the move if the bounds allow it, after the moves that make room for it, nested up
        to `chain` deep. False if it did not begin."""
        room = self.room if reason in PRESSING else self.settled
        budget_eps = self.budget_eps
        if reason == OVER and self.spent_eps == 0:
            self.budget_eps = math.inf  # for one lane and those that make room for it
        begun = self._try_move(
            row, reason, room, chain, self.worth[row] if reason == NEARER else math.inf
        )
        self.budget_eps = budget_eps
        return begun

    def _try_move(self, row: int, reason: str, room: Floats, chain: int, gain: float) -> bool:
        if row in self.moved or not self._is_within_bounds(row):
            return False
        before = self._save_state()
        frm, to = int(self.board.owner[row]), int(self.target[row])
        self.board.remove_load(row, frm)
        self.moved[row] = None
        makes = self._fits_target(row, room) or (
            chain > 0 and self._make_room(row, room, chain, gain)
        )
        # Checked again, since the moves that made room may have used up the budget.
        if not makes or not self._is_within_bounds(row):
            self._restore_state(before)
            return False
        self.board.add_load(row, to)
        self.slots[frm] -= 1
        self.slots[to] -= 1
        self.spent_eps += float(self.board.load[row])
        self.moves.append(
            PlannedMove(self.board.lanes[row].id, frm, to, self.delta_ms[row], reason)
        )
        return True

    def _is_within_bounds(self, row: int) -> bool:
        within = (
            self.spent_eps == 0 or self.spent_eps + float(self.board.load[row]) <= self.budget_eps
        )
        return (
            within
            and self.slots[int(self.board.owner[row])] > 0
            and self.slots[int(self.target[row])] > 0
        )

    def _fits_target(self, row: int, room: Floats) -> bool:
        to = int(self.target[row])
        if self.board.load[row] > self.board.largest_limit_eps:  # a giant gets a node to itself
            return int(self.board.count[to]) == 0
        return bool(self.board.use[to] + self.board.load[row] <= room[to] * (1 + ROUNDING))

    def _make_room(self, row: int, room: Floats, chain: int, gain: float) -> bool:
        """Move other lanes away from the lane's target, as long as all of them together gain.
        `gain`: the worth of this lane's move, ms x events/s."""
        to = int(self.target[row])
        others = [r for r in self.worth if self.board.owner[r] == to and r not in self.moved]
        for r in sorted(others, key=lambda r: (-self.worth[r], self.board.lanes[r].id)):
            if gain + self.worth[r] > 0 and self._try_move(
                r, MAKES_ROOM, room, chain - 1, gain + self.worth[r]
            ):
                gain += self.worth[r]
                if self._fits_target(row, room):
                    return True
        return False

    def _save_state(self) -> _State:
        return (
            self.board.use.copy(),
            self.board.count.copy(),
            list(self.slots),
            self.spent_eps,
            len(self.moved),
            len(self.moves),
        )

    def _restore_state(self, state: _State) -> None:
        self.board.use, self.board.count, self.slots, self.spent_eps, moved, moves = state
        del self.moves[moves:]
        while len(self.moved) > moved:
            self.moved.popitem()
