"""Troubles that only the fleet as a whole shows: missing routers, analytics or geo, loops, broken
topics, and workers that gave untrue answers. They are decided here and kept in
core/fleet/troubles.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from agents.core.effects import Effect, Note
from agents.core.fleet import troubles
from agents.core.fleet.crash_loops import Circles
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.incidents import News
from agents.core.fleet.router_engines import report_engines
from agents.core.fleet.topic_checks import Streams, StreamsLooked
from agents.core.model.feeds import Severity
from agents.core.model.messages import STARTING
from agents.core.model.topology import WorkerKind, WorkerSpec, short_name

FORGIVEN_S = 60.0  # a worker that gave an untrue answer has worked properly for this long
RACKS_S = 60.0  # a broker that restarts is back by then
UNREADY_S = 20.0  # from its start on
ABSENT_S = 10.0  # a worker that restarts needs a moment


@dataclass(slots=True)
class Lookout:
    """`led_at`: when the leader began (monotonic s). `bootstrap`: Kafka's address, for commands
    that people are told to run."""

    fleet: Fleet
    news: News
    led_at: float
    bootstrap: str
    _unready_at: dict[str, float] = field(default_factory=dict)
    _present_at: dict[WorkerKind, float] = field(default_factory=dict)
    streams: Streams = field(init=False)
    circles: Circles = field(init=False)

    def __post_init__(self) -> None:
        self.circles = self.news.circles
        self.streams = Streams(self.fleet, self.bootstrap)

    def update_troubles(self, now: float, quiet_until: float) -> None:
        """`quiet_until`: before that time, absence proves nothing (liveness.py)."""
        self._forgive_workers(now)
        report_engines(self.fleet, self.news, now)
        self._report_unready_workers(now, quiet_until)
        self.circles.end_finished_loops(
            frozenset(w for w, v in self.fleet.views.items() if v.present), now
        )
        self._watch_kind(
            WorkerKind.ROUTER,
            troubles.TroubleKind.NO_ROUTER,
            "No router: nothing reaches the lanes. Start one: geolane router, or its unit "
            "geolane-router@NAME.",
            "A router is present again.",
            now,
            quiet_until,
        )
        self._watch_kind(
            WorkerKind.ANALYTICS,
            troubles.TroubleKind.NO_ANALYTICS,
            "No analytics: hotspots are not found. Start it: geolane analytics, or its unit "
            "geolane-analytics@NAME.",
            "Analytics is present again.",
            now,
            quiet_until,
            Severity.WARNING,
        )
        self._watch_kind(
            WorkerKind.GEO,
            troubles.TroubleKind.NO_GEO,
            "No geo worker: events with a place but no coordinates wait. Start one: geolane geo, "
            "or its unit geolane-geo@NAME.",
            "A geo worker is present again.",
            now,
            quiet_until,
            Severity.WARNING,
        )

    def _report_unready_workers(self, now: float, quiet_until: float) -> None:
        """Workers that are present and do not begin to work."""
        texts = dict[str, str]()
        unready = {w: v for w, v in self.fleet.views.items() if v.present and v.state == STARTING}
        self._unready_at = {w: self._unready_at.get(w, now) for w in unready}
        for worker, view in unready.items():
            if now - max(self._unready_at[worker], quiet_until) >= UNREADY_S:
                texts[worker] = (
                    f"{view.spec.label} does not begin to work: {view.status}. See its log, and "
                    f"geolane doctor --as {worker} on its machine."
                )
        self.news.troubles.set_exactly(
            troubles.TroubleKind.WORKER_UNREADY, texts, now, Severity.WARNING
        )

    def _watch_kind(
        self,
        kind: WorkerKind,
        trouble: troubles.TroubleKind,
        text: str,
        ended: str,
        now: float,
        quiet_until: float,
        severity: Severity = Severity.CRITICAL,
    ) -> None:
        """Whether a worker of this kind is present, if the inventory names any."""
        named = [v for v in self.fleet.views.values() if v.spec.kind == kind]
        if not named or any(v.present for v in named):
            self._present_at[kind] = now
            self.news.troubles.clear(trouble, "", now, ended if named else "")
        elif now - max(self._present_at.get(kind, self.led_at), quiet_until) > ABSENT_S:
            self.news.troubles.set(trouble, "", text, now, severity)

    def report_untrue_answer(self, spec: WorkerSpec, why: str, now: float) -> None:
        """A worker gave an untrue answer. The trouble ends when its next boot has worked for
        FORGIVEN_S, or when the worker has left the fleet."""
        text = (
            f"{spec.label} is fenced: {why}. Check its process and who runs it; its "
            f"{spec.kind.partitions_word} move elsewhere."
        )
        self.news.troubles.set(troubles.TroubleKind.UNTRUE_ANSWER, spec.worker, text, now)

    def _forgive_workers(self, now: float) -> None:
        for t in self.news.troubles.list_worst_first():
            if t.kind is not troubles.TroubleKind.UNTRUE_ANSWER:
                continue
            if t.about not in self.fleet.views:
                self.news.troubles.clear(
                    t.kind, t.about, now, f"{short_name(t.about)} has left the fleet."
                )
            elif self.fleet.statuses[t.about].usable:
                ended = f"{short_name(t.about)} works correctly again."
                self.news.troubles.clear(t.kind, t.about, now, ended, holds_s=FORGIVEN_S)

    def watch_racks(self, text: str, now: float) -> None:
        """`text`: which racks name no site; empty if all do. A broker that restarts is away for a
        while, and mends nothing."""
        kind = troubles.TroubleKind.RACK_UNKNOWN
        if text:
            self.news.troubles.set(kind, "", text, now, Severity.WARNING)
        else:
            ended = "All of Kafka's racks name sites of the inventory now."
            self.news.troubles.clear(kind, "", now, ended, holds_s=RACKS_S)

    def check_topics(self, seen: StreamsLooked, now: float) -> Iterator[Effect]:
        """Take a reading of the topics: adopt new raw partitions, and report what is wrong."""
        grown = self.streams.find_new_partitions(seen)
        for kind, takers in ((WorkerKind.ROUTER, "routers"), (WorkerKind.GEO, "geo workers")):
            if not (new := [p for p in grown if kind.works(p)]):
                continue
            topic, had = kind.kafka_topic, len(self.fleet.partitions_of(kind))
            self.fleet.expect_partitions(new)
            text = (
                f"{topic} has {had + len(new)} partitions now, {had} before: {takers} take the "
                "new ones."
            )
            self.news.add_line(text)
            self.news.add_alert(Severity.INFO, f"{new[0].unit}_partitions", topic, text)
            yield Note("fleet", "", text, {"partitions": [p.n for p in new]})
        stand = self.news.troubles
        stand.set_exactly(
            troubles.TroubleKind.OFFSET_LOST, self.streams.find_lost_offsets(seen), now
        )
        stand.set_exactly(
            troubles.TroubleKind.OFFSET_WENT_BACK, self.streams.find_offsets_gone_back(seen), now
        )
        stand.set_exactly(
            troubles.TroubleKind.OPEN_TRANSACTION,
            self.streams.find_open_transactions(seen, now),
            now,
        )
        stand.set_exactly(
            troubles.TroubleKind.TOPIC_CHANGED, self.streams.find_wrong_topics(seen), now
        )
