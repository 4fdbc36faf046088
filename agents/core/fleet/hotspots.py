"""Hotspots as the fleet knows them: which are open, where their events go, and what follows
(docs/hotspots.md). They come from the topic `hotspots`, in order; nothing here finds one."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from h3.api import basic_str

from agents.base.text import counted
from agents.base.token_bucket import TokenBucket
from agents.core.effects import Effect, Note, Publish
from agents.core.events import HotspotChange, HotspotsRead
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.incidents import News, format_partitions
from agents.core.fleet.placing import Placing
from agents.core.hotspots.areas import AREA_RESOLUTION, area_of
from agents.core.hotspots.lifecycle import MOST_OPEN
from agents.core.lanes.lane_map import LaneMap
from agents.core.model.feeds import HOTSPOTS, FeedItem, HotspotItem, Severity
from agents.core.model.hotspots import LEAST_USUAL_EPS, Hotspot, HotspotState
from agents.core.model.times import format_duration
from agents.core.model.topology import WorkerKind
from agents.core.planning.hotspot_forecast import HotLanes

BURST, PER_S = 5.0, 5 / 60
"""Openings that the room is told one by one: at once, and more each second."""
STORM_EVERY_S = 60.0  # those beyond are told in one line, at most this often
PUBLISHED, PUBLISHED_PER_S = 20.0, 2.0  # items of the feed: at once, and more each second
ENDED_KEPT = 20
IDS_KEPT = 5_000  # ended hotspots that are recognized when they are repeated
NEAR_S = 600
"""Event time this close to the broker's clock is the present; else the stream is a replay."""
SILENT_S = 60.0
"""A hotspot of which nothing is heard for this long after it should have ended counts no more in
the forecast: its engine or its source has stopped."""
FORGOTTEN_S = 86_400.0
LISTED = 6  # places in one line

CELL_KM, AREA_KM = 40.0, 70.0
"""How far from the middle of a cell, or of an area, the city may be that it is named after."""

NamePlace = Callable[[float, float, float], str]
"""The name of a place in degrees, after a city within this many km."""


def format_degrees(lat: float, lon: float, reach_km: float) -> str:
    """The name of a place without a gazetteer."""
    return f"{abs(lat):.2f} {'N' if lat >= 0 else 'S'}, {abs(lon):.2f} {'E' if lon >= 0 else 'W'}"


@dataclass(frozen=True, slots=True)
class Known:
    """A hotspot with what follows from its record. `lat`, `lon`: the middle of its peak, or of the
    cell that it is named after, in degrees. `lanes`: all lanes of its cells. `present`: whether its
    event time is the present. `heard_s`: when its newest record was appended, in monotonic
    seconds."""

    hotspot: Hotspot
    place: str
    lat: float
    lon: float
    lanes: tuple[int, ...]
    present: bool
    heard_s: float

    def is_silent(self, now: float) -> bool:
        """Whether it should have ended by now, so that its engine or its source has stopped."""
        return now - self.heard_s > self.hotspot.quiet_s + SILENT_S

    @property
    def rate(self) -> str:
        """`14.2 events/s, usually 2.1 (x6.8)`."""
        h = self.hotspot
        if h.usual_eps < LEAST_USUAL_EPS:
            return f"{format_eps(h.eps)} events/s, usually none"
        return (
            f"{format_eps(h.eps)} events/s, usually {format_eps(h.usual_eps)} "
            f"(x{format_times(h.times_usual)})"
        )

    @property
    def label(self) -> str:
        """`Dallas, US x6.8`, for a map."""
        h = self.hotspot
        usual = h.usual_eps >= LEAST_USUAL_EPS
        return f"{self.place} x{format_times(h.times_usual)}" if usual else self.place

    def at(self, epoch_s: int) -> str:
        """A time of the hotspot for people; with its day, and marked, unless it is the present."""
        then = datetime.fromtimestamp(epoch_s, UTC)
        return f"{then:%H:%M} UTC" if self.present else f"{then:%Y-%m-%d %H:%M} UTC (event time)"


def format_eps(eps: float) -> str:
    """A rate with two or three digits that matter."""
    return f"{eps:,.0f}" if eps >= 100 else f"{eps:.1f}" if eps >= 1 else f"{eps:.2g}"


def format_times(times: float) -> str:
    return f"{times:,.0f}" if times >= 20 else f"{times:.1f}"


@dataclass(slots=True)
class Hotspots:
    """`open`: by id, the oldest first. `ended`: the last ones, the newest first. `counts`: `opened`
    and `ended` (the past left out), records `skipped` since they are not valid, and `untracked`
    since too many are open, all since this leader began. `lanemap`: None if lanes are not
    known."""

    fleet: Fleet
    news: News
    placing: Placing
    lanemap: LaneMap | None
    name_place: NamePlace = format_degrees
    open: dict[str, Known] = field(default_factory=dict)
    ended: deque[Known] = field(default_factory=lambda: deque(maxlen=ENDED_KEPT))
    counts: Counter[str] = field(default_factory=Counter)
    _caught_up: bool = False
    _over: dict[str, None] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)
    _untold: int = 0
    _storm_at: float = float("-inf")
    _bucket: TokenBucket = field(default_factory=lambda: TokenBucket(BURST, PER_S))
    _feed_bucket: TokenBucket = field(
        default_factory=lambda: TokenBucket(PUBLISHED, PUBLISHED_PER_S)
    )
    _refresh_bucket: TokenBucket = field(default_factory=lambda: TokenBucket(BURST, 1.0))
    _unpublished: dict[str, FeedItem] = field(default_factory=dict)
    _cells_of_area: dict[str, list[str]] = field(default_factory=dict)

    # ---- records ----

    def handle_records(self, event: HotspotsRead, now: float, now_ms: int) -> Iterator[Effect]:
        """Take records, and tell those that are new."""
        found = [self._take_change(change, event.past, now) for change in event.changes]
        news = [] if event.past else [told for told in found if told is not None]
        if event.skipped:
            self._report_skipped(event.skipped)
        if not event.past and not self._caught_up:
            self._caught_up = True
            self._report_inherited(now)
        if news and self._refresh_bucket.try_take(now):
            # Once for all of them, so that what is told of the forecast is true by now.
            self.placing.inputs.refresh_raises(now, now_ms)
        for known, state in news:
            # As it is after all that was read together: its cells come right after its area.
            newest = known if state is HotspotState.ENDED else self.open.get(known.hotspot.id)
            yield from self._tell(newest or known, state, now)

    def _take_change(
        self, change: HotspotChange, past: bool, now: float
    ) -> tuple[Known, HotspotState] | None:
        """Note the change. Returns what is to be told: that it opened, has grown or ended."""
        hotspot = change.hotspot
        before = self.open.get(hotspot.id)
        if hotspot.id in self._over or (before and hotspot.last_s < before.hotspot.last_s):
            return None  # older than what is known
        if hotspot.state is HotspotState.ENDED:
            known = self._make_known(change, before, now)
            self._close(known)
            self.counts["ended"] += not past
            return (known, HotspotState.ENDED) if before else None
        if before is None and len(self.open) >= MOST_OPEN:
            self.counts["untracked"] += 1
            return None
        known = self._make_known(change, before, now)
        self.open[hotspot.id] = known
        self._raise_forecast(known, now)
        if before is None:
            self.counts["opened"] += not past
            return known, HotspotState.OPEN
        if set(hotspot.areas) - set(before.hotspot.areas):
            return known, HotspotState.GROWN
        return None

    def _make_known(self, change: HotspotChange, before: Known | None, now: float) -> Known:
        hotspot = change.hotspot
        heard_s = now - max(0.0, change.age_s)
        present = abs(change.appended_ms / 1000 - hotspot.last_s) <= NEAR_S + (
            hotspot.quiet_s if hotspot.state is HotspotState.ENDED else 0
        )
        if before is not None and before.hotspot.peak == hotspot.peak:
            place, lat, lon = before.place, before.lat, before.lon
        else:
            # An area is named after the first of its cells that rose, if one did.
            here = next((c for c in hotspot.cells if area_of(c) == hotspot.peak), hotspot.peak)
            lat, lon = basic_str.cell_to_latlng(here)
            is_area = basic_str.get_resolution(here) <= AREA_RESOLUTION
            place = self.name_place(lat, lon, AREA_KM if is_area else CELL_KM)
        lanes = self._find_lanes(hotspot)
        return Known(hotspot, place, lat, lon, lanes, present, heard_s)

    def _close(self, known: Known) -> None:
        id_ = known.hotspot.id
        self.open.pop(id_, None)
        self.ended.appendleft(known)
        self._over[id_] = None
        while len(self._over) > IDS_KEPT:
            del self._over[next(iter(self._over))]
        self.placing.inputs.hotspots.forget([id_])

    # ---- lanes and forecast ----

    def _find_lanes(self, hotspot: Hotspot) -> tuple[int, ...]:
        """All lanes of its cells, or if it has none, of the map's cells in its areas."""
        if self.lanemap is None:
            return ()
        resolution = self.lanemap.resolution
        cells = [c for c in hotspot.cells if basic_str.get_resolution(c) == resolution]
        if not cells:
            cells = [c for area in hotspot.areas for c in self._cells_of(area)]
        return tuple(sorted({n for c in cells for n in self.lanemap.lanes_of_cell(c)}))

    def _cells_of(self, area: str) -> list[str]:
        """The cells of the lane map in an area."""
        if not self._cells_of_area and self.lanemap is not None:
            for cell in self.lanemap.cell_lanes:
                self._cells_of_area.setdefault(area_of(cell), []).append(cell)
        return self._cells_of_area.get(area, [])

    def _raise_forecast(self, known: Known, now: float) -> None:
        if not known.is_silent(now):
            until_s = known.heard_s + known.hotspot.quiet_s + SILENT_S
            hot = HotLanes(known.place, known.lanes, until_s)
            self.placing.inputs.hotspots.set(known.hotspot.id, hot)

    def times_raised(self, known: Known) -> float:
        """The most by which the forecast of one of its lanes is raised; 0 if that of none is."""
        raises = self.placing.inputs.raises
        return max((raises[n].times for n in known.lanes if n in raises), default=0.0)

    # ---- what people and machines are told ----

    def advance(self, now: float) -> Iterator[Effect]:
        """What is due: the line about a storm, and items of the feed that had to wait."""
        if self._untold and now >= self._storm_at:
            self._storm_at = now + STORM_EVERY_S
            text = (
                f"{counted(self._untold, 'more hotspot')} opened; {len(self.open)} are open now: "
                "!hotspots."
            )
            self._untold = 0
            self.news.add_line(text)
            yield Note("hotspot", "", text, {"open": len(self.open)})
        while self._unpublished and self._feed_bucket.try_take(now):
            yield Publish(self._unpublished.pop(next(iter(self._unpublished))))
        for known in [k for k in self.open.values() if now - k.heard_s > FORGOTTEN_S]:
            self._close(known)
            self._told.discard(known.hotspot.id)

    def _tell(self, known: Known, state: HotspotState, now: float) -> Iterator[Effect]:
        id_ = known.hotspot.id
        self._unpublished.pop(id_, None)
        self._unpublished[id_] = self._make_item(known, state)
        while len(self._unpublished) > MOST_OPEN:
            del self._unpublished[next(iter(self._unpublished))]
        match state:
            case HotspotState.OPEN:
                if not self._bucket.try_take(now):
                    if not self._untold:
                        self._storm_at = max(self._storm_at, now + 1)
                    self._untold += 1
                    return
                self._told.add(id_)
            case HotspotState.GROWN:
                if id_ not in self._told or not self._bucket.try_take(now):
                    return
            case _:
                if id_ not in self._told:
                    return
                self._told.discard(id_)
        text = self.describe(known, state)
        self.news.add_line(text)
        yield Note(
            "hotspot", "", text, {"id": id_, "state": state.value, "lanes": list(known.lanes[:50])}
        )

    def describe(self, known: Known, state: HotspotState) -> str:
        """The change in words."""
        h = known.hotspot
        if state is HotspotState.ENDED:
            lasted = format_duration(h.ended_s - h.started_s)
            return (
                f"The hotspot at {known.place} has ended after {lasted}, at {known.at(h.ended_s)}: "
                f"{known.rate} at its peak."
            )
        begins = f"Hotspot at {known.place}"
        if state is HotspotState.GROWN:
            begins = f"The hotspot at {known.place} has grown to {counted(len(h.areas), 'area')}"
        return (
            f"{begins}: {known.rate}, since {known.at(h.started_s)}. {self.describe_lanes(known)}"
        )

    def describe_lanes(self, known: Known) -> str:
        """Its lanes, and what was done about them."""
        if not known.lanes:
            return "No lane of the map has its cells."
        word = format_partitions(WorkerKind.NODE.partition(n) for n in known.lanes)
        if not (times := self.times_raised(known)):
            return f"Its {word}: forecast unchanged."
        return f"Its {word}: forecast raised up to x{format_times(times)}."

    def _make_item(self, known: Known, state: HotspotState) -> FeedItem:
        h = known.hotspot
        text = self.describe(known, state)
        element = HotspotItem(
            h.id,
            state,
            known.place,
            round(known.lat, 3),
            round(known.lon, 3),
            round(h.eps, 3),
            round(h.usual_eps, 3),
            h.started_s,
            h.last_s,
            h.ended_s if state is HotspotState.ENDED else 0,
            known.lanes,
        )
        return FeedItem(HOTSPOTS, h.id, text, text, element, self.fleet.leader_epoch)

    def list_open(self, now: float) -> list[Known]:
        """The open hotspots that are not silent, the highest excess first."""
        alive: Iterable[Known] = (k for k in self.open.values() if not k.is_silent(now))
        return sorted(alive, key=lambda k: (k.hotspot.usual_eps - k.hotspot.eps, k.hotspot.id))

    def _report_inherited(self, now: float) -> None:
        """Say once which hotspots were open already when this leader began."""
        if found := self.list_open(now):
            self._told.update(k.hotspot.id for k in found[:LISTED])  # so that their end is told
            names = "; ".join(k.place for k in found[:LISTED]) + (" ..." if found[LISTED:] else "")
            is_open = "1 hotspot is" if len(found) == 1 else f"{len(found)} hotspots are"
            self.news.add_line(f"{is_open} open ({names}): !hotspots.")

    def _report_skipped(self, count: int) -> None:
        first = not self.counts["skipped"]
        self.counts["skipped"] += count
        if first:
            text = (
                f"{counted(count, 'record')} of the topic hotspots cannot be hotspots: skipped. My "
                "log says where they are; check who may write there (geolane doctor)."
            )
            self.news.add_line(text)
            self.news.add_alert(Severity.WARNING, "hotspots_unreadable", "", text)
