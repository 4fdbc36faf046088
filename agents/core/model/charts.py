"""TODO."""

from __future__ import annotations

from dataclasses import dataclass

# ---- What pictures show, as values; agents/pictures draws them.

OF_FLEET, OF_NODE, OF_LANE = "fleet", "node/", "lane/"
LANES_AT_MOST = 1_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment of the fleet, a node or a lane (`lane/12`): events/s worked, lag in events,
    processing time in ms."""

    name: str
    rate_eps: float
    lag_events: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Line:
    """`ms`: epoch milliseconds, rising; `values`: as many."""

    name: str
    ms: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines over time, from `since_ms` to `until_ms`."""

    title: str
    unit: str
    since_ms: int
    until_ms: int
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Dot:
    """A site: `load` is the share of its nodes' capacity in use; `well` of its `nodes` take
    lanes."""

    name: str
    lat: float
    lon: float
    load: float
    nodes: int
    well: int


@dataclass(frozen=True, slots=True)
class Thread:
    """A lane: where its events come from, the row of the site that works it (-1: nobody),
    events/s."""

    lat: float
    lon: float
    site: int
    rate_eps: float


@dataclass(frozen=True, slots=True)
class Map:
    title: str
    dots: tuple[Dot, ...]
    threads: tuple[Thread, ...]


Picture = Plot | Map
