"""What the leader asks geo workers for by itself: the traffic of the lanes that matter most now,
and the names of places that people will read. A fleet without a geo worker asks nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from agents.base.text import counted
from agents.core.effects import AskGeo, Effect, Publish
from agents.core.events import GeoAnswered
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.hotspots import Hotspots
from agents.core.fleet.placing import Placing
from agents.core.fleet.troubles import TroubleKind, Troubles
from agents.core.geo.choice import LaneStake, choose_lanes, is_due
from agents.core.geo.figures import Figure, GeoFigures, format_figure_source
from agents.core.geo.lane_ways import LaneWays
from agents.core.model.feeds import CURRENT, GEO, FeedItem, GeoItem, LaneTrafficRow, Severity
from agents.core.model.geo import (
    NAMES_AT_MOST,
    TRAFFIC_LANES_AT_MOST,
    LaneTraffic,
    Named,
    NamesAnswer,
    NamesCommand,
    ProviderCalls,
    TrafficAnswer,
    TrafficCommand,
    Unnamed,
    lane_key,
)
from agents.core.model.topology import WorkerKind, short_name
from kernels.tables import Floats, Ints

ANSWER_S = 20.0
"""An answer may take this long: ten lanes are ten calls, one after the other."""
FORGOTTEN_S = 2 * ANSWER_S  # a question without any outcome
EVERY_S = 1.0
LOOK_S = 5.0  # after nothing was to be asked
NAMES_PERIOD_S = 10.0
HOTSPOTS_NAMED, LANES_NAMED_AT_ONCE = 20, 10
RENEWED_S = 600.0
"""Names of hotspots that last are asked for again: `geo.context`, where analytics reads them, keeps
minutes."""
LASTING_S = 3_600.0
"""Names that hold this long cost little: they are asked for again whenever they expire."""
NOTABLE = 0.1
"""An index that is this far from 1 is shown to people with the lane's name."""
ROWS_AT_MOST = 20  # in an item of the feed
REFUSED_AT_MOST = 2
"""Questions in a row; then it is a trouble that nothing is told of traffic."""
FIT_AGAIN_S = 300.0

NO_BUDGET = ProviderCalls()

Question = TrafficCommand | NamesCommand


def find_geo_worker(fleet: Fleet) -> str:
    """The geo worker to ask: the first by name that works and is to go on; empty if there is none.
    It is the same one each time, since each has a memory and a budget of its own."""
    names = sorted(v.spec.worker for v in fleet.views.values() if v.spec.kind == WorkerKind.GEO)
    fit = [w for w in names if fleet.views[w].present and fleet.statuses[w].confirmed]
    return next((w for w in fit if not fleet.statuses[w].to_empty), fit[0] if fit else "")


@dataclass(frozen=True, slots=True)
class _Asked:
    worker: str
    command: Question
    at_s: float


@dataclass(slots=True)
class GeoQuestions:
    """`period_s`: how often traffic is asked for. `counts`: questions by command and outcome
    (`traffic`, `answered`). `budget`: as the last answer tells it. `failure`: why the last question
    about traffic has no answer, empty if it has one."""

    fleet: Fleet
    placing: Placing
    hotspots: Hotspots
    troubles: Troubles
    ways: LaneWays
    period_s: float
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    budget: ProviderCalls = NO_BUDGET
    failure: str = ""
    _open: dict[type[Question], _Asked] = field(default_factory=dict)
    _next_s: dict[type[Question], float] = field(default_factory=dict)
    _heads: tuple[int, str] = 0, ""  # of the worker that was asked last
    _refused: int = 0
    _shown: bool = field(init=False)
    _looked_s: float = float("-inf")

    def __post_init__(self) -> None:
        # The feed may still have figures of the leader before.
        self._shown = WorkerKind.GEO in self.fleet.inventory.kinds_in_use()

    @property
    def figures(self) -> GeoFigures:
        return self.placing.inputs.geo

    # ---- questions ----

    def advance(self, now: float) -> Iterator[Effect]:
        """Ask what is due, one question of each kind at a time."""
        if now < self._looked_s + EVERY_S:
            return
        self._looked_s = now
        self.figures.traffic.drop_expired(now)
        if self._shown and not any(True for _ in self.figures.traffic.known(now)):
            yield self._make_item(now)  # what the service keeps of the feed may not outlast it
        worker = find_geo_worker(self.fleet)
        if not worker:
            self._refused = 0
            self.troubles.clear(TroubleKind.NO_TRAFFIC, "", now, "No geo worker is asked now.")
            return
        if self._head(worker) != self._heads:  # its settings may be others, its key a new one
            self._heads = self._head(worker)
            self.figures.traffic.drop_refusals()
            self.figures.names.drop_refusals()
        if self._is_due(TrafficCommand, now) and (lanes := self._choose_lanes(now)):
            routes = tuple(self.ways.routes_of(n) for n in lanes)
            yield self._ask(worker, TrafficCommand(*self._head(worker), routes), now)
        if self._is_due(NamesCommand, now) and (places := self._choose_places(now)):
            yield self._ask(worker, NamesCommand(*self._head(worker), tuple(places)), now)

    def _is_due(self, kind: type[Question], now: float) -> bool:
        asked = self._open.get(kind)
        if asked is not None and now - asked.at_s < FORGOTTEN_S:
            return False
        if now < self._next_s.get(kind, float("-inf")):
            return False
        self._next_s[kind] = now + LOOK_S
        return True

    def _head(self, worker: str) -> tuple[int, str]:
        return self.fleet.leader_epoch, self.fleet.views[worker].boot

    def _ask(self, worker: str, command: Question, now: float) -> AskGeo:
        kind = type(command)
        self._open[kind] = _Asked(worker, command, now)
        every_s = self.period_s if kind is TrafficCommand else NAMES_PERIOD_S
        self._next_s[kind] = now + every_s
        return AskGeo(worker, command)

    def _choose_lanes(self, now: float) -> list[int]:
        stakes = self._find_stakes(now)
        most = TRAFFIC_LANES_AT_MOST
        return choose_lanes(stakes, self.figures.traffic, now, self.period_s, most)

    def _find_stakes(self, now: float) -> list[LaneStake]:
        """What depends in the last plan on the traffic of each lane that is due; nothing before the
        first plan."""
        scored = self.placing.last
        if scored is None:
            return []
        hot = {n for known in self.hotspots.list_open(now) for n in known.lanes}
        traffic = self.figures.traffic
        due = [
            row
            for row, p in enumerate(scored.partitions)
            if is_due(traffic.get(p.n, now), now, self.period_s, hot=p.n in hot)
        ]
        if not due:
            return []
        rows: Ints = np.array(due, dtype=np.int32)
        sits = scored.problem.lanes.owner[rows]
        placed = sits >= 0
        ms: Floats = np.zeros(len(rows))
        costs = self.placing.numerics.costs(scored.problem)
        ms[placed] = costs.costs_at(rows[placed], sits[placed])
        ms[~np.isfinite(ms)] = 0.0  # it has to leave its node
        load = np.array(scored.plan.load_eps)[rows]
        lanes = [scored.partitions[row].n for row in due]
        return [
            LaneStake(n, cost, n in hot)
            for n, cost in zip(lanes, (load * ms).tolist(), strict=True)
        ]

    def _choose_places(self, now: float) -> list[Unnamed]:
        """Places whose name people will read: those of hotspots, then of lanes with notable
        traffic, then lanes that never had a name."""
        hotspots = []
        for known in self.hotspots.list_open(now)[:HOTSPOTS_NAMED]:
            name = self.figures.names.get(known.hotspot.peak, now)
            if name is None or now - name.asked_s >= RENEWED_S:
                hotspots.append(Unnamed(known.hotspot.peak, (known.lat, known.lon)))
        lanes = [
            Unnamed(lane_key(n), self.ways.routes_of(n).origin)
            for n in self._find_unnamed_lanes(now)
        ]
        return [*{x.key: x for x in (*hotspots, *lanes)}.values()][:NAMES_AT_MOST]

    def _find_unnamed_lanes(self, now: float) -> list[int]:
        names, due = self.figures.names, []
        for p in self.fleet.partitions_of(WorkerKind.NODE):
            last = names.last(lane_key(p.n))
            if last is None or now >= last.expires_s:
                notable = abs(self.figures.index_of(p.n, now) - 1) >= NOTABLE
                if notable or last is None or last.source.valid_s >= LASTING_S:
                    due.append((not notable, p.n))
        return [n for _, n in sorted(due)[:LANES_NAMED_AT_ONCE]]

    # ---- answers ----

    def handle_answer(self, event: GeoAnswered, now: float) -> Iterator[Effect]:
        """Take an answer. One to a question that is no longer open says nothing."""
        kind = type(event.command)
        asked = self._open.get(kind)  # type: ignore[arg-type]  # a PlaceCommand is never in it
        if asked is None or asked.command is not event.command:
            return
        del self._open[asked.command.__class__]
        word = "traffic" if kind is TrafficCommand else "names"
        match asked.command, event.answer:
            case TrafficCommand() as command, TrafficAnswer() as answer:
                wanted = {x.lane for x in command.lanes}
                self._take_traffic([x for x in answer.lanes if x.lane in wanted], asked)
                self.budget, self.failure = answer.budget, ""
                self.counts[word, "answered"] += 1
                self._note_refusals(answer.lanes, asked.worker, now)
                yield self._make_item(now)
            case NamesCommand() as command, NamesAnswer() as answer:
                keys = {x.key for x in command.places}
                self._take_names([x for x in answer.places if x.key in keys], asked)
                self.counts[word, "answered"] += 1
            case _:
                self.counts[word, "failed"] += 1
                if kind is TrafficCommand:
                    self.failure = event.why or "it answered something else"
                    self._count_refusal(f"it does not answer: {self.failure}", asked.worker, now)

    def _note_refusals(self, rows: Sequence[LaneTraffic], worker: str, now: float) -> None:
        if not rows:
            self._count_refusal("its provider is too slow", worker, now)
        elif all(x.refused for x in rows):
            self._count_refusal(rows[0].reason, worker, now)
        else:
            self._refused = 0
            ended = "The provider of travel times answers again."
            self.troubles.clear(TroubleKind.NO_TRAFFIC, "", now, ended, holds_s=FIT_AGAIN_S)

    def _count_refusal(self, why: str, worker: str, now: float) -> None:
        self._refused += 1
        if self._refused >= REFUSED_AT_MOST:
            name = short_name(worker)
            text = (
                f"{name} tells no traffic: {why.rstrip('.')}. Plans count it as 1. geolane doctor "
                f"--as {name} on its machine checks the provider"
            )
            self.troubles.set(TroubleKind.NO_TRAFFIC, "", text, now, Severity.WARNING)

    def _take_traffic(self, rows: Iterable[LaneTraffic], asked: _Asked) -> None:
        for x in rows:
            index = None if x.index is None else round(x.index, 2)
            self.figures.traffic.put(x.lane, Figure(index, x.reason, x.source, asked.at_s, x.live))

    def _take_names(self, rows: Iterable[Named], asked: _Asked) -> None:
        for x in rows:
            self.figures.names.put(x.key, Figure(x.name or None, x.reason, x.source, asked.at_s))

    # ---- what people and machines are told ----

    def list_known(self, now: float) -> list[tuple[int, Figure[float], float]]:
        """The lanes whose traffic is known, the slowest first."""
        return sorted(self.figures.traffic.known(now), key=lambda x: (-x[2], x[0]))

    def _make_item(self, now: float) -> Publish:
        """The item `current` of the feed `geo`, with the lanes of the slowest roads."""
        known = self.list_known(now)
        self._shown = bool(known)
        rows = tuple(self.traffic_row(n, figure, index, now) for n, figure, index in known)
        title = f"The traffic of {counted(len(known), 'lane')} is known"
        content = "No traffic is known: it counts as 1."
        if known:
            n, figure, index = known[0]
            content = (
                f"{title}; slowest lane {n}: x{index:.2f} ({format_figure_source(figure, now)})"
            )
            if figure.source.attribution:
                content += f". {figure.source.attribution}"
        element = GeoItem(
            len(known), self.budget.calls, self.budget.daily_calls, rows[:ROWS_AT_MOST]
        )
        return Publish(FeedItem(GEO, CURRENT, title, content, element, self.fleet.leader_epoch))

    def traffic_row(
        self, lane: int, figure: Figure[float], index: float, now: float
    ) -> LaneTrafficRow:
        name = self.figures.name_of(lane_key(lane), now)
        return LaneTrafficRow(
            lane,
            index,
            figure.live,
            figure.source.provider,
            round(figure.age_s(now), 1),
            round(figure.expires_s - now, 1),
            name.value or "" if name else "",
        )
