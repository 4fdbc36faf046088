"""kernels/knapsack.py, against every placement of a few lanes, and against dynamic programming."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kernels.knapsack import best_choice, whole_bound
from kernels.tables import Floats


@pytest.mark.parametrize("seed", range(12))
def test_no_placement_of_whole_lanes_is_below_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lanes, nodes = 6, 3
    load, room = rng.uniform(1, 4, lanes), rng.uniform(4, 7, nodes)
    cost, wait = rng.uniform(1, 50, (lanes, nodes)) * load[:, None], 100 * load
    best = min(
        sum(cost[lane, n] if n < nodes else wait[lane] for lane, n in enumerate(place))
        for place in itertools.product(range(nodes + 1), repeat=lanes)
        if all(load[[n == at for at in place]].sum() <= room[n] for n in range(nodes))
    )
    for price in (np.zeros(nodes), rng.uniform(0, 20, nodes)):
        bound = whole_bound(cost, wait, load, room, price, best)
        assert bound <= best * (1 + 1e-9)
        assert bound > 0.7 * best, "and it is not far below"
        assert whole_bound(cost, wait, load, room, price, best, steps=5) <= bound


def most(gain: Floats, load: Floats, room: int) -> float:
    """By dynamic programming over whole units."""
    value = np.zeros(room + 1)
    for g, w in zip(gain, load.astype(int), strict=True):
        value[w:] = np.maximum(value[w:], value[: room + 1 - w] + g)
    return float(value[room])


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("near", [0.0, 0.5])
def test_a_best_choice_is_the_best(seed: int, near: float) -> None:
    rng = np.random.default_rng(seed)
    load = rng.integers(1, 60, rng.integers(2, 40)).astype(float)
    room = max(int(load.max()), int(load.sum() * rng.uniform(0.2, 0.9)))
    gain = load * rng.lognormal(0, 0.02 if seed % 2 else 0.5, len(load))
    order = np.argsort(-gain / load, kind="stable")
    gain, load = gain[order], load[order]
    takers = np.zeros(len(load))
    limit, best = (
        best_choice(gain, load, float(room), near, np.arange(len(load)), takers),
        most(gain, load, room),
    )
    assert best - 1e-9 <= limit <= best + near + 1e-9
    chosen = takers > 0
    assert load[chosen].sum() <= room
    assert gain[chosen].sum() >= best - near - 1e-9


def test_what_is_too_much_to_think_over_is_bounded_still() -> None:
    rng = np.random.default_rng(0)
    load = np.sort(
        rng.integers(1_000, 2_000, 400) * 2.0
    )  # even, in an odd room: one unit is always left
    gain = load.copy()
    room = 199_999
    limit = best_choice(gain, load, float(room), 0.0, np.arange(400), np.zeros(400))
    assert most(gain, load, room) <= limit <= room
