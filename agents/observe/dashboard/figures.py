"""What is shown, as values: `Dashboard` takes items of the feeds and returns the present figures.
It reads no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agents.core.model.feeds import (
    AlertItem,
    FeedItem,
    FleetSummary,
    HotspotItem,
    PlacementFigures,
    PlacementPlan,
    Severity,
    WorkerRow,
)
from agents.core.model.hotspots import HotspotState
from agents.core.model.topology import WorkerKind

ACTS = 200
WAYS_NAMED, LANES_NAMED = 3, 6
STALE_S = 5.0  # the feed `fleet` has an item every second
MOVE, HOTSPOT = "move", "hotspot"
HOT_S = 86_400.0  # an open hotspot of which nothing is heard for longer is not shown
WELL = frozenset({"ok", "full", "draining", "drained"})  # intended, by it or an operator


@dataclass(frozen=True, slots=True)
class Act:
    """`at_s`: the epoch time in the item. `kind`: `move`, `hotspot`, or an alert's severity."""

    at_s: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class DashboardFigures:
    """`silent_s`: seconds since the last item of the fleet; None before the first. `link`: why
    there is no connection; empty while there is one. `rows` are complete once every share has
    arrived (`all_rows`). `hotspots`: the open ones, the highest excess first."""

    source: str
    summary: FleetSummary | None = None
    placement: PlacementFigures | None = None
    rows: tuple[WorkerRow, ...] = ()
    acts: tuple[Act, ...] = ()
    link: str = ""
    silent_s: float | None = None
    all_rows: bool = True
    hotspots: tuple[HotspotItem, ...] = ()

    @property
    def stale(self) -> bool:
        return self.silent_s is not None and self.silent_s > STALE_S


@dataclass(frozen=True, slots=True)
class SiteOnMap:
    """A site on the map. `load`: the share of its workers' capacity in use. `well`: how many of its
    `workers` are at work."""

    name: str
    lat: float
    lon: float
    load: float
    workers: int
    well: int


def load_of(row: WorkerRow) -> float:
    """The share of its capacity in use."""
    return row.rate_eps / row.capacity_eps if row.capacity_eps > 0 else 0.0


def is_well(row: WorkerRow) -> bool:
    return row.state in WELL


def sites_on_map(rows: Iterable[WorkerRow]) -> tuple[SiteOnMap, ...]:
    """The sites that have nodes, by name. Other kinds of workers are no load on the map."""
    at: dict[str, list[WorkerRow]] = {}
    for row in rows:
        if WorkerKind.NODE.has_account(row.worker):
            at.setdefault(row.site, []).append(row)
    out = []
    for name, here in sorted(at.items()):
        room = sum(r.capacity_eps for r in here if is_well(r))
        used = sum(r.rate_eps for r in here)
        out.append(
            SiteOnMap(
                name,
                here[0].lat,
                here[0].lon,
                used / room if room else 0.0,
                len(here),
                sum(map(is_well, here)),
            )
        )
    return tuple(out)


def order_rows(rows: Sequence[WorkerRow], shown: int) -> list[WorkerRow]:
    """The first `shown` rows, workers in trouble first. If all fit they are ordered by name, so
    that rows do not jump; otherwise by load."""
    if len(rows) <= shown:
        return sorted(rows, key=lambda r: (is_well(r), r.worker))
    return sorted(rows, key=lambda r: (is_well(r), -round(load_of(r) * 20), r.worker))[:shown]


class Dashboard:
    """Takes items in any order of feeds. `now`: monotonic seconds. `at_s`: the epoch seconds in the
    item."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.link = ""
        self._last: tuple[float, FleetSummary] | None = None
        self._placement: PlacementFigures | None = None
        self._shares: dict[int, tuple[WorkerRow, ...]] = {}
        self._turns = 1
        self._acts: deque[tuple[Act, str]] = deque(maxlen=ACTS)
        self._heard: float | None = None
        self._hotspots: dict[str, tuple[HotspotItem, float]] = {}  # and when it was heard of

    def take_item(
        self, item: FeedItem, now: float, at_s: float, *, age_s: float = 0.0
    ) -> Act | None:
        """Returns the news in the item: a move, a hotspot or an alert, once. `age_s`: the item's
        age if the service kept it."""
        match item.element:
            case FleetSummary() as summary:
                if (at_s, summary) == self._last:
                    return None  # a new subscription gets the last item again
                self._last, self._heard = (at_s, summary), now - max(0.0, age_s)
                self._remember_rows(summary)
            case PlacementFigures() as figures:
                self._placement = figures
            case PlacementPlan() as plan:
                return self._remember_act(Act(at_s, MOVE, _describe_plan(item, plan)), item)
            case AlertItem(severity=severity):
                return self._remember_act(Act(at_s, severity.value, item.title), item)
            case HotspotItem() as hotspot:
                if hotspot.state is HotspotState.ENDED:
                    self._hotspots.pop(hotspot.id, None)
                else:
                    self._hotspots[hotspot.id] = hotspot, now - max(0.0, age_s)
                return self._remember_act(Act(at_s, HOTSPOT, item.title), item)
            case _:
                pass
        return None

    def _remember_act(self, act: Act, item: FeedItem) -> Act | None:
        key = f"{item.feed}/{item.item_id}/{act.at_s}"
        if any(key == known for _, known in self._acts):
            return None  # after a reconnect the service sends its newest items again
        self._acts.append((act, key))
        return act

    def _remember_rows(self, summary: FleetSummary) -> None:
        if (said := summary.workers) is None:
            return
        if said.turns != self._turns:
            self._shares.clear()
            self._turns = said.turns
        self._shares.pop(said.turn, None)
        self._shares[said.turn] = said.rows  # re-inserted, so that the newest share comes last

    def figures_at(self, now: float) -> DashboardFigures:
        """What is known at `now`, in monotonic s."""
        rows = {row.worker: row for share in self._shares.values() for row in share}
        return DashboardFigures(
            source=self.source,
            summary=self._last[1] if self._last else None,
            placement=self._placement,
            rows=tuple(rows[name] for name in sorted(rows)),
            acts=tuple(sorted((act for act, _ in self._acts), key=lambda act: act.at_s)),
            link=self.link,
            silent_s=None if self._heard is None else max(0.0, now - self._heard),
            all_rows=len(self._shares) >= self._turns,
            hotspots=tuple(
                sorted(
                    (h for h, heard in self._hotspots.values() if now - heard <= HOT_S),
                    key=lambda h: (h.usual_eps - h.eps, h.id),
                )
            ),
        )


def _describe_plan(item: FeedItem, plan: PlacementPlan) -> str:
    ways: dict[tuple[str, str], list[int]] = {}
    for m in plan.moves:
        ways.setdefault((m.source or "orphan", m.target), []).append(m.lane)
    named = [
        f"{source} to {target}: {_format_lanes(lanes)}"
        for (source, target), lanes in list(ways.items())[:WAYS_NAMED]
    ]
    more = [f"{len(ways) - WAYS_NAMED} ways more"] if len(ways) > WAYS_NAMED else []
    by = f", by {plan.by.partition('@')[0]}" if plan.by else ""
    return f"{item.title}{by}{'; ' if named else ''}{'; '.join(named + more)}"


def _format_lanes(lanes: list[int]) -> str:
    return ", ".join(map(str, sorted(lanes)[:LANES_NAMED])) + (
        " ..." if len(lanes) > LANES_NAMED else ""
    )


SYMBOLS = {
    MOVE: "→",
    HOTSPOT: "◎",
    Severity.INFO.value: "i",
    Severity.WARNING.value: "!",
    Severity.CRITICAL.value: "‼",
    Severity.CALM.value: "✓",
}
