"""The coordinator's core: it takes one event, advances the state and returns effects.

It makes no decision itself. liveness.py decides which worker is gone, command_outcomes.py what a
worker has shown, placing.py where partitions go, handover.py which changes are allowed;
reconcile.py words the commands and incidents.py the messages. While this coordinator does not lead,
XMPP or Kafka is away, or the topic `placement` accepts no record, it sends no command
(PROTOCOL 2.11)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from agents.core.effects import (
    Effect,
    Note,
    Publish,
    Sampled,
    Write,
)
from agents.core.events import (
    AdHoc,
    AdHocList,
    AffiliationChanged,
    AffiliationsRead,
    Answered,
    CommandUnanswered,
    CommandWasRefused,
    CoreEvent,
    Flooded,
    GeoAnswered,
    HotspotsRead,
    InventoryRead,
    InventoryRefused,
    KafkaDown,
    KafkaUp,
    LeaseFailed,
    LeaseMade,
    Led,
    LinkDown,
    LinkUp,
    NotLeading,
    NotUnderstood,
    Now,
    OffsetsRead,
    PlacementWritten,
    PlanFailed,
    Planned,
    Ponged,
    QueryFinished,
    QuestionAsked,
    Reacted,
    ReleaseRead,
    TelemetryIn,
    Tick,
    Wake,
    WorkerSeen,
    WriteRefused,
    WriteTaken,
    XmppEvent,
)
from agents.core.fleet import reconcile
from agents.core.fleet.clocks import Clocks
from agents.core.fleet.command_outcomes import CommandOutcomes
from agents.core.fleet.connections import ConnectionEvent, Connections
from agents.core.fleet.counts import LeaderCounts
from agents.core.fleet.fencing import Fencing
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.geo_questions import GeoQuestions
from agents.core.fleet.hotspots import Hotspots, NamePlace, format_degrees
from agents.core.fleet.incidents import News
from agents.core.fleet.liveness import Gone, Liveness
from agents.core.fleet.membership import Membership
from agents.core.fleet.paths import MeasuredPaths
from agents.core.fleet.placing import Placing
from agents.core.fleet.placing_inputs import PlacingInputs, PlacingSettings
from agents.core.fleet.plausibility import ImplausibleFigures
from agents.core.fleet.rollout import ROLLOUT
from agents.core.fleet.router_engines import advance_engines
from agents.core.fleet.summary import (
    fleet_item,
    lane_rows,
    sample_fleet,
    summarise_fleet,
    worker_rows,
)
from agents.core.fleet.topic_checks import StreamsLooked
from agents.core.fleet.trouble_watch import Lookout
from agents.core.fleet.troubles import TroubleKind
from agents.core.fleet.tuner import Tuner
from agents.core.geo.lane_ways import LaneWays
from agents.core.guard import Guard
from agents.core.lanes.lane_map import LaneMap
from agents.core.model.feeds import Severity
from agents.core.model.inventory import Inventory
from agents.core.model.messages import (
    Announcement,
    Health,
)
from agents.core.model.placement import PAUSE, UNTUNED, Intent, Lease, Placed, Tuning
from agents.core.model.plan import LanePlaces
from agents.core.model.topology import PYTHON, Partition
from agents.core.operators.chat import Desk
from agents.core.operators.form_dialogs import Dialogs
from agents.core.planning.planner import Clock
from agents.settings.tunables import DEFAULTS, Number
from kernels.tables import Numerics

SAMPLE_S = 10.0
# Telemetry advances the state at most this often: a large fleet sends it all the time.
SPREAD_S = 0.1

AnyEvent = CoreEvent | XmppEvent | StreamsLooked


@dataclass(frozen=True, slots=True)
class Inherited:
    """What the topic `placement` says when this leader begins; `expected`: the partitions that
    there have to be."""

    leader_epoch: int
    expected: Iterable[Partition]
    partitions: Mapping[Partition, Placed] = field(default_factory=dict)
    leases: Mapping[str, Lease] = field(default_factory=dict)
    intents: Mapping[str, Intent] = field(default_factory=dict)
    tuning: Tuning = UNTUNED


@dataclass(frozen=True, slots=True)
class PlanningSetup:
    """What plans are made with. `clock`: seconds, to measure how long one takes. `lanemap`: tells
    in which lanes a hotspot's events are; without it, hotspots raise no forecast.
    `traffic_period_s`: how often geo workers are asked for traffic. `router_engine`: with
    KAFKA_STREAMS, raw partitions are not ours to place."""

    lanes: LanePlaces
    numerics: Numerics
    settings: PlacingSettings
    clock: Clock = lambda: 0.0
    lanemap: LaneMap | None = None
    traffic_period_s: float = 60.0
    router_engine: str = PYTHON


@dataclass(frozen=True, slots=True)
class OperatorSetup:
    """What people are told and may set. `token`: a new id of a dry run; `tunables`: the values of
    the settings file; `bootstrap`: the broker that commands name; `name_place`: what people call a
    place in degrees; `address`: where people write to us one to one; `by_two`: the commands that a
    second person must confirm."""

    token: Callable[[], str]
    tunables: Mapping[str, Number] = field(default_factory=lambda: DEFAULTS)
    bootstrap: str = "BROKER:9092"
    name_place: NamePlace = format_degrees
    address: str = ""
    by_two: frozenset[str] = frozenset()


class Coordinator:
    """One leader's life. Build it after the topic `placement` was read to its end and
    `leader_epoch` was committed."""

    def __init__(
        self,
        inventory: Inventory,
        inherited: Inherited,
        planning: PlanningSetup,
        operators: OperatorSetup,
        now: Now,
    ) -> None:
        leases, intents = inherited.leases, inherited.intents
        self.fleet = Fleet(
            inventory,
            inherited.leader_epoch,
            dict(inherited.partitions),
            dict(leases),
            dict(intents),
            tuning=inherited.tuning,
            router_engine=planning.router_engine,
        )
        self.fleet.expect_partitions(inherited.expected)
        for worker, lease in leases.items():
            if lease.fenced and worker in self.fleet.views:
                self.fleet.views[worker].dead.add(lease.boot)
        self.counts = LeaderCounts(self.fleet)
        self.liveness = Liveness()
        self.news = News(self.fleet)
        self.refusals = ImplausibleFigures(self.fleet, self.news)
        self.paths = MeasuredPaths(self.fleet)
        inputs = PlacingInputs(self.fleet, planning.lanes, planning.settings, self.paths)
        self.placing = Placing(self.fleet, inputs, planning.numerics, now.s, planning.clock)
        self.tuner = Tuner(self.fleet, self.placing, operators.tunables)
        self.hotspots = Hotspots(
            self.fleet, self.news, self.placing, planning.lanemap, operators.name_place
        )
        ways = LaneWays(planning.lanemap, planning.lanes.lat, planning.lanes.lon)
        self.geo = GeoQuestions(
            self.fleet,
            self.placing,
            self.hotspots,
            self.news.troubles,
            ways,
            planning.traffic_period_s,
        )
        self.desk = Desk(
            *(self.fleet, self.placing, self.news, operators.token, self.tuner),
            *(self.hotspots, self.paths, self.geo, operators.address, operators.by_two),
        )
        self.dialogs = Dialogs(self.desk)
        desk, placing = self.desk, self.placing
        parts = (
            self.fleet,
            placing,
            placing.inputs,
            self.news,
            self.news.troubles,
            self.tuner,
            self.dialogs,
            desk.errands,
            desk.rewinds,
            desk.rollout,
            desk.second,
        )
        self.guard = Guard(
            parts, self.news, operators.token, desk.errands.finish_query, placing.note_failure
        )
        self._cut_off = ROLLOUT in intents
        self._sample_at, self._turn, self._advanced_at = now.s, 0, now.s
        self.clocks = Clocks(self.fleet, self.news.troubles)
        self.lookout = Lookout(self.fleet, self.news, now.s, operators.bootstrap)
        self.membership = Membership(self.fleet, self.placing, self.news)
        self.connections = Connections(self.fleet, self.liveness, self.news, self.membership)
        self.fencing = Fencing(self.fleet, self.placing, self.news, self.membership)
        self.outcomes = CommandOutcomes(
            self.fleet, self.liveness, self.placing, self.lookout, self.fencing
        )
        self.membership.note_strangers(leases)
        self._handler = self._handlers_by_type()

    def handle(self, event: AnyEvent, now: Now) -> list[Effect]:
        """Take one event at `now` and return the effects to perform, in order.

        Raises ImpossibleTransition when the state contradicts itself: the process then ends, and
        the next leader starts from what is written."""
        # 1. The event itself. The guard catches our own errors in commands, in workers' messages
        #    and in plans; any other error ends the leader (guard.py says why).
        effects = self.guard.run_handler(event, self._apply_event(event, now), now.s, now.ms)
        # 2. Whatever follows from the new state. A question that has written nothing changes
        #    nothing that the next tick could not wait for.
        if isinstance(event, _OF_PEOPLE):
            follows = any(isinstance(effect, Write) for effect in effects)
        else:
            follows = not isinstance(event, TelemetryIn) or now.s - self._advanced_at >= SPREAD_S
        if follows:
            self._advanced_at = now.s
            effects += self._advance(now)
        if isinstance(event, Tick):
            # 3. Once a second. The check comes first, so that nothing more is built on a state
            #    that contradicts itself. The summary comes last and reports the final state.
            self.fleet.validate()
            self.fleet.devices = event.devices
            self.clocks.own_ahead_s = event.ahead_s
            self.clocks.report(now.s)
            self.news.report_journal(event.journal_fault, now.s)
            self.news.troubles.set_exactly(
                TroubleKind.PATH_DOUBTED, self.paths.judge(now.s), now.s, Severity.WARNING
            )
            effects += self.desk.drop_expired(now.s)
            effects += self.desk.errands.expire_queries(now.s, now.ms)
            effects += (
                self.desk.follows.end_lost_subscriptions() if self.liveness.can_command() else ()
            )
            effects += self.guard.run_report("summary", lambda: self._publish_summary(now), now.s)
        # 4. Followers, after everything above has published. Items that a `Write` publishes once
        #    it is committed count too.
        for effect in effects:
            for said in (effect, *(effect.then if isinstance(effect, Write) else ())):
                if isinstance(said, Publish):
                    self.desk.follows.note_published(said.item)
        return [*effects, *self.desk.follows.tell_followers(now.s)]

    def _publish_summary(self, now: Now) -> list[Effect]:
        self._turn += 1
        rows = worker_rows(self.fleet, self._turn - 1)
        places = self.placing.inputs.places
        lanes = lane_rows(self.fleet, places.lat, places.lon, self._turn - 1)
        rates, troubles = self.placing.inputs.rates, self.news.troubles
        summary = summarise_fleet(
            self.fleet,
            rates,
            troubles,
            now.s,
            paused=self._is_paused(),
            workers=rows,
            lane_rows=lanes,
        )
        effects: list[Effect] = [Publish(fleet_item(summary, self.fleet.leader_epoch))]
        if now.s >= self._sample_at:
            self._sample_at = now.s + SAMPLE_S
            effects.append(Sampled(sample_fleet(self.fleet)))
        return effects

    def _is_paused(self) -> bool:
        return PAUSE in self.fleet.intents

    # ---- the event alone: one handler for each kind ----

    def _apply_event(self, event: AnyEvent, now: Now) -> Iterator[Effect]:
        """The effects of the event alone; `_advance` adds what follows from it."""
        if isinstance(event, _OF_A_WORKER) and event.worker not in self.fleet.views:
            return  # the worker has left the fleet meanwhile
        yield from self._handler[type(event)](event, now) or ()

    # Any: each handler takes the event of its own line.
    def _handlers_by_type(self) -> Mapping[type, Callable[[Any, Now], Iterable[Effect] | None]]:
        """One handler for each type of event."""
        return {
            Tick: self._handle_time,
            Wake: self._handle_time,
            # what workers say
            WorkerSeen: self._handle_presence,
            TelemetryIn: self._handle_telemetry,
            Flooded: self._handle_flood,
            NotUnderstood: self._handle_invalid_message,
            # what became of commands to them
            Answered: self.outcomes.handle_answer,
            ReleaseRead: self.outcomes.handle_release,
            CommandWasRefused: self.outcomes.handle_refusal,
            CommandUnanswered: self.outcomes.handle_no_answer,
            GeoAnswered: self._handle_geo_answer,
            Ponged: self.outcomes.handle_pong,
            # what Kafka and the inventory say
            LeaseMade: self.fencing.handle_lease_made,
            LeaseFailed: self.fencing.handle_lease_failed,
            PlacementWritten: self._handle_placement_written,
            OffsetsRead: self._handle_offsets,
            StreamsLooked: self._handle_streams,
            InventoryRead: self._handle_inventory,
            InventoryRefused: self._handle_refused_inventory,
            HotspotsRead: self._handle_hotspots,
            # plans
            Planned: self._handle_plan,
            PlanFailed: self._handle_failed_plan,
            # people
            QuestionAsked: self._handle_question,
            AdHoc: self._handle_form,
            AdHocList: self._handle_form,
            QueryFinished: self._handle_query_result,
            AffiliationsRead: self._handle_affiliations,
            AffiliationChanged: self._handle_affiliation,
            Reacted: self._handle_reaction,
            # our own connections
            KafkaDown: self._handle_connection,
            KafkaUp: self._handle_connection,
            WriteRefused: self._handle_connection,
            WriteTaken: self._handle_connection,
            LinkUp: self._handle_connection,
            LinkDown: self._handle_connection,
            NotLeading: self._handle_connection,
            Led: self._handle_connection,
        }

    def _handle_time(self, event: Tick | Wake, now: Now) -> None:
        """Nothing by itself: `_advance` looks at the time."""

    def _handle_presence(self, event: WorkerSeen, now: Now) -> Iterable[Effect]:
        said = self.refusals.filter_presence(event.announcement, now.s)
        # An unknown worker's presence is kept: a later inventory may name it.
        self.membership.note_presence(said)
        return self._note_presence(said, now) if said.worker in self.fleet.views else ()

    def _handle_flood(self, event: Flooded, now: Now) -> None:
        why = f"sends more than I read: {event.count:,} of its stanzas were dropped"
        if event.blocked_s:
            why += f", and the server holds back what it sends for {event.blocked_s:.0f} s"
        self.refusals.note_refusal("stanza", event.sender, why, now.s, event.count)

    def _handle_invalid_message(self, event: NotUnderstood, now: Now) -> None:
        why = f"sent an invalid message: {event.why}"
        self.refusals.note_refusal(event.what, event.worker, why, now.s)

    def _handle_inventory(self, event: InventoryRead, now: Now) -> Iterator[Effect]:
        known = set(self.fleet.views)
        yield from self.membership.adopt_inventory(event)
        for said in self.membership.presences_of_newcomers(known):
            yield from self._note_presence(said, now)

    def _handle_refused_inventory(self, event: InventoryRefused, now: Now) -> None:
        self.membership.report_refused_inventory(event)

    def _handle_telemetry(self, event: TelemetryIn, now: Now) -> None:
        worker = event.worker
        if worker not in self.fleet.views:
            return
        # Implausible figures are removed before anything else sees them.
        telemetry = self.refusals.filter_telemetry(worker, event.telemetry, now.s)
        if self.fleet.note_telemetry(worker, telemetry, now.s):
            self.liveness.note_return(worker)
            self.placing.inputs.rates.note_arrivals(worker, telemetry, now.s)
            self.paths.note_reports(worker, telemetry.paths, now.s)
            self.clocks.note_telemetry(worker, telemetry.ts, now.s, now.ms)
            self.news.report_faults(worker, telemetry, now.s)

    def _handle_placement_written(self, event: PlacementWritten, now: Now) -> None:
        self.counts.count_records(event.partitions, event.leases)
        self.fleet.apply_records(event.partitions, event.leases, event.intents, event.tuning)
        for p, placed in event.partitions.items():
            self.lookout.circles.note_owner(p, placed, now.s)
        if event.tuning is not None:
            self.tuner.apply_written()

    def _handle_plan(self, event: Planned, now: Now) -> Iterable[Effect]:
        commanding = self.liveness.can_command()
        return self.placing.accept_plan(event.scored, now.s, now.ms, commanding=commanding)

    def _handle_failed_plan(self, event: PlanFailed, now: Now) -> None:
        raise event.error  # the guard catches it and reports the failed plan

    def _handle_streams(self, event: StreamsLooked, now: Now) -> Iterable[Effect]:
        self.placing.inputs.data.note_leaders(event.leaders, event.racks)
        self.lookout.watch_racks(
            self.placing.inputs.data.describe_unknown_racks(event.racks), now.s
        )
        return self.lookout.check_topics(event, now.s)

    def _handle_hotspots(self, event: HotspotsRead, now: Now) -> Iterable[Effect]:
        return self.hotspots.handle_records(event, now.s, now.ms)

    def _handle_geo_answer(self, event: GeoAnswered, now: Now) -> Iterable[Effect]:
        return self.geo.handle_answer(event, now.s)

    def _handle_offsets(self, event: OffsetsRead, now: Now) -> None:
        self.liveness.note_offsets(self.fleet, event.offsets)

    def _handle_question(self, event: QuestionAsked, now: Now) -> Iterable[Effect]:
        return self.desk.handle_question(
            event, now.s, now.ms, commanding=self.liveness.can_command()
        )

    def _handle_reaction(self, event: Reacted, now: Now) -> None:
        self.desk.handle_reaction(event, now.s)

    def _handle_form(self, event: AdHoc | AdHocList, now: Now) -> Iterable[Effect]:
        return self.dialogs.handle_ad_hoc(
            event, now.s, now.ms, commanding=self.liveness.can_command()
        )

    def _handle_query_result(self, event: QueryFinished, now: Now) -> Iterable[Effect]:
        return self.desk.errands.finish_query(event, now.s, now.ms)

    def _handle_affiliations(self, event: AffiliationsRead, now: Now) -> Iterable[Effect]:
        self.desk.affiliations.clear()
        return self.desk.note_affiliations(event.affiliations)

    def _handle_affiliation(self, event: AffiliationChanged, now: Now) -> Iterable[Effect]:
        return self.desk.note_affiliations({event.jid: event.affiliation})

    def _handle_connection(self, event: ConnectionEvent, now: Now) -> Iterator[Effect]:
        self.connections.handle_change(event, now.s)
        if isinstance(event, Led):  # feeds are caches: publish again after a reconnect
            yield Publish(self.tuner.feed_item())

    def _note_presence(self, said: Announcement, now: Now) -> Iterator[Effect]:
        """A known worker's presence."""
        view = self.fleet.views[said.worker]
        if said.health is Health.UNAVAILABLE:
            if self.fleet.note_departure(said.worker, now.s):
                self.liveness.note_departure(said.worker, now.s)
            return
        before, boot = view.health, view.boot
        if self.fleet.note_presence(said, now.s):
            if boot and boot != view.boot:
                self.lookout.circles.note_start(view.spec, said.last_end, now.s)
            self.placing.note_join(now.s)
            flipped = before is not said.health
            if flipped and self.news.report_health(
                view.spec, before, said.health, said.status, now.s
            ):
                yield Note(
                    "fleet", said.worker, f"{said.worker} is {said.health}", {"boot": said.boot}
                )
        if view.boot not in view.dead:
            self.liveness.note_return(said.worker)

    def _advance(self, now: Now) -> Iterator[Effect]:
        """Whatever follows from the present state, whichever event led to it. The order matters;
        docs/core.md shows it too.

        While Kafka, XMPP or the topic `placement` is away, people are told but nothing else
        happens: silence then proves nothing, and a command must not say what cannot be written."""
        if self.liveness.can_command():
            # 1. Which workers are gone? First: nothing may be given to a worker that is about to
            #    be fenced.
            for found in self.liveness.check_workers(self.fleet, now.s):
                if isinstance(found, Gone):
                    yield from self.fencing.fence_worker(found.worker, found.why, now)
                else:
                    yield found
            # 2. Members that leave are fenced or forgotten, and rewinds take their next step:
            #    before placing, which is to see only the workers and orphans that remain.
            yield from self.membership.advance_departures(now.s)
            yield from advance_engines(self.fleet, self.placing, now)
            yield from self.desk.rewinds.advance(now.s)
            # 3. Orphans are placed before the placement is improved: a lane without an owner never
            #    waits behind a lane that could be better off.
            yield from self.guard.run_planning(self.placing.place_orphans(now.s, now.ms), now.s)
            yield from self.guard.run_planning(self.placing.improve_placement(now.s, now.ms), now.s)
            self.news.report_plan_failure(self.placing.failing, now.s)
            # 4. Workers are told what is written, after every decision of this turn: a partition
            #    whose record has just begun to change, or a worker that is being fenced, is left
            #    out until the change is committed.
            yield from reconcile.reconcile_fleet(self.fleet, now.s)
            #    A rollout may send a command too: it restarts its next node. A rollout of an
            #    earlier leader is only reported as cut off, once.
            if self._cut_off:
                self._cut_off = False
                yield from self.desk.rollout.report_cut_off()
            yield from self.desk.rollout.advance(now.s)
            self.lookout.update_troubles(now.s, self.liveness.quiet_until)
            #    Geo workers are asked last: nothing above waits for their answers.
            yield from self.guard.run_report("geo", lambda: [*self.geo.advance(now.s)], now.s)
        # 5. People are told last, after everything that they could be told of.
        if self.placing.moved:
            self.news.report_planner_moves(self.placing.moved, now.s)
            self.placing.moved.clear()
        self.news.report_waiting_lanes(
            self.placing.waiting, "all nodes that take lanes are full", now.s
        )
        yield from self.tuner.tell_progress(now.s) if self.liveness.link_up else ()
        yield from self.hotspots.advance(now.s)
        yield from self.news.tell_pending(
            now.s, paused=self._is_paused(), connected=self.liveness.link_up
        )


_OF_PEOPLE = (QuestionAsked, AdHoc, AdHocList, QueryFinished)
_OF_A_WORKER = (Answered, ReleaseRead, CommandWasRefused, CommandUnanswered, Ponged)
