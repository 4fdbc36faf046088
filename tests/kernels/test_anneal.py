"""The search by simulated annealing: it ends at the best where every placement can be tried, and
always within the room."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from kernels.anneal import anneal
from kernels.placement.assign import WAIT_MS
from kernels.placement.candidates import Lists, dearer_moves, listed, matrix
from kernels.reference import MatrixCosts
from kernels.tables import Floats, Ints


def lists_of(cost: Floats, load: Floats, room: Floats) -> Lists:
    lanes, nodes = cost.shape
    nobody = np.full(lanes, -1, dtype=np.int32)
    found = MatrixCosts(cost.astype(np.float32), nobody).candidates(nodes)
    return listed(found, load, room, nobody, np.zeros(lanes), np.full(lanes, WAIT_MS))


def found(lists: Lists, room: Floats, place: Ints, gap: float) -> Ints:
    return anneal(
        lists, room, np.zeros(len(place), dtype=np.int32), np.zeros(len(room)), place, gap, 0.0
    )


@pytest.mark.parametrize("seed", range(8))
def test_from_the_worst_placement_to_the_best(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lanes, nodes = 7, 3
    cost, load = rng.uniform(1, 50, (lanes, nodes)), rng.uniform(1, 4, lanes)
    room = load.sum() / nodes * rng.uniform(1.1, 1.5, nodes)
    fits = [
        np.array(place, dtype=np.int32)
        for place in product(range(nodes), repeat=lanes)
        if (np.bincount(place, load, minlength=nodes) <= room).all()
    ]

    def value(place: Ints) -> float:
        return float((load * cost[np.arange(lanes), place]).sum())

    best, worst = min(map(value, fits)), max(fits, key=value)
    new = found(lists_of(cost, load, room), room, worst.copy(), value(worst) - best)
    assert value(new) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(4))
def test_it_stays_within_the_room_and_is_the_same_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lanes, nodes = 120, 10
    cost, load = rng.uniform(1, 50, (lanes, nodes)), rng.pareto(1.2, lanes) + 0.05
    load = np.minimum(load, load.sum() / nodes / 4)
    place = rng.integers(0, nodes, lanes).astype(np.int32)
    room = np.maximum(np.bincount(place, load, minlength=nodes), load.sum() / nodes)
    lists, rows = lists_of(cost, load, room), np.arange(lanes)
    before = float((load * cost[rows, place]).sum())
    new = found(lists, room, place.copy(), before / 2)
    assert (np.bincount(new, load, minlength=nodes) <= room * (1 + 1e-9)).all()
    assert (load * cost[rows, new]).sum() < 0.5 * before
    assert (found(lists, room, place.copy(), before / 2) == new).all()


def test_a_fleet_in_which_a_lane_waits_is_left_as_it_is() -> None:
    load, room = np.array([1.0, 1.0]), np.array([1.0])
    place = np.array([0, -1], dtype=np.int32)
    assert found(lists_of(np.ones((2, 1)), load, room), room, place, 1.0) is place


def test_a_move_that_saves_too_little_is_not_made() -> None:
    cost, load, room = np.array([[10.0, 9.0], [10.0, 5.0]]), np.ones(2), np.array([2.0, 2.0])
    owner = np.zeros(2, dtype=np.int32)
    lists = dearer_moves(lists_of(cost, load, room), owner, np.array([2.0, 2.0]))
    assert matrix(lists.node, lists.cost_ms, load, 2).tolist() == [[8, 9], [8, 5]]
    assert found(lists, room, owner.copy(), 6.0).tolist() == [0, 1]
