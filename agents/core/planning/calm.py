"""The calm rules (DESIGN 7.4): when a lane that has a node is moved, and who stays put although a move would look nice.

In this order: lanes of nodes that must be emptied; lanes of hot nodes; lanes that are nearer to another node. All share
one budget; the last two need to have looked right for long enough, and leave lanes alone that moved lately."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from agents.core.planning.fit import Board
from agents.core.planning.plan import Memory, Move
from kernels.tables import Bools, Ints


def relieve(
    board: Board, *, now_s: float, memory: Memory, still: bool, eager: bool
) -> tuple[list[Move], tuple[int, ...], Memory]:
    """Moves on `board`; answers them, the ids of lanes that must leave and cannot, and what to remember.

    `still`: nothing moves now, but what would is remembered."""
    calm = board.calm
    known = memory if now_s - memory.at_s <= 2 * calm.window_s else Memory()  # a gap is no window
    hot = [n for n in _by_heat(board) if board.load[n] > board.hot[n] and not board.nodes[n].empty]
    hot_since = {board.nodes[n].id: known.hot_since_s.get(board.nodes[n].id, now_s) for n in hot}
    better = _better(board)
    better_since = {board.lanes[r].id: known.better_since_s.get(board.lanes[r].id, now_s) for r in better}
    remembered = Memory(now_s, hot_since, better_since)
    stuck = [r for r in _leaving(board) if board.cheapest(r, board.limit) is None]
    names = tuple(board.lanes[r].id for r in stuck)
    if still:
        return [], names, remembered

    held_s = 0.0 if eager else calm.window_s * (calm.windows - 1)
    budget = _Budget(board)
    for row in _leaving(board):
        budget.move(row, board.nodes[board.owner[row]].empty, board.limit)
    for n in hot:
        if now_s - hot_since[board.nodes[n].id] >= held_s:
            _cool(board, budget, n, None if eager else now_s)
    for row in better:
        cool = eager or board.lanes[row].cooldown_until_s <= now_s
        if (
            cool
            and row not in budget.moved
            and now_s - better_since[board.lanes[row].id] >= held_s
            and _gains(board, row)
        ):
            budget.move(row, "nearer", board.settled)
    return budget.moves, names, remembered


class _Budget:
    """How much may be on the move: a share of the load (or one lane) over all, a number of moves per node."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.moves: list[Move] = []
        self.moved: set[int] = set()
        self.room_eps = board.calm.budget_share * float(board.weight.sum())
        moving = [
            r for r, lane in enumerate(board.lanes) if lane.moving or (lane.owner is None and lane.target is not None)
        ]
        self.spent_eps = float(board.weight[moving].sum())
        self.slots = [board.calm.in_flight - node.in_flight for node in board.nodes]

    def allows(self, row: int) -> bool:
        fits = self.spent_eps == 0 or self.spent_eps + float(self.board.weight[row]) <= self.room_eps
        return fits and self.slots[self.board.owner[row]] > 0

    def move(self, row: int, reason: str, bound: object) -> bool:
        """Moves the lane to its cheapest node that would not have to be relieved, else to one with room within
        `bound`."""
        board = self.board
        if not self.allows(row):
            return False
        to = board.cheapest(row, board.settled)
        if to is None and bound is board.limit:
            to = board.cheapest(row, board.limit)
        if to is None or self.slots[to] <= 0:
            return False
        frm = int(board.owner[row])
        pair = board.rtt_ms(np.array([row, row], dtype=np.int32), np.array([frm, to], dtype=np.int32))
        board.take(row, frm)
        board.put(row, to)
        board.owner[row] = to
        self.slots[frm] -= 1
        self.slots[to] -= 1
        self.spent_eps += float(board.weight[row])
        self.moved.add(row)
        self.moves.append(Move(board.lanes[row].id, frm, to, float(pair[1] - pair[0]), reason))
        return True


def _rows_of(board: Board, n: int) -> list[int]:
    return [int(r) for r in np.flatnonzero(board.owner == n) if _free(board, int(r))]


def _free(board: Board, row: int) -> bool:
    """Whether the lane can begin a move: it has its node since before this plan, and is not on its way already."""
    lane = board.lanes[row]
    return lane.owner is not None and lane.owner == board.owner[row] and not lane.moving


def _leaving(board: Board) -> list[int]:
    rows = [r for n, node in enumerate(board.nodes) if node.empty for r in _rows_of(board, n)]
    return sorted(rows, key=board.rank)


def _by_heat(board: Board) -> Iterable[int]:
    return sorted(
        (n for n in range(len(board.nodes)) if board.capacity[n] > 0),
        key=lambda n: (-board.load[n] / board.capacity[n], n),
    )


def _cool(board: Board, budget: _Budget, n: int, now_s: float | None) -> None:
    """Moves lanes off the hot node until it is settled: those that lose the fewest ms first, the ones too light to
    matter last."""
    over = board.load[n] > board.limit[n]
    reason, bound = ("over capacity", board.limit) if over else ("hot", board.settled)
    excess = board.load[n] - board.settled[n]
    offers = []
    for row in _rows_of(board, n):
        if now_s is not None and board.lanes[row].cooldown_until_s > now_s:
            continue
        to = board.cheapest(row, bound)
        if to is not None:
            pair = board.rtt_ms(np.array([row, row], dtype=np.int32), np.array([n, to], dtype=np.int32))
            light = bool(board.weight[row] * board.calm.in_flight < excess)
            offers.append((light, float(pair[1] - pair[0]), *board.rank(row), row))
    for *_, row in sorted(offers):
        if board.load[n] <= board.settled[n]:
            return
        budget.move(row, reason, bound)


def _better(board: Board) -> list[int]:
    """Rows of lanes that would gain by a move to a node that has room for them now, the largest gain (ms x events/s)
    first."""
    cand = board.candidates
    if not len(board.lanes) or not cand.node.shape[1]:
        return []
    free = np.array([_free(board, r) and not board.nodes[board.owner[r]].empty for r in range(len(board.lanes))])
    rows: Ints = np.flatnonzero(free).astype(np.int32)
    if not len(rows):
        return []
    nodes = cand.node[rows]
    own = nodes == board.owner[rows][:, None]
    fits: Bools = (nodes >= 0) & board.takes[nodes] & ~own
    fits &= board.load[nodes] + board.weight[rows][:, None] <= board.settled[nodes]  # a giant stays where it is
    total = np.where(fits, cand.total_ms[rows], np.inf)
    best = total.argmin(axis=1)
    at = np.arange(len(rows))
    own_ms = board.rtt_ms(rows, board.owner[rows])
    gain_ms = own_ms - total[at, best]
    pays = (own_ms - cand.rtt_ms[rows, best]) * board.calm.horizon_s > _cost_ms_s(board)
    chosen = rows[(gain_ms > 0) & pays]
    worth = {int(r): float(g * board.weight[r]) for r, g in zip(rows, gain_ms, strict=True)}
    return sorted((int(r) for r in chosen), key=lambda r: (-worth[r], board.lanes[r].id))


def _cost_ms_s(board: Board) -> float:
    """What a hand-over costs per event/s, in ms x s: the events of the pause wait for half of it on average."""
    return board.calm.pause_ms / 1000 * board.calm.pause_ms / 2


def _gains(board: Board, row: int) -> bool:
    """Whether the move still pays with what this plan has already done (its best node may be full now)."""
    to = board.cheapest(row, board.settled)
    if to is None:
        return False
    own, other = board.rtt_ms(np.array([row, row], dtype=np.int32), np.array([board.owner[row], to], dtype=np.int32))
    here = board.candidates.node[row] == to
    total = float(board.candidates.total_ms[row][here.argmax()])
    return bool(own > total and (own - other) * board.calm.horizon_s > _cost_ms_s(board))
