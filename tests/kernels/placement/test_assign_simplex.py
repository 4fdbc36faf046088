"""The best split placement proves itself: what it costs is what its prices say that it must."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.placement.candidates import Lists, make_lists
from kernels.placement.integral import cost_of_tree, make_tree, optimize_tree, round_off
from kernels.placement.simplex import Tree
from kernels.reference import MatrixCosts
from kernels.tables import Floats, Ints, Singles

WAIT = 1000.0
LAST_MS = 1e-6


def relaxed(cost: Singles, load: Floats, room: Floats) -> tuple[Lists, Tree]:
    owner = np.full(len(load), -1, dtype=np.int32)
    found = MatrixCosts(cost, owner).find_candidates(len(room))
    lists = make_lists(
        found,
        load,
        np.full(len(room), np.inf),
        owner,
        np.zeros(len(load)),
        np.full(len(load), WAIT),
    )
    tree = make_tree(lists, room, np.zeros(len(room)))
    optimize_tree(lists, tree, 10.0, LAST_MS)
    return lists, tree


@st.composite
def fleets(draw: st.DrawFn) -> tuple[Singles, Floats, Floats]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    lanes, nodes = draw(st.integers(1, 40)), draw(st.integers(1, 8))
    cost, load, room = (
        rng.uniform(0, 300, (lanes, nodes)),
        rng.lognormal(0, 1, lanes),
        rng.lognormal(0, 1, nodes),
    )
    room *= load.sum() / draw(st.sampled_from([0.5, 0.9, 1.0, 1.5])) / room.sum()
    if draw(st.booleans()):  # ties, and rooms that are exactly full
        cost, load, room = np.round(cost, -2), np.ceil(load), np.round(room)
    cost = np.where(rng.random(cost.shape) < draw(st.sampled_from([0.0, 0.4])), np.inf, cost)
    return cost.astype(np.float32), load, room


def parts(tree: Tree, lanes: int, nodes: int) -> Floats:
    """Load of each lane at each node, the last column for what waits: float64[L, N + 1]."""
    out = np.zeros((lanes, nodes + 1))
    np.add.at(out, (np.arange(lanes), tree.home), tree.rest)
    shared = np.flatnonzero(tree.over >= 0)
    np.add.at(out, (tree.over[shared], shared), tree.part[shared])
    return out


@settings(max_examples=200, deadline=None)
@given(fleets())
def test_optimum_is_proved_by_its_prices(fleet: tuple[Singles, Floats, Floats]) -> None:
    cost, load, room = fleet
    lists, tree = relaxed(cost, load, room)
    assert (tree.price >= -1e-6).all()
    lowest = np.minimum(WAIT, (cost + tree.price).min(axis=1))
    bound = float((load * lowest).sum() - (tree.price * room).sum())
    # `set_up_tree` lets the rooms differ by this much.
    traces = 1.01e-7 * float((tree.price * room).sum())
    assert abs(cost_of_tree(lists, tree) - bound) <= 1e-6 * max(1.0, abs(bound)) + traces


@settings(max_examples=200, deadline=None)
@given(fleets())
def test_all_load_is_somewhere_and_fits(fleet: tuple[Singles, Floats, Floats]) -> None:
    cost, load, room = fleet
    _, tree = relaxed(cost, load, room)
    found = parts(tree, len(load), len(room))
    assert (found >= -1e-9).all()
    assert np.allclose(found.sum(axis=1), load)
    assert (found[:, :-1].sum(axis=0) <= room * (1 + 1e-6) + 1e-9).all()
    assert np.isfinite(cost[found[:, :-1] > 1e-9]).all()


@settings(max_examples=100, deadline=None)
@given(fleets())
def test_at_most_one_lane_for_each_full_node_is_split(
    fleet: tuple[Singles, Floats, Floats],
) -> None:
    cost, load, room = fleet
    _, tree = relaxed(cost, load, room)
    split = (parts(tree, len(load), len(room)) > 1e-9).sum(axis=1) > 1
    assert split.sum() <= (tree.over >= 0).sum()
    assert (tree.price[tree.over < 0] == 0).all()


@settings(max_examples=100, deadline=None)
@given(fleets())
def test_rounding_off_overfills_no_node(fleet: tuple[Singles, Floats, Floats]) -> None:
    cost, load, room = fleet
    lists, tree = relaxed(cost, load, room)
    place: Ints = round_off(lists, tree, LAST_MS)
    at = place >= 0
    used = np.bincount(place[at], load[at], minlength=len(room))
    assert (used <= room * (1 + 1e-6) + 1e-9).all()
