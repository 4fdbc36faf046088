"""The planner: it takes a moment and returns a plan. It is pure and deterministic: the same inputs
give the same plan, byte for byte (recording.py).

The objective is kernels.Problem's cost times the load, summed over the lanes; limits.py is the
constraint. numerics.solve finds the best placement and a bound on its distance from the optimum;
damping.py lets only some of the moves begin now. Orphans are an emergency: they are placed at once,
and no other lane moves in the same plan."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from agents.core.model.plan import Assignment, Moment, Optimum, Plan, PlanningFrame, Scored
from agents.core.model.topology import WorkerKind
from agents.core.planning import damping
from agents.core.planning.scoreboard import NOBODY, Scoreboard
from kernels.tables import Bools, Floats, Ints, Numerics, Solution

MOVED, ORPHANED = "move", "orphan"

Clock = Callable[[], float]
"""Returns seconds; used to report how long planning took, never for a decision."""


def make_plan(frame: PlanningFrame, moment: Moment, numerics: Numerics) -> Plan:
    """The plan for now. Row i of `moment.nodes` is `frame.nodes[i]`; a lane's id is its index in
    the frame.

    Raises ValueError for a rate, capacity or place that is not a finite number within its range,
    for a lane that the frame does not have, and for nodes that differ from the frame's."""
    return make_scored_plan(frame, moment, numerics).plan


def make_scored_plan(
    frame: PlanningFrame, moment: Moment, numerics: Numerics, clock: Clock = lambda: 0.0
) -> Scored:
    """Like `make_plan`, with everything that is needed to explain the plan. It changes none of its
    inputs, so it may run in a thread of its own."""
    began = clock()
    check_inputs(frame, moment)
    board = Scoreboard(frame, moment, numerics)
    found = decide_plan(board)
    partitions, workers = (
        [WorkerKind.NODE.partition(lane.id) for lane in moment.lanes],
        [n.id for n in moment.nodes],
    )
    return Scored(
        partitions, workers, frame, moment, board.problem, found, (clock() - began) * 1000
    )


def decide_plan(board: Scoreboard) -> Plan:
    """Like `make_plan`, on a board that is set up already; the board is changed."""
    moment = board.moment
    before = board.measure_placement(board.owner)
    # Lanes that were released go where they were meant to, if there is still room.
    placed = [_make_assignment(board, r, int(board.sits[r]), MOVED) for r in board.arriving]
    # Giants first: each needs an empty node, which other orphans could take.
    new = _place_giants(board)
    stays = board.may_stay()
    orphans: Bools = (board.owner < 0) & (board.sits < 0)
    if orphans.any():
        found, room = board.find_best_placement(fixed=stays, orphans_first=True)
        new += [(int(r), int(found.node[r])) for r in np.flatnonzero(orphans & (found.node >= 0))]
        for r, to in new:
            board.settle_orphan(r, to)
    placed += [
        _make_assignment(board, r, to, ORPHANED)
        for r, to in sorted(new, key=lambda x: board.rank(x[0]))
    ]
    # With new orphans, or if only orphans were asked for, nothing else moves.
    if new or moment.orphans_only:
        if not orphans.any():
            found, room = board.find_best_placement(fixed=stays)
        target, calmed = (
            board.sits,
            damping.Calmed([], (), (), damping.carry_over_memory(board, moment.memory)),
        )
    else:
        movable = _find_movable(board, stays)
        found, room = board.find_best_placement(fixed=stays & ~movable)
        target = _rehome_giants(board, found.node, movable)
        calmed = damping.choose_moves(board, target, found.price_ms, room, movable)
    waiting = sorted(
        (int(r) for r in np.flatnonzero((board.owner < 0) & (board.sits < 0))), key=board.rank
    )
    return Plan(
        assignments=tuple(placed),
        moves=tuple(calmed.moves),
        waiting=tuple(board.lanes[r].id for r in waiting),
        stuck=calmed.stuck,
        parked=calmed.parked,
        before=before,
        after=board.measure_placement(_seats_after(board, calmed)),
        optimum=_compare_with_optimum(board, found, target),
        load_eps=_round_numbers(board.load),
        room_eps=_round_numbers(room),
        price_ms=_round_numbers(found.price_ms),
        memory=calmed.memory,
    )


def check_inputs(frame: PlanningFrame, moment: Moment) -> None:
    """Raises ValueError for inputs that `make_plan` does not accept."""
    for lane in moment.lanes:
        rates = (
            ("rate_eps", lane.rate_eps),
            ("expected_eps", lane.expected_eps),
            ("forecast_eps", lane.forecast_eps),
        )
        for name, value in rates:
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"lane {lane.id}: {name} is {value}: not a finite number from 0")
        if not 0 <= lane.id < len(frame.lat):
            raise ValueError(f"lane {lane.id}: the frame has {len(frame.lat)} lanes")
    for node in moment.nodes:
        if not (math.isfinite(node.capacity_eps) and node.capacity_eps >= 0):
            raise ValueError(
                f"node {node.id}: capacity_eps is {node.capacity_eps}: not a finite number from 0"
            )
    for broker in moment.brokers:
        if len(broker.path_ms) != len(moment.nodes):
            raise ValueError(
                f"broker {broker.id}: path_ms has {len(broker.path_ms)} rows, there are "
                f"{len(moment.nodes)} nodes"
            )
    if [n.id for n in moment.nodes] != [n.id for n in frame.nodes]:
        raise ValueError("the moment's nodes are not the frame's, or not in its order")


def _place_giants(board: Scoreboard) -> list[tuple[int, int]]:
    """Give each orphan that is too heavy for every node one of the largest nodes to itself, if one
    is empty."""
    given = []
    orphans = np.flatnonzero(
        (board.owner < 0) & (board.sits < 0) & (board.load > board.largest_limit_eps)
    )
    for row in sorted((int(r) for r in orphans), key=board.rank):
        to = board.find_home_for_giant(row)
        if to is not None:
            board.settle_orphan(row, to)
            given.append((row, to))
    return given


def _find_movable(board: Scoreboard, stays: Bools) -> Bools:
    """Which lanes may be elsewhere in the best placement, bool[L]: those that are at work, not
    cooling down and not giants, and all that must leave their node."""
    now_s, eager = board.moment.now_s, board.moment.eager
    cool = np.array([eager or lane.cooldown_until_s <= now_s for lane in board.lanes], dtype=bool)
    owned = (board.owner >= 0) & ~board.flying
    out: Bools = owned & (~stays | (cool & (board.load <= board.largest_limit_eps)))
    return out


def _rehome_giants(board: Scoreboard, target: Ints, movable: Bools) -> Ints:
    """`target` with a node for the giants that must leave theirs."""
    out = target.copy()
    for row in np.flatnonzero(movable & (board.load > board.largest_limit_eps)):
        if board.load[row] <= board.limits.hard[board.owner[row]]:
            continue  # its own node could hold it: it waits for another one that can
        home = board.find_home_for_giant(int(row))
        out[row] = NOBODY if home is None else home
    return out


def _seats_after(board: Scoreboard, calmed: damping.Calmed) -> Ints:
    row_of = {lane.id: r for r, lane in enumerate(board.lanes)}
    after = board.sits.copy()
    for m in calmed.moves:
        after[row_of[m.lane]] = m.to
    return after


def _make_assignment(board: Scoreboard, row: int, to: int, reason: str) -> Assignment:
    one = np.array([row], dtype=np.int32), np.array([to], dtype=np.int32)
    return Assignment(board.lanes[row].id, to, round(float(board.resting_ms(*one)[0]), 3), reason)


def _compare_with_optimum(board: Scoreboard, found: Solution, target: Ints) -> Optimum:
    gap = max(0.0, (found.objective - found.bound) / found.bound) if found.bound > 0 else 0.0
    moves = int(((target != board.sits) & (target >= 0) & (board.owner >= 0) & ~board.flying).sum())
    return Optimum(round(found.objective, 3), round(found.bound, 3), round(gap, 6), moves)


def _round_numbers(values: Floats) -> tuple[float, ...]:
    return tuple(round(float(v), 3) for v in values)
