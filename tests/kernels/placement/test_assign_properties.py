"""What holds of every solution, on made-up fleets of any shape: each invariant by its name."""

from __future__ import annotations

from contextlib import ExitStack
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kernels.placement import assign
from kernels.placement.assign import WAIT_MS, solve
from kernels.placement.candidates import TIE_MS
from kernels.reference import MatrixCosts
from kernels.tables import Bools, Floats, Ints, Singles, Solution

FITS = 1 + 1e-8


class Fleet(NamedTuple):
    """What `solve` is asked. `short`: on lists of a few nodes only, as in a large fleet."""

    cost: Singles
    load: Floats
    room: Floats
    owner: Ints
    fixed: Bools
    rank: Ints
    short: bool = False

    def solved(self, price: Floats | None = None) -> Solution:
        with ExitStack() as stack:
            for name, value in (
                {"SMALL": self.cost.size - 1, "WIDTH": 3, "MORE": 2}.items() if self.short else ()
            ):
                stack.enter_context(patch.object(assign, name, value))
            return assign.solve(
                MatrixCosts(self.cost, self.owner),
                self.load,
                self.room,
                owner=self.owner,
                fixed=self.fixed,
                rank=self.rank,
                price_ms=price,
            )


@st.composite
def fleets(draw: st.DrawFn, *, fixed: bool = True, ranks: int = 3) -> Fleet:
    """Coarse numbers give ties and rooms that are exactly full; fine ones the usual case. Some
    places are forbidden."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    nodes = draw(
        st.one_of(st.integers(1, 7), st.integers(11, 24))
    )  # more than are filled anew at a time
    lanes = draw(st.integers(1, 24 if nodes <= 7 else 60))
    coarse = draw(st.booleans())
    cost = rng.uniform(0, 200, (lanes, nodes))
    load = rng.lognormal(0, draw(st.sampled_from([0.0, 0.5, 2.0])), lanes)
    room = rng.lognormal(0, 0.7, nodes)
    room *= load.sum() / draw(st.sampled_from([0.3, 0.7, 0.9, 1.0, 1.3])) / room.sum()
    if coarse:
        cost, load, room = np.round(cost, -1), np.ceil(load), np.round(room)
    if draw(st.booleans()):  # nodes side by side
        cost[:, rng.integers(nodes)] = cost[:, rng.integers(nodes)]
    cost = np.where(
        rng.random((lanes, nodes)) < draw(st.sampled_from([0.0, 0.3, 0.95])), np.inf, cost
    )
    room[rng.random(nodes) < draw(st.sampled_from([0.0, 0.2]))] = 0.0
    owner = np.where(
        rng.random(lanes) < draw(st.sampled_from([0.0, 0.7, 1.0])),
        rng.integers(0, nodes, lanes),
        -1,
    )
    held = (rng.random(lanes) < draw(st.sampled_from([0.0, 0.4, 0.9, 1.0]))) & fixed
    rank = rng.integers(0, draw(st.integers(1, ranks)), lanes)
    short = draw(st.booleans())
    return Fleet(
        cost.astype(np.float32),
        load,
        room,
        owner.astype(np.int32),
        held,
        rank.astype(np.int32),
        short,
    )


def used(fleet: Fleet, place: Ints, *, free_only: bool = False) -> Floats:
    at = (place >= 0) & ~(fleet.fixed & free_only)
    out: Floats = np.bincount(place[at], fleet.load[at], minlength=len(fleet.room)).astype(
        np.float64
    )
    return out


def left(fleet: Fleet, place: Ints) -> Floats:
    out: Floats = fleet.room * FITS - used(fleet, place)
    return out


@settings(max_examples=150, deadline=None)
@given(fleets())
def test_no_node_over_room(fleet: Fleet) -> None:
    found = fleet.solved()
    of_fixed = used(fleet, np.where(fleet.fixed, fleet.owner, -1).astype(np.int32))
    assert (
        used(fleet, found.node, free_only=True) <= np.maximum(fleet.room - of_fixed, 0) * FITS
    ).all()


@settings(max_examples=150, deadline=None)
@given(fleets())
def test_every_lane_is_where_it_may_be(fleet: Fleet) -> None:
    node = fleet.solved().node
    at = (node >= 0) & ~fleet.fixed
    assert np.isfinite(fleet.cost[at, node[at]]).all()
    assert ((node >= -1) & (node < len(fleet.room))).all()


@settings(max_examples=150, deadline=None)
@given(fleets())
def test_lanes_wait_only_when_they_do_not_fit_simply(fleet: Fleet) -> None:
    """Neither beside those that are there, nor by moving one of them elsewhere (to a node on its
    list)."""
    node = fleet._replace(short=False).solved().node
    room = left(fleet, node) / FITS * (1 - 1e-8)
    for lane in np.flatnonzero((node < 0) & ~fleet.fixed):
        for n in np.flatnonzero(np.isfinite(fleet.cost[lane])):
            assert room[n] < fleet.load[lane], f"lane {lane} fits at node {n}"
            for other in np.flatnonzero((node == n) & ~fleet.fixed):
                if room[n] + fleet.load[other] >= fleet.load[lane]:
                    elsewhere = (
                        np.isfinite(fleet.cost[other])
                        & (room >= fleet.load[other])
                        & (np.arange(len(room)) != n)
                    )
                    assert not elsewhere.any(), (
                        f"lane {lane} fits at node {n} if lane {other} moves on"
                    )


@settings(max_examples=150, deadline=None)
@given(fleets(fixed=False))
def test_higher_rank_never_waits_for_lower(fleet: Fleet) -> None:
    node = fleet.solved().node
    for lane in np.flatnonzero(node < 0):
        for n in np.flatnonzero(np.isfinite(fleet.cost[lane])):
            lower = (node == n) & (fleet.rank < fleet.rank[lane])
            assert left(fleet, node)[n] + fleet.load[lower].sum() < fleet.load[lane] * FITS**2


@settings(max_examples=150, deadline=None)
@given(fleets(), st.integers(0, 2**32))
def test_bound_is_below_every_feasible_placement(fleet: Fleet, seed: int) -> None:
    """Below its own, and below those that are made at random: each lane at a node that has room, or
    waiting."""
    found = fleet.solved()
    assert found.bound <= found.objective * (1 + 1e-9) + 1e-9
    if fleet.rank.max() > 0:
        return  # waiting costs more by rank: the comparison below would have to know how much
    rng = np.random.default_rng(seed)
    for _ in range(20):
        place = np.where(fleet.fixed, fleet.owner, -1).astype(np.int32)
        for lane in rng.permutation(np.flatnonzero(~fleet.fixed)):
            fits = np.flatnonzero(
                np.isfinite(fleet.cost[lane]) & (left(fleet, place) / FITS >= fleet.load[lane])
            )
            if len(fits):
                place[lane] = rng.choice(fits)
        there = np.where(place >= 0, fleet.cost[np.arange(len(place)), place], np.inf)
        objective = float((fleet.load * np.where(np.isfinite(there), there, WAIT_MS)).sum())
        assert found.bound <= objective * (1 + 1e-6) + 1e-6


@settings(max_examples=150, deadline=None)
@given(fleets())
def test_fixed_lanes_stay(fleet: Fleet) -> None:
    assert (fleet.solved().node == fleet.owner)[fleet.fixed].all()


@settings(max_examples=100, deadline=None)
@given(fleets(fixed=False))
def test_orphans_only_keeps_everyone_else(fleet: Fleet) -> None:
    """With all lanes fixed that have an owner, as in an emergency, orphans are placed and nobody
    else is touched."""
    calm = fleet._replace(fixed=fleet.owner >= 0)
    found = calm.solved()
    assert (found.node == calm.owner)[calm.owner >= 0].all()


@settings(max_examples=100, deadline=None)
@given(fleets(fixed=False))
def test_nobody_moves_without_gain(fleet: Fleet) -> None:
    """A solution's solution is itself, or clearly cheaper."""
    first = fleet.solved()
    own = np.arange(len(fleet.room))[None, :] == first.node[:, None]
    again = fleet._replace(
        owner=first.node, cost=np.where(own, fleet.cost, fleet.cost + np.float32(2))
    )
    second = again.solved(first.price_ms)
    moved = second.node != first.node
    if moved.any() and (first.node >= 0).all():
        rows = np.arange(len(fleet.load))
        before, after = (
            again.load * again.cost[rows, place] for place in (first.node, second.node)
        )
        assert after.sum() < before.sum()
    elif moved.any():
        assert used(fleet, second.node).sum() >= used(fleet, first.node).sum() * (1 - 1e-9)


@settings(max_examples=100, deadline=None)
@given(fleets())
def test_same_input_same_output(fleet: Fleet) -> None:
    first, second = fleet.solved(), fleet.solved()
    assert (first.node == second.node).all()
    assert first.price_ms.tobytes() == second.price_ms.tobytes()
    assert (first.objective, first.bound) == (second.objective, second.bound)


@settings(max_examples=100, deadline=None)
@given(fleets())
def test_prices_are_not_negative(fleet: Fleet) -> None:
    price = fleet.solved().price_ms
    assert price.shape == fleet.room.shape
    assert np.isfinite(price).all()
    assert (price >= 0).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 1))
@example(16, 2, 0)
def test_identical_nodes_get_equal_shares(lanes: int, nodes: int, seed: int) -> None:
    """Of silent lanes, whose load is a trace; a node that costs more gets none."""
    cost = np.full((lanes, nodes + 1), 10.0, dtype=np.float32)
    cost[:, nodes] = 10.5
    owner = np.full(lanes, -1, dtype=np.int32)
    found = solve(
        MatrixCosts(cost, owner),
        np.full(lanes, 1e-6),
        np.full(nodes + 1, 1000.0 + seed),
        owner=owner,
    )
    shares = np.bincount(found.node, minlength=nodes + 1)
    assert shares[nodes] == 0
    assert shares[:nodes].max() - shares[:nodes].min() <= 1


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 40), st.integers(0, 2**32))
def test_two_identical_nodes_never_trade(lanes: int, seed: int) -> None:
    """Whoever has a lane keeps it, though both cost the same and one is fuller."""
    rng = np.random.default_rng(seed)
    owner = rng.integers(0, 2, lanes).astype(np.int32)
    cost = np.full((lanes, 2), 10.0, dtype=np.float32) + rng.uniform(
        0, TIE_MS * 0.9, (lanes, 2)
    ).astype(np.float32)
    load = rng.uniform(1, 5, lanes)
    found = solve(MatrixCosts(cost, owner), load, np.full(2, load.sum()), owner=owner)
    assert (found.node == owner).all()
