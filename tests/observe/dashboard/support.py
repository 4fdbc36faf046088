"""A fleet to look at."""

from __future__ import annotations

from collections.abc import Sequence

from agents.core.model.feeds import (
    FLEET,
    HOTSPOTS,
    FeedItem,
    FleetSummary,
    HotspotItem,
    WorkerRow,
    WorkerRows,
)
from agents.core.model.hotspots import HotspotState

SITES = (
    ("iad", "East US", 37.4, -79.8),
    ("sfo", "West US", 37.8, -122.4),
    ("fra", "Germany West Central", 50.1, 8.7),
)


def row(
    i: int, *, state: str = "ok", rate_eps: float = 100.0, lag_events: int = 0, kind: str = "node"
) -> WorkerRow:
    site, region, lat, lon = SITES[i % len(SITES)]
    name = f"node-{site}-{i}" if kind == "node" else f"{kind}-{i}"
    return WorkerRow(name, site, region, lat, lon, state, 4, rate_eps, lag_events, 12.3, 2000.0)


def summary(
    rows: Sequence[WorkerRow], *, turn: int = 0, turns: int = 1, lag_events: int = 40
) -> FleetSummary:
    here = sum(r.state == "ok" for r in rows)
    return FleetSummary(
        len(rows),
        here,
        1,
        32,
        30,
        1,
        1,
        998.5,
        1001.0,
        lag_events,
        31.4,
        94.2,
        workers=WorkerRows(turn, turns, tuple(rows)),
    )


def item(s: FleetSummary) -> FeedItem:
    return FeedItem(FLEET, "current", "calm", "calm", s, 4)


DALLAS = HotspotItem(
    "8326cbfffffffff-1000",
    HotspotState.OPEN,
    "Dallas, US",
    32.9,
    -97.0,
    14.2,
    2.1,
    940,
    1000,
    0,
    (3, 7),
)


def hot_item(h: HotspotItem) -> FeedItem:
    title = f"{h.state}: {h.place}"
    return FeedItem(HOTSPOTS, h.id, title, title, h, 4)
