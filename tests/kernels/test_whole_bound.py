"""The bound of benchmarks/knapsack.py, against every placement of a few lanes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmarks.knapsack import whole_bound


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
