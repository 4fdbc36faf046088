"""The tables that stay the same between ticks: where lanes and nodes are, sorted so that neighbours
on the map are neighbours in memory.

They are made once for the same columns of places, sites and rules, and kept
(`ground_of_problem`). prepare.py describes the arrays."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from kernels.geo import find_nearest, haversine_km_rows, unit_vectors
from kernels.tables import Floats, Ints, Problem, Singles

BLOCK = 64
GRID = 2.0**26  # steps of 1/GRID: no difference is so small that a device flushes its square to 0
NO_ROW = np.iinfo(np.int32).max
KEPT = 4
CAP_SLACK_RAD = 1e-3  # 1 - cos in float32 is off by up to 3e-7, which is 8e-4 rad at distance 0

SPREAD = (
    (32, 0x1F00000000FFFF),
    (16, 0x1F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)  # spreads the bits of a 20-bit number three apart

Keys: TypeAlias = npt.NDArray[np.uint64]
Column: TypeAlias = Floats | Ints


class Ground(NamedTuple):
    """See prepare.py."""

    lane_row: Ints
    lane_place: Ints
    lane_xyz: Singles
    lane_filter: Ints
    region: Ints
    near_km: Floats
    first: Ints
    filter_region: Ints
    filter_rule: Ints
    node_row: Ints
    node_place: Ints
    node_xyz: Singles
    site: Ints
    cap_xyz: Singles
    cap_rad: Singles


_lock = threading.Lock()
_kept: list[tuple[tuple[Column, ...], Ground]] = []


def ground_of_problem(p: Problem) -> Ground:
    """The Ground of a checked problem; one that was made before is reused if its columns are equal.
    Thread-safe."""
    lanes, nodes = p.lanes, p.nodes
    columns: tuple[Column, ...] = (
        lanes.lat,
        lanes.lon,
        lanes.rule,
        nodes.lat,
        nodes.lon,
        nodes.site,
        lanes.source,
    )
    columns += (p.rtt.lat, p.rtt.lon)
    with _lock:
        for i, (made_of, found) in enumerate(_kept):
            if all(map(np.array_equal, made_of, columns)):
                _kept.append(_kept.pop(i))
                return found
    made = _make_ground(p)
    with _lock:
        _kept.append((tuple(column.copy() for column in columns), made))
        del _kept[:-KEPT]
    return made


def _make_ground(p: Problem) -> Ground:
    lanes, nodes, rtt = p.lanes, p.nodes, p.rtt
    if len(rtt.lat):
        region = find_nearest(lanes.lat, lanes.lon, rtt.lat, rtt.lon)
        near_km = haversine_km_rows(lanes.lat, lanes.lon, rtt.lat[region], rtt.lon[region])
    else:
        region, near_km = np.zeros(len(lanes.lat), dtype=np.int32), np.zeros(len(lanes.lat))
    there = lanes.source >= 0
    region[there] = len(rtt.lat) + 1 + lanes.source[there]
    filters = region.astype(np.int64) * (len(p.allowed) + 1) + lanes.rule + 1
    used, lane_filter = np.unique(filters, return_inverse=True)
    vectors = unit_vectors(lanes.lat, lanes.lon)
    lane_row = np.lexsort((morton_codes(vectors), lane_filter)).astype(np.int32)
    lane_filter = lane_filter[lane_row].astype(np.int32)
    node_row, node_place, node_xyz, caps = _sort_nodes(nodes.lat, nodes.lon)
    # A broker's paths differ from node to node, so with brokers each node has its own column.
    own = np.arange(len(nodes.lat), dtype=np.int32) if there.any() else nodes.site
    none = len(nodes.lat) if there.any() else len(rtt.lat)
    site = np.full(len(node_row), none, dtype=np.int32)
    site[node_place[own >= 0]] = own[own >= 0]
    return Ground(
        lane_row=lane_row,
        lane_place=_invert_rows(lane_row, len(lane_row)),
        lane_xyz=_to_singles(vectors[lane_row]),
        lane_filter=lane_filter,
        region=region[lane_row],
        near_km=near_km[lane_row],
        first=np.searchsorted(lane_filter, np.arange(len(used) + 1)).astype(np.int32),
        filter_region=(used // (len(p.allowed) + 1)).astype(np.int32),
        filter_rule=(used % (len(p.allowed) + 1) - 1).astype(np.int32),
        node_row=node_row,
        node_place=node_place,
        node_xyz=node_xyz,
        site=site,
        cap_xyz=_to_singles(caps[:, :3]),
        cap_rad=np.ascontiguousarray(caps[:, 3], dtype=np.float32),
    )


def _sort_nodes(lat: Floats, lon: Floats) -> tuple[Ints, Ints, Singles, Floats]:
    """Rows by place, places by row, vectors by place, and the caps that bound each block of places
    (float64[P / 64, 4]: the middle, then the radius in radians)."""
    vectors = unit_vectors(lat, lon)
    padded = -(-len(lat) // BLOCK) * BLOCK
    node_row = np.full(padded, NO_ROW, dtype=np.int32)
    node_row[: len(lat)] = np.concatenate(
        [np.zeros(0, dtype=np.int64), *split_into_blocks(vectors, np.arange(len(lat)))]
    )
    by_place = (
        np.repeat(vectors[node_row[len(lat) - 1]][None, :], padded, axis=0)
        if len(lat)
        else np.zeros((0, 3))
    )
    by_place[: len(lat)] = vectors[node_row[: len(lat)]]
    blocks = by_place.reshape(-1, BLOCK, 3)
    middle = blocks.mean(axis=1)
    length = np.linalg.norm(middle, axis=1, keepdims=True)
    middle = np.where(length > 1e-6, middle / np.maximum(length, 1e-6), blocks[:, 0])
    cosine = np.einsum("bjx,bx->bj", blocks, middle).min(axis=1)
    radius = np.arccos(np.clip(cosine, -1.0, 1.0)) + CAP_SLACK_RAD
    return (
        node_row,
        _invert_rows(node_row, len(lat)),
        _to_singles(by_place),
        np.column_stack((middle, radius)),
    )


def split_into_blocks(
    vectors: Floats, rows: npt.NDArray[np.intp]
) -> Iterator[npt.NDArray[np.intp]]:
    """Rows of `vectors`, float64[A, 3], in compact blocks (the last one may be smaller): more than
    a block is cut in two across its longest side. Blocks of a Z-order curve would be twice as
    wide."""
    if len(rows) <= BLOCK:
        yield rows
        return
    own = vectors[rows]
    rows = rows[np.argsort(own[:, np.ptp(own, axis=0).argmax()], kind="stable")]
    half = -(-len(rows) // (2 * BLOCK)) * BLOCK
    yield from split_into_blocks(vectors, rows[:half])
    yield from split_into_blocks(vectors, rows[half:])


def morton_codes(vectors: Floats) -> Keys:
    """Place of each unit vector (float64[A, 3]) on a Z-order curve through the cube around the
    ball, uint64[A]."""
    steps = ((vectors + 1.0) * 0.5 * ((1 << 20) - 1)).astype(np.uint64)
    for shift, mask in SPREAD:
        steps = (steps | (steps << np.uint64(shift))) & np.uint64(mask)
    out: Keys = steps[:, 0] | (steps[:, 1] << np.uint64(1)) | (steps[:, 2] << np.uint64(2))
    return out


def _invert_rows(rows: Ints, count: int) -> Ints:
    out = np.empty(count, dtype=np.int32)
    out[rows[:count]] = np.arange(count, dtype=np.int32)
    return out


def _to_singles(vectors: Floats) -> Singles:
    """float32[3, A] of float64[A, 3], in steps of 1/GRID."""
    return np.ascontiguousarray((np.rint(vectors * GRID) / GRID).T, dtype=np.float32)
