"""The columns that go into a score and come out: one row per lane or node, units in the names, all finite.

These are the interface of this package. What computes them may change (DESIGN 7.1), they may not."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int32]
Bools: TypeAlias = npt.NDArray[np.bool_]


class LaneTable(NamedTuple):
    """L lanes. `lat`, `lon`: the rate-weighted middle of the lane's cells, degrees, float64[L]. `rate_eps`: arrival
    rate, float64[L]. `owner`: row of the node that has it, -1 for none, int32[L]."""

    lat: Floats
    lon: Floats
    rate_eps: Floats
    owner: Ints


class NodeTable(NamedTuple):
    """N nodes. `lat`, `lon` in degrees, float64[N]. `site`: row of the node's region in the RTT table, -1 if it is in
    none, int32[N]. `capacity_eps` float64[N]. `takes`: whether it takes lanes now, bool[N]."""

    lat: Floats
    lon: Floats
    site: Ints
    capacity_eps: Floats
    takes: Bools


class RttModel(NamedTuple):
    """Round-trip times in ms between S regions, and what a kilometre costs where nothing was measured.

    `regions`: their names, in the order of the rows. `lat`, `lon`: degrees, float64[S]. `rtt_ms`: float64[S, S], from
    the row's region to the column's; a pair without a measurement (`measured` False) holds `a_ms + b_ms_per_km *
    km`."""

    regions: tuple[str, ...]
    lat: Floats
    lon: Floats
    rtt_ms: Floats
    measured: Bools
    a_ms: float
    b_ms_per_km: float


class Terms(NamedTuple):
    """What lane l costs at node n, in ms, each float64[L, N]; `total_ms` is the sum of the others.

    `rtt_ms`: to the node and back. `move_ms`: the price of a hand-over, 0 at the lane's own node."""

    rtt_ms: Floats
    move_ms: Floats
    total_ms: Floats


class Candidates(NamedTuple):
    """The K nodes to consider for each lane, cheapest total first (then lower row): `node` int32[L, K], -1 where there
    are fewer than K; `rtt_ms`, `total_ms` float64[L, K], infinite there. A lane's own node is always among them."""

    node: Ints
    rtt_ms: Floats
    total_ms: Floats


def check(lanes: LaneTable, nodes: NodeTable, rtt: RttModel) -> None:
    """Raises ValueError that names the first column and row that is not finite, out of range or of the wrong length."""
    for table, name in ((lanes, "lanes"), (nodes, "nodes"), (rtt, "rtt")):
        _columns(table, name)
        _range(table.lat, f"{name}.lat", -90.0, 90.0)
        _range(table.lon, f"{name}.lon", -180.0, 180.0)
    _range(lanes.rate_eps, "lanes.rate_eps", 0.0)
    _range(nodes.capacity_eps, "nodes.capacity_eps", 0.0)
    _range(rtt.rtt_ms.ravel(), "rtt.rtt_ms (row by row)", 0.0)
    _range(np.array([rtt.a_ms]), "rtt.a_ms", 0.0)
    _range(np.array([rtt.b_ms_per_km]), "rtt.b_ms_per_km", 0.0)
    _range(lanes.owner, "lanes.owner", -1, len(nodes.lat) - 1)
    _range(nodes.site, "nodes.site", -1, len(rtt.lat) - 1)
    if rtt.rtt_ms.shape != (len(rtt.lat), len(rtt.lat)):
        raise ValueError(f"rtt.rtt_ms is {rtt.rtt_ms.shape}, not square in its {len(rtt.lat)} regions")


def _columns(table: LaneTable | NodeTable | RttModel, name: str) -> None:
    rows = len(table.lat)
    for column, values in table._asdict().items():
        if isinstance(values, (np.ndarray, tuple)) and len(values) != rows:
            raise ValueError(f"{name}.{column} has {len(values)} rows, {name}.lat has {rows}")


def _range(values: Floats | Ints, name: str, low: float, high: float = float("inf")) -> None:
    bad = ~(np.isfinite(values) & (values >= low) & (values <= high))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"{name}[{row}] is {values[row]}: not a finite number from {low:g} to {high:g}")
