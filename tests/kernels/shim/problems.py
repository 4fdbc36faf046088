"""Problems in which every part of a cost matters for the answer: what a kernel forgets, shows."""

from __future__ import annotations

import numpy as np

from kernels.tables import (
    Floats,
    Problem,
    RttModel,
    Weights,
    lane_table,
    make_problem,
    no_rtt_table,
    node_table,
)


def busy(lanes: int, nodes: int, *, regions: int = 0, rules: int = 0, seed: int = 0) -> Problem:
    """Lanes and nodes about the whole ball, a quarter of the nodes at another's place and otherwise
    equal to it (ties), a tenth of the lanes at a node's. Some nodes take none, some keep none; most
    lanes have an own node, many a warm one, three different traffics, and half of them a rule."""
    random = np.random.default_rng(seed)
    lane_lat, lane_lon = places(random, lanes)
    node_lat, node_lon = places(random, nodes)
    twin, of = slice(0, nodes // 4), slice(nodes // 4, 2 * (nodes // 4))
    node_lat[twin], node_lon[twin] = node_lat[of], node_lon[of]
    at = random.integers(0, nodes, lanes // 10)
    lane_lat[: lanes // 10], lane_lon[: lanes // 10] = node_lat[at], node_lon[at]
    egress_ms, degraded_ms = random.random(nodes) * 5, random.choice([0.0, 20.0], nodes)
    site = random.integers(-1, regions, nodes) if regions else np.full(nodes, -1)
    for column in (egress_ms, degraded_ms, site):
        column[twin] = column[of]
    region_lat, region_lon = places(random, regions)
    rtt = no_rtt_table(5.0, 0.01)
    if regions:
        measured_ms, measured = (
            random.random((regions, regions)) * 150,
            random.random((regions, regions)) < 0.7,
        )
        names = tuple(f"region-{i}" for i in range(regions))
        rtt = RttModel(names, region_lat, region_lon, measured_ms, measured, 5.0, 0.01)
    return make_problem(
        lane_table(
            lane_lat,
            lane_lon,
            owner=random.integers(-1, nodes, lanes).astype(np.int32),
            warm=random.integers(-1, nodes, lanes).astype(np.int32),
            traffic=random.choice([1.0, 1.25, 3.0], lanes),
            rule=random.integers(-rules, rules, lanes).clip(-1).astype(np.int32),
        ),
        node_table(
            node_lat,
            node_lon,
            site=site.astype(np.int32),
            takes=random.random(nodes) < 0.8,
            keeps=random.random(nodes) < 0.8,
            egress_ms=egress_ms,
            degraded_ms=degraded_ms,
        ),
        rtt,
        Weights(move_ms=6.0, miss_ms=4.0),
        random.random((rules, nodes)) < 0.6,
    )


def places(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """Latitudes and longitudes, evenly over the ball."""
    return np.degrees(np.arcsin(random.uniform(-1, 1, count))), random.uniform(-180, 180, count)


def prices(nodes: int, seed: int = 0) -> Floats:
    """Half of the nodes have one, of up to 40 ms."""
    random = np.random.default_rng(seed)
    return np.where(random.random(nodes) < 0.5, random.random(nodes) * 40, 0.0)
