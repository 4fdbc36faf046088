"""The columns that go into a score and come out of it: one row per lane or node, units in the
names, all finite.

They are the interface of this package: what computes them may change, they may not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Singles: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int32]
Bools: TypeAlias = npt.NDArray[np.bool_]
Marks: TypeAlias = npt.NDArray[np.int64]
# the highest cost or price; more is an error, so that float32 keeps at least a sixteenth of a ms
MOST_MS = 1e6
MOST_ROUND_TRIPS = 100.0
MOST_PATH_MS = MOST_MS / MOST_ROUND_TRIPS


class LaneTable(NamedTuple):
    """L lanes. `lat`, `lon`: the rate-weighted middle of the lane's cells, degrees, float64[L].
    `owner`: row of the node that has it, -1 for none, int32[L]. `warm`: row of another node that
    still has the lane's caches, -1 for none, int32[L]. `traffic`: the network's present round-trip
    time divided by that when empty, 1 if not measured, float64[L], from 0.25 to 16. `rule`: row of
    the residency rule that binds it, -1 for none, int32[L]. `source`: row of the broker at which
    its data is, -1 if its data is where its events arise, int32[L]."""

    lat: Floats
    lon: Floats
    owner: Ints
    warm: Ints
    traffic: Floats
    rule: Ints
    source: Ints


class NodeTable(NamedTuple):
    """N nodes. `lat`, `lon` in degrees, float64[N]. `site`: row of the node's region in the RTT
    table, -1 if it is not in it, int32[N]. `takes`: whether it may be given lanes now, bool[N].
    `keeps`: whether it may keep those that it has, bool[N]. `egress_ms`: the cost of its site's
    egress; `degraded_ms`: the cost of its health, float64[N]."""

    lat: Floats
    lon: Floats
    site: Ints
    takes: Bools
    keeps: Bools
    egress_ms: Floats
    degraded_ms: Floats


class RttModel(NamedTuple):
    """Round-trip times in ms between S regions, and the cost of a kilometre where nothing was
    measured.

    `regions`: their names, in the order of the rows. `lat`, `lon`: degrees, float64[S]. `rtt_ms`:
    float64[S, S], from the row's region to the column's; a pair without a measurement (`measured`
    False) holds `a_ms + b_ms_per_km * km`."""

    regions: tuple[str, ...]
    lat: Floats
    lon: Floats
    rtt_ms: Floats
    measured: Bools
    a_ms: float
    b_ms_per_km: float


class Weights(NamedTuple):
    """The costs of a hand-over in ms: `move_ms` at every node but the lane's own, `miss_ms` at
    every node without warm caches of the lane (its own always has them). `round_trips`: how many
    round trips to its broker an event waits for before its result is visible, from 0 to
    MOST_ROUND_TRIPS (docs/distance.md measures it)."""

    move_ms: float = 2.0
    miss_ms: float = 0.0
    round_trips: float = 5.5


class Problem(NamedTuple):
    """Everything that a cost is made of (docs/planning.md). `allowed`: whether a rule allows its
    lanes at a node, bool[Q, N]. `path_ms`: the round-trip time between each of B brokers and each
    node, all of them known (kernels/paths.py completes them), from 0 to MOST_PATH_MS, float64[B,
    N].

    cost(l, n) = traffic_l * rtt(l, n) + miss_ms * (n not warm) + egress_ms(n) + degraded_ms(n) + move_ms * (n not own)
    rtt(l, n)  = round_trips * path_ms(source_l, n)  where the lane's data is at a broker; else
                 a_ms + b_ms_per_km * km(l, r) + table(r, region of n)  where r, the region of the table that is nearest
                 to the lane (the first among equals), and the node's region were measured; else
                 a_ms + b_ms_per_km * km(l, n)
    filters:     a lane may be at its own node if that keeps lanes, and at any other if that takes lanes; at either only if
                 its rule allows the node."""  # noqa: E501

    lanes: LaneTable
    nodes: NodeTable
    rtt: RttModel
    allowed: Bools
    weights: Weights
    path_ms: Floats


class Terms(NamedTuple):
    """The costs of the chosen lanes at every node, in ms, each float64[R, N]; `total_ms` is the sum
    of the others.

    `rtt_ms`: to the node and back on an empty network, as often as an event waits for it.
    `traffic_ms`: what traffic adds to it (or removes)."""

    rtt_ms: Floats
    traffic_ms: Floats
    miss_ms: Floats
    egress_ms: Floats
    degraded_ms: Floats
    move_ms: Floats
    total_ms: Floats


class Candidates(NamedTuple):
    """K nodes for each lane asked about, the lowest cost plus price first (then the lower row).
    `node` int32[R, K], -1 where there are fewer. `cost_ms` float32[R, K], without the price,
    infinite there. A lane's own node is always among them if it may stay there, in the K-th place
    if necessary."""

    node: Ints
    cost_ms: Singles


class Costs(Protocol):
    """The costs of one problem, computed on demand. Row order is the problem's. All are float32,
    equal on every exact kernel. The matrix is never stored (except by the oracle)."""

    @property
    def shape(self) -> tuple[int, int]:
        """(L, N)."""

    def find_candidates(
        self, k: int, price_ms: Floats | None = None, rows: Ints | None = None
    ) -> Candidates:
        """The K cheapest nodes (K = min(k, N)) once `price_ms`, float64[N], is added; for all
        lanes, or for `rows`."""

    def costs_at(self, lane: Ints, node: Ints) -> Singles:
        """The cost of each lane at the node beside it, float32 of the same length; infinite where
        it may not be."""


class Solution(NamedTuple):
    """Where lanes are to be. `node` int32[L], -1 for a lane that waits. `price_ms` float64[N]: the
    cost of one event/s of room at each node, 0 if there is room to spare. `objective` and `bound`
    in ms x events/s: the sum of load x cost, and what no placement can be below."""

    node: Ints
    price_ms: Floats
    objective: float
    bound: float


class Numerics(NamedTuple):
    """What the planner computes with, chosen once (kernels/scoring/choose.py). `why` is logged."""

    name: str
    why: str
    costs: Callable[[Problem], Costs]
    solve: Solve


class Solve(Protocol):
    """Places lanes at the lowest cost within the available room; see
    kernels/placement/assign.py."""

    def __call__(
        self,
        costs: Costs,
        load_eps: Floats,
        room_eps: Floats,
        *,
        owner: Ints,
        fixed: Bools | None = None,
        rank: Ints | None = None,
        price_ms: Floats | None = None,
    ) -> Solution: ...


def lane_table(
    lat: Sequence[float] | Floats,
    lon: Sequence[float] | Floats,
    *,
    owner: Sequence[int] | Ints | None = None,
    warm: Sequence[int] | Ints | None = None,
    traffic: Sequence[float] | Floats | None = None,
    rule: Sequence[int] | Ints | None = None,
    source: Sequence[int] | Ints | None = None,
) -> LaneTable:
    """A LaneTable. Omitted columns are neutral: no owner, cold, no traffic, no rule, no broker."""
    n = len(lat)
    none = np.full(n, -1, dtype=np.int32)
    return LaneTable(
        np.asarray(lat, dtype=np.float64),
        np.asarray(lon, dtype=np.float64),
        none if owner is None else np.asarray(owner, dtype=np.int32),
        none if warm is None else np.asarray(warm, dtype=np.int32),
        np.ones(n) if traffic is None else np.asarray(traffic, dtype=np.float64),
        none if rule is None else np.asarray(rule, dtype=np.int32),
        none if source is None else np.asarray(source, dtype=np.int32),
    )


def node_table(
    lat: Sequence[float] | Floats,
    lon: Sequence[float] | Floats,
    *,
    site: Sequence[int] | Ints | None = None,
    takes: Sequence[bool] | Bools | None = None,
    keeps: Sequence[bool] | Bools | None = None,
    egress_ms: Sequence[float] | Floats | None = None,
    degraded_ms: Sequence[float] | Floats | None = None,
) -> NodeTable:
    """A NodeTable. Omitted columns are neutral: outside the RTT table, healthy, takes and keeps
    lanes, no cost."""
    n = len(lat)
    return NodeTable(
        np.asarray(lat, dtype=np.float64),
        np.asarray(lon, dtype=np.float64),
        np.full(n, -1, dtype=np.int32) if site is None else np.asarray(site, dtype=np.int32),
        np.ones(n, dtype=bool) if takes is None else np.asarray(takes, dtype=bool),
        np.ones(n, dtype=bool) if keeps is None else np.asarray(keeps, dtype=bool),
        np.zeros(n) if egress_ms is None else np.asarray(egress_ms, dtype=np.float64),
        np.zeros(n) if degraded_ms is None else np.asarray(degraded_ms, dtype=np.float64),
    )


def no_rtt_table(a_ms: float, b_ms_per_km: float) -> RttModel:
    """An RTT model without any measurement: `a_ms + b_ms_per_km * km` everywhere."""
    none = np.zeros(0)
    return RttModel(
        (), none, none, np.zeros((0, 0)), np.zeros((0, 0), dtype=bool), a_ms, b_ms_per_km
    )


def make_problem(
    lanes: LaneTable,
    nodes: NodeTable,
    rtt: RttModel,
    weights: Weights,
    allowed: Bools | None = None,
    path_ms: Floats | None = None,
) -> Problem:
    """A checked Problem; without `allowed` there are no rules, without `path_ms` no brokers. Raises
    ValueError naming column and row."""
    whole = Problem(
        lanes,
        nodes,
        rtt,
        np.zeros((0, len(nodes.lat)), dtype=bool) if allowed is None else allowed,
        weights,
        np.zeros((0, len(nodes.lat))) if path_ms is None else path_ms,
    )
    check_problem(whole)
    return whole


def check_problem(p: Problem) -> None:
    """Raises ValueError naming the first column and row that is not finite, out of range or of the
    wrong length."""
    lanes, nodes, rtt = p.lanes, p.nodes, p.rtt
    for table, name in ((lanes, "lanes"), (nodes, "nodes"), (rtt, "rtt")):
        _check_columns(table, name)
        _check_range(table.lat, f"{name}.lat", -90.0, 90.0)
        _check_range(table.lon, f"{name}.lon", -180.0, 180.0)
    _check_range(lanes.traffic, "lanes.traffic", 0.25, 16.0)
    _check_range(lanes.owner, "lanes.owner", -1, len(nodes.lat) - 1)
    _check_range(lanes.warm, "lanes.warm", -1, len(nodes.lat) - 1)
    _check_range(lanes.rule, "lanes.rule", -1, len(p.allowed) - 1)
    _check_range(lanes.source, "lanes.source", -1, len(p.path_ms) - 1)
    _check_range(nodes.site, "nodes.site", -1, len(rtt.lat) - 1)
    _check_range(nodes.egress_ms, "nodes.egress_ms", 0.0, MOST_MS)
    _check_range(nodes.degraded_ms, "nodes.degraded_ms", 0.0, MOST_MS)
    _check_range(rtt.rtt_ms.ravel(), "rtt.rtt_ms (row by row)", 0.0, MOST_MS)
    for name, value in (
        ("rtt.a_ms", rtt.a_ms),
        ("rtt.b_ms_per_km", rtt.b_ms_per_km),
        *p.weights._asdict().items(),
    ):
        high = MOST_ROUND_TRIPS if name == "round_trips" else MOST_MS
        _check_range(np.array([value]), name, 0.0, high)
    if rtt.rtt_ms.shape != (len(rtt.lat), len(rtt.lat)) or rtt.measured.shape != rtt.rtt_ms.shape:
        raise ValueError(
            f"rtt.rtt_ms is {rtt.rtt_ms.shape}, not square in its {len(rtt.lat)} regions"
        )
    if p.allowed.ndim != 2 or p.allowed.shape[1] != len(nodes.lat):
        raise ValueError(
            f"allowed is {p.allowed.shape}: a row per rule, a column per node ({len(nodes.lat)})"
        )
    if p.path_ms.ndim != 2 or p.path_ms.shape[1] != len(nodes.lat):
        raise ValueError(
            f"path_ms is {p.path_ms.shape}: a row per broker, a column per node ({len(nodes.lat)})"
        )
    _check_range(p.path_ms.ravel(), "path_ms (row by row)", 0.0, MOST_PATH_MS)


def check_price(price_ms: Floats, nodes: int) -> None:
    """Raises ValueError unless it is float64[N], finite, and not negative."""
    if price_ms.shape != (nodes,):
        raise ValueError(f"price_ms is {price_ms.shape}, there are {nodes} nodes")
    _check_range(price_ms, "price_ms", 0.0, MOST_MS)


def _check_columns(table: LaneTable | NodeTable | RttModel, name: str) -> None:
    rows = len(table.lat)
    for column, values in table._asdict().items():
        if isinstance(values, (np.ndarray, tuple)) and len(values) != rows:
            raise ValueError(f"{name}.{column} has {len(values)} rows, {name}.lat has {rows}")


def _check_range(values: Floats | Ints, name: str, low: float, high: float = float("inf")) -> None:
    bad = ~(np.isfinite(values) & (values >= low) & (values <= high))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"{name}[{row}] is {values[row]}: not a finite number from {low:g} to {high:g}"
        )
