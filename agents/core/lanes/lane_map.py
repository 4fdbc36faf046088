"""From cell to lane (PROTOCOL 1, topic `lanemap`): the same map, cell and key always give the same
lane, in every process.

A light cell is in one lane. A heavy cell is spread over several lanes by Kafka's murmur2 of the
key. A cell that the map does not have is in lane murmur2(cell) mod lanes (PROTOCOL 2.12)."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import asin, atan2, ceil, cos, degrees, hypot, radians, sin

import msgspec
from h3.api import basic_int

from agents.base.errors import SettingsError
from agents.core.lanes.records import NotEvents, Rejected, parse_event

_CACHED_CELLS = 50_000


def murmur2(data: bytes) -> int:
    """Kafka's default hash of a key (org.apache.kafka.common.utils.Utils), made positive as its
    partitioner does."""
    length = len(data)
    whole = length & ~3
    h = 0x9747B28C ^ length
    for (k,) in struct.iter_unpack("<I", data[:whole]):
        k = (k * 0x5BD1E995) & 0xFFFFFFFF
        k ^= k >> 24
        h = ((h * 0x5BD1E995) ^ (k * 0x5BD1E995)) & 0xFFFFFFFF
    rest = length - whole
    if rest:
        h ^= int.from_bytes(data[whole:], "little")
        h = (h * 0x5BD1E995) & 0xFFFFFFFF
    h ^= h >> 13
    h = (h * 0x5BD1E995) & 0xFFFFFFFF
    h ^= h >> 15
    return h & 0x7FFFFFFF


class _Wire(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON in the topic."""

    version: int
    resolution: int
    lanes: int
    cells: dict[str, list[int]]
    rate_eps: list[float]
    centroid: list[tuple[float, float]]


@dataclass(frozen=True)
class LaneMap:
    """`cell_lanes`: the lanes of each H3 cell (hex). Per lane, as expected when the map was built:
    `rate_eps` (events/s) and `centroid` (lat, lon in degrees, weighted by rate)."""

    version: int
    lanes: int
    resolution: int
    cell_lanes: Mapping[str, tuple[int, ...]]
    rate_eps: tuple[float, ...]
    centroid: tuple[tuple[float, float], ...]
    _seen: dict[int, tuple[bytes, tuple[int, ...]]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def lane_of(self, cell: str, key: bytes) -> int:
        """The lane of an event of this cell and lane key."""
        lanes = self.lanes_of_cell(cell)
        return lanes[0] if len(lanes) == 1 else lanes[murmur2(key) % len(lanes)]

    def lanes_of_cell(self, cell: str) -> tuple[int, ...]:
        """The lanes that events of this cell can be in."""
        return self.cell_lanes.get(cell) or (murmur2(cell.encode()) % self.lanes,)

    def locate_event(self, lat: float, lon: float, key: bytes) -> tuple[bytes, int]:
        """(cell as hex, lane) of an event at these coordinates in degrees. Like `lane_of`, but
        faster, because cells are cached."""
        index = basic_int.latlng_to_cell(lat, lon, self.resolution)
        seen = self._seen.get(index)
        if seen is None:
            cell = basic_int.int_to_str(index)
            lanes = self.lanes_of_cell(cell)
            if len(self._seen) >= _CACHED_CELLS:
                self._seen.clear()
            seen = self._seen[index] = (cell.encode(), lanes)
        lanes = seen[1]
        return seen[0], lanes[0] if len(lanes) == 1 else lanes[murmur2(key) % len(lanes)]

    def encode(self) -> bytes:
        """The JSON for the topic; equal maps give equal bytes."""
        cells = {cell: list(self.cell_lanes[cell]) for cell in sorted(self.cell_lanes)}
        return msgspec.json.encode(
            _Wire(
                self.version,
                self.resolution,
                self.lanes,
                cells,
                list(self.rate_eps),
                list(self.centroid),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> LaneMap:
        """Raises SettingsError, naming what is wrong."""
        try:
            w = msgspec.json.decode(data, type=_Wire)
        except msgspec.DecodeError as e:
            raise SettingsError(f"lane map: {e}") from e
        if w.lanes < 1 or not 0 <= w.resolution <= 15 or w.version < 0:
            raise SettingsError("lane map: version must be >= 0, lanes >= 1, resolution 0 to 15")
        if len(w.rate_eps) != w.lanes or len(w.centroid) != w.lanes:
            raise SettingsError(
                f"lane map: rate_eps and centroid must have one entry for each of {w.lanes} lanes"
            )
        for cell, lanes in w.cells.items():
            if (
                not basic_int.is_valid_cell(_index_from_cell(cell))
                or basic_int.get_resolution(_index_from_cell(cell)) != w.resolution
            ):
                raise SettingsError(
                    f"lane map: {cell!r} is not a valid H3 cell of resolution {w.resolution}"
                )
            if (
                not lanes
                or len(set(lanes)) != len(lanes)
                or not all(0 <= n < w.lanes for n in lanes)
            ):
                raise SettingsError(
                    f"lane map: cell {cell} must have distinct lanes from 0 to {w.lanes - 1}, has "
                    f"{lanes}"
                )
        cells = {cell: tuple(lanes) for cell, lanes in w.cells.items()}
        return cls(w.version, w.lanes, w.resolution, cells, tuple(w.rate_eps), tuple(w.centroid))


def _index_from_cell(cell: str) -> int:
    try:
        return int(basic_int.str_to_int(cell))
    except ValueError:
        return 0


def build_lane_map(
    sample: Iterable[bytes],
    lanes: int,
    resolution: int,
    version: int,
    *,
    total_eps: float | None = None,
    tell: Callable[[str], None] | None = None,
) -> LaneMap:
    """A lane map from a sample of raw events. Records that are not events with coordinates are
    skipped; `tell` gets a line about the invalid ones.

    Cells heavier than one lane's share get several lanes of their own. The others are put along a
    Hilbert curve and cut into runs of nearly equal rate, so that lanes are balanced and compact.
    Rates are scaled to `total_eps` events/s, by default to the sample's own rate in event time. The
    result does not depend on the order of the sample. Raises SettingsError when the sample has no
    event with coordinates."""
    if lanes < 1:
        raise SettingsError(f"lane map: lanes must be at least 1, is {lanes}")
    counts: Counter[int] = Counter()
    first, last = None, None
    refused, read = NotEvents(), 0
    for raw in sample:
        read += 1
        event = parse_event(raw, 1 << 62, 1 << 30, 0)
        if isinstance(event, Rejected):
            refused.add_rejected(event)
        elif event.lat is not None and event.lon is not None:
            counts[basic_int.latlng_to_cell(event.lat, event.lon, resolution)] += 1
            first = event.ts_ms if first is None else min(first, event.ts_ms)
            last = event.ts_ms if last is None else max(last, event.ts_ms)
    if first is None or last is None:
        raise SettingsError(
            f"lane map: no event with coordinates in a sample of {read:,} lines"
            f"{refused.describe_counts()}"
        )
    if refused.counts and tell is not None:
        tell(
            f"lane map: {refused.counts.total():,} of {read:,} lines skipped"
            f"{refused.describe_counts()}"
        )
    total = sum(counts.values())
    if total_eps is None:
        total_eps = total * 1000 / max(last - first, 1000)
    of_cell = _share_out_cells(counts, lanes)
    # Centroids are rate-weighted means of unit vectors, turned back into degrees at the end.
    weight = [0.0] * lanes
    at = [[0.0, 0.0, 0.0] for _ in range(lanes)]
    for cell in sorted(of_cell):
        x, y, z = _unit_vector(*basic_int.cell_to_latlng(cell))
        for n in of_cell[cell]:
            w = counts[cell] / len(of_cell[cell])
            weight[n] += w
            at[n] = [at[n][0] + w * x, at[n][1] + w * y, at[n][2] + w * z]
    everywhere = [sum(a[i] for a in at) for i in range(3)]
    return LaneMap(
        version,
        lanes,
        resolution,
        {basic_int.int_to_str(cell): tuple(of_cell[cell]) for cell in sorted(of_cell)},
        tuple(round(total_eps * w / total, 6) for w in weight),
        tuple(
            _lat_lon_from_vector(a if w else everywhere) for a, w in zip(at, weight, strict=True)
        ),
    )


def _share_out_cells(counts: Mapping[int, int], lanes: int) -> dict[int, list[int]]:
    """The lanes of each cell, so that the heaviest lane is as light as possible with `lanes`
    lanes."""
    along = sorted(counts, key=_hilbert_position)

    def cut_at_limit(limit: float) -> tuple[dict[int, int], list[list[int]]]:
        heavy = {c: ceil(counts[c] / limit) for c in along if counts[c] > limit}
        return heavy, _fill_runs([c for c in along if c not in heavy], counts, limit)

    # Search by halving for the lowest limit of a lane's load at which all cells fit.
    total = sum(counts.values())
    low, high = total / lanes, float(total)
    best = cut_at_limit(high)
    for _ in range(40):
        mid = (low + high) / 2
        heavy, runs = cut_at_limit(mid)
        if sum(heavy.values()) + len(runs) <= lanes:
            high, best = mid, (heavy, runs)
        else:
            low = mid
    heavy, runs = best
    # For each lane to spare: halve the heaviest run, or split the heaviest cell once more.
    for _ in range(lanes - sum(heavy.values()) - len(runs)):
        i = max(range(len(runs)), key=lambda i: sum(counts[c] for c in runs[i]), default=-1)
        top = max(heavy, key=lambda c: (counts[c] / heavy[c], c), default=-1)
        if top >= 0 and (i < 0 or counts[top] / heavy[top] >= sum(counts[c] for c in runs[i])):
            heavy[top] += 1
        elif len(runs[i]) > 1:
            runs[i : i + 1] = _halve_run(runs[i], counts)
        else:
            heavy[runs.pop(i)[0]] = 2
    # Runs get the first lanes, heavy cells the rest, both along the curve.
    of_cell = {c: [n] for n, run in enumerate(runs) for c in run}
    n = len(runs)
    for c in along:
        if c in heavy:
            of_cell[c] = list(range(n, n + heavy[c]))
            n += heavy[c]
    return of_cell


def _fill_runs(cells: Sequence[int], counts: Mapping[int, int], limit: float) -> list[list[int]]:
    """The fewest runs of `cells`, in order, each at most `limit` heavy; no cell is heavier."""
    runs: list[list[int]] = [[]] if cells else []
    load = 0
    for c in cells:
        if load + counts[c] > limit and runs[-1]:
            runs.append([])
            load = 0
        runs[-1].append(c)
        load += counts[c]
    return runs


def _halve_run(cells: Sequence[int], counts: Mapping[int, int]) -> list[list[int]]:
    """Two runs, neither empty, as even as possible."""
    total = sum(counts[c] for c in cells)
    left = list(accumulate(counts[c] for c in cells))
    at = min(range(1, len(cells)), key=lambda i: (max(left[i - 1], total - left[i - 1]), i))
    return [list(cells[:at]), list(cells[at:])]


def _hilbert_position(cell: int) -> tuple[int, int]:
    """The position of a cell's centre on a Hilbert curve over the map, 65,536 steps a side; then
    its index, which breaks ties."""
    lat, lon = basic_int.cell_to_latlng(cell)
    side = 1 << 16
    x = min(int((lon + 180) / 360 * side), side - 1)
    y = min(int((lat + 90) / 180 * side), side - 1)
    d, s = 0, side // 2
    while s:
        rx, ry = int(x & s > 0), int(y & s > 0)
        d += s * s * ((3 * rx) ^ ry)
        if ry == 0:
            if rx == 1:
                x, y = side - 1 - x, side - 1 - y
            x, y = y, x
        s //= 2
    return d, cell


def _unit_vector(lat: float, lon: float) -> tuple[float, float, float]:
    a, b = radians(lat), radians(lon)
    return cos(a) * cos(b), cos(a) * sin(b), sin(a)


def _lat_lon_from_vector(v: Sequence[float]) -> tuple[float, float]:
    x, y, z = v
    size = hypot(x, y, z)
    return (
        (round(degrees(asin(z / size)), 5), round(degrees(atan2(y, x)), 5)) if size else (0.0, 0.0)
    )
