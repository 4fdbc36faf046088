"""Scores in NumPy, the whole lanes x nodes matrix at once: plain, exact, and the oracle for anything faster."""

from __future__ import annotations

import numpy as np

from kernels.geo import haversine_km_matrix
from kernels.tables import Candidates, Floats, LaneTable, NodeTable, RttModel, Terms, check


def rtt_ms(lanes: LaneTable, nodes: NodeTable, rtt: RttModel) -> Floats:
    """Round-trip time from each lane's place to each node, float64[L, N] (DESIGN 7).

    A node whose region is in the RTT table: the kilometres from the lane to the region nearest to it, fitted, plus the
    table from there to the node's region. Any other node: the kilometres from the lane to the node, fitted."""
    to_region_km = haversine_km_matrix(lanes.lat, lanes.lon, rtt.lat, rtt.lon)
    direct_km = haversine_km_matrix(lanes.lat, lanes.lon, nodes.lat, nodes.lon)
    out: Floats = rtt.a_ms + rtt.b_ms_per_km * direct_km
    known = nodes.site >= 0
    if len(rtt.lat) and known.any():
        nearest = to_region_km.argmin(axis=1)
        near_km = to_region_km[np.arange(len(lanes.lat)), nearest]
        last_mile_ms = rtt.a_ms + rtt.b_ms_per_km * near_km
        out[:, known] = last_mile_ms[:, None] + rtt.rtt_ms[nearest[:, None], nodes.site[known][None, :]]
    return out


def score(lanes: LaneTable, nodes: NodeTable, rtt: RttModel, *, move_ms: float) -> Terms:
    """What each lane would cost at each node, term by term, in ms.

    `move_ms` is charged at every node that is not the lane's own: it keeps lanes where they are when little is to be
    won. Raises ValueError naming what is not finite or out of range."""
    check(lanes, nodes, rtt)
    if not np.isfinite(move_ms) or move_ms < 0:
        raise ValueError(f"move_ms is {move_ms}: not a finite number from 0")
    way = rtt_ms(lanes, nodes, rtt)
    move: Floats = np.where(lanes.owner[:, None] == np.arange(len(nodes.lat))[None, :], 0.0, move_ms)
    return Terms(way, move, way + move)


def candidates(
    lanes: LaneTable,
    nodes: NodeTable,
    rtt: RttModel,
    *,
    move_ms: float,
    k: int | None = None,
    price_ms: Floats | None = None,
) -> Candidates:
    """The `k` cheapest nodes that take lanes (all of them by default), and the lane's own node, for each lane.

    `price_ms`, float64[N], is added for the choice and the order, not to the figures handed back: with it a planner
    asks again once the cheapest nodes are full (DESIGN 7.2). Raises ValueError as `score` does."""
    terms = score(lanes, nodes, rtt, move_ms=move_ms)
    return choose(terms, lanes, nodes, k=k, price_ms=price_ms)


def choose(
    terms: Terms, lanes: LaneTable, nodes: NodeTable, *, k: int | None = None, price_ms: Floats | None = None
) -> Candidates:
    """`candidates` of scores that are there already (the coordinator keeps the terms, to explain them)."""
    count = len(nodes.lat)
    width = count if k is None else min(k, count)
    if k is not None and k < 1:
        raise ValueError(f"k is {k}: at least one candidate is needed")
    own = lanes.owner[:, None] == np.arange(count)[None, :]
    key = terms.total_ms if price_ms is None else terms.total_ms + price_ms[None, :]
    key = np.where(nodes.takes[None, :] | own, key, np.inf)
    if width < count:  # own node kept: it must be among the k whatever it costs
        cut = np.argsort(np.where(own, -np.inf, key), axis=1, kind="stable")[:, :width]
        cut.sort(axis=1)
        within = np.argsort(np.take_along_axis(key, cut, axis=1), axis=1, kind="stable")
        order = np.take_along_axis(cut, within, axis=1)
    else:
        order = np.argsort(key, axis=1, kind="stable")
    left_out = ~np.isfinite(np.take_along_axis(key, order, axis=1))
    return Candidates(
        np.where(left_out, -1, order).astype(np.int32),
        np.where(left_out, np.inf, np.take_along_axis(terms.rtt_ms, order, axis=1)),
        np.where(left_out, np.inf, np.take_along_axis(terms.total_ms, order, axis=1)),
    )
