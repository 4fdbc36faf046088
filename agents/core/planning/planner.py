"""Scores in, plan out, deterministic: orphans at once and within capacity; everybody else only as the calm rules allow.

Objective: the sum of rate x cost (DESIGN 7) over the lanes. Constraint: a node's load stays under `target_utilisation`
of its capacity; a lane too heavy for every node may have the largest one to itself. Each orphan goes to its cheapest
node that would not have to be relieved at once, else to its cheapest with room. Among equals the less loaded, then the
first."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from agents.core.planning.calm import relieve
from agents.core.planning.fit import Board, load_eps
from agents.core.planning.plan import Assignment, Calm, Lane, Memory, Node, Plan
from kernels import Candidates


def plan(
    lanes: Sequence[Lane],
    nodes: Sequence[Node],
    candidates: Candidates,
    calm: Calm,
    *,
    now_s: float,
    memory: Memory | None = None,
    orphans_only: bool = False,
    eager: bool = False,
) -> Plan:
    """What to do now; row i of `candidates` is `lanes[i]`, and the numbers in it are rows of `nodes`.

    `now_s` is on the caller's monotonic clock, as are cooldowns and `memory` (the last plan's; None: start afresh).
    While an orphan is placed in an emergency nothing else moves; `orphans_only` says the same for other reasons
    (paused). `eager`: somebody asks for it, so windows and cooldowns are waived. Raises ValueError for a rate or
    capacity that is no finite number from 0."""
    _check(lanes, nodes)
    weight = load_eps(lanes, nodes, calm)
    board = Board(lanes, nodes, candidates, calm, weight)
    before = board.figures()
    assignments, waiting = _place(board)
    emergency = any(a.reason != "move" for a in assignments)
    moves, stuck, remembered = relieve(
        board, now_s=now_s, memory=memory or Memory(), still=emergency or orphans_only, eager=eager
    )
    return Plan(
        assignments=tuple(assignments),
        moves=tuple(moves),
        waiting=waiting,
        stuck=stuck,
        before=before,
        after=board.figures(),
        load_eps=tuple(float(w) for w in weight),
        memory=remembered,
    )


def _check(lanes: Sequence[Lane], nodes: Sequence[Node]) -> None:
    for lane in lanes:
        for name, value in (("rate_eps", lane.rate_eps or 0.0), ("expected_eps", lane.expected_eps)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"lane {lane.id}: {name} is {value}: not a finite number from 0")
    for node in nodes:
        if not (math.isfinite(node.capacity_eps) and node.capacity_eps >= 0):
            raise ValueError(f"node {node.id}: capacity_eps is {node.capacity_eps}: not a finite number from 0")


def _place(board: Board) -> tuple[list[Assignment], tuple[int, ...]]:
    """Gives each orphan a node on `board`; answers what was given, and who waits."""
    placed: list[Assignment] = []
    rest: list[int] = []
    orphans = [row for row, lane in enumerate(board.lanes) if lane.owner is None]
    for row in sorted(orphans, key=board.rank):
        target = board.lanes[row].target
        if target is not None and board.claim(row, target):
            placed.append(_assignment(board, row, target, "move"))
        else:
            rest.append(row)
    start = board.load.copy(), board.count.copy()
    near = _spread(board, rest)
    if len(near) < len(rest):  # crowded: packing tightly may find room for more of them, or for those that matter more
        after_near = board.load.copy(), board.count.copy()
        board.load, board.count = start[0].copy(), start[1].copy()
        tight = _pack(board, rest)
        if _left(board, rest, tight) < _left(board, rest, near):
            near = tight
        else:
            board.load, board.count = after_near
    for row in rest:
        if row in near:
            board.owner[row] = near[row]
            placed.append(_assignment(board, row, near[row], "orphan"))
    return placed, tuple(board.lanes[row].id for row in rest if row not in near)


def _spread(board: Board, rows: Sequence[int]) -> dict[int, int]:
    chosen = {}
    for row in rows:
        to = board.cheapest(row, board.settled)
        if to is None:
            to = board.cheapest(row, board.limit)
        if to is not None:
            board.put(row, to)
            chosen[row] = to
    return chosen


def _pack(board: Board, rows: Sequence[int]) -> dict[int, int]:
    chosen = {}
    for row in rows:
        to = board.tightest(row)
        if to is not None:
            board.put(row, to)
            chosen[row] = to
    return chosen


def _left(board: Board, rows: Sequence[int], chosen: dict[int, int]) -> list[tuple[int, int]]:
    """Who is left out, so that smaller is better: by priority, how many, the most important first."""
    ranks = sorted({-board.lanes[row].priority for row in rows})
    return [(p, sum(1 for row in rows if row not in chosen and -board.lanes[row].priority == p)) for p in ranks]


def _assignment(board: Board, row: int, to: int, reason: str) -> Assignment:
    return Assignment(board.lanes[row].id, to, float(board.rtt_ms(np.array([row]), np.array([to]))[0]), reason)
