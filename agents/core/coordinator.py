"""The coordinator's core: it takes one event, advances the state and returns effects.

It makes no decision itself. liveness.py decides which worker is gone, placing.py where partitions
go, handover.py which changes are allowed; reconcile.py words the commands and incidents.py the
messages. While this coordinator does not lead, XMPP or Kafka is away, or the topic `placement`
accepts no record, it sends no command (PROTOCOL 2.11)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from agents.core.effects import (
    Effect,
    Note,
    Publish,
    ReadRelease,
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
    OffsetsRead,
    PlacementWritten,
    PlanFailed,
    Planned,
    Ponged,
    QueryFinished,
    QuestionAsked,
    ReleaseRead,
    TelemetryIn,
    Tick,
    Wake,
    WorkerSeen,
    WriteRefused,
    WriteTaken,
    XmppEvent,
)
from agents.core.fleet import reconcile as saying
from agents.core.fleet.fleet import Fleet, View
from agents.core.fleet.handover import Step, step
from agents.core.fleet.incidents import News
from agents.core.fleet.liveness import Gone, Liveness
from agents.core.fleet.membership import Membership, lease_made
from agents.core.fleet.placing import Placing
from agents.core.fleet.placing_inputs import PlacingSettings
from agents.core.fleet.plausibility import ImplausibleFigures
from agents.core.fleet.rollout import ROLLOUT
from agents.core.fleet.summary import fleet_item, samples, summarise, worker_rows
from agents.core.fleet.topic_checks import StreamsLooked
from agents.core.fleet.trouble_watch import Lookout
from agents.core.fleet.troubles import TroubleKind
from agents.core.fleet.tuner import Tuner
from agents.core.guard import Guard
from agents.core.model.inventory import Inventory
from agents.core.model.messages import (
    Announcement,
    AssignCommand,
    Health,
    LeaseCommand,
    ReleaseCommand,
    WorkerAnswer,
)
from agents.core.model.placement import PAUSE, UNTUNED, Intent, Lease, Placed, State, Tuning
from agents.core.model.plan import LanePlaces
from agents.core.model.topology import Partition, short_name
from agents.core.operators.chat import Desk
from agents.core.operators.form_dialogs import Dialogs
from agents.core.planning.planner import Clock
from agents.settings.tunables import DEFAULTS, Number
from kernels.tables import Numerics

SAMPLE_S = 10.0
# Telemetry advances the state at most this often: a large fleet sends it all the time.
SPREAD_S = 0.1
RELEASE_TRIES = 3  # releases that failed before the worker is fenced (2.4)
RETRY_S, REFUSALS = 0.5, 4  # the pause before a retry; refusals in a row before a fence


@dataclass(frozen=True, slots=True)
class Now:
    """`s`: monotonic seconds. `ms`: the wall clock in epoch milliseconds; it is shown, never
    compared."""

    s: float
    ms: int


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
    """What plans are made with. `clock`: seconds, to measure how long one takes."""

    lanes: LanePlaces
    numerics: Numerics
    settings: PlacingSettings
    clock: Clock = lambda: 0.0


@dataclass(frozen=True, slots=True)
class OperatorSetup:
    """What people are told and may set. `token`: a new id of a dry run; `tunables`: the values of
    the settings file; `bootstrap`: the broker that commands name."""

    token: Callable[[], str]
    tunables: Mapping[str, Number] = field(default_factory=lambda: DEFAULTS)
    bootstrap: str = "BROKER:9092"


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
        )
        self.fleet.expect(inherited.expected)
        for worker, lease in leases.items():
            if lease.fenced and worker in self.fleet.views:
                self.fleet.views[worker].dead.add(lease.boot)
        self.liveness = Liveness()
        self.news = News(self.fleet)
        self.refusals = ImplausibleFigures(self.fleet, self.news)
        self.placing = Placing(
            self.fleet, planning.lanes, planning.numerics, planning.settings, now.s, planning.clock
        )
        self.tuner = Tuner(self.fleet, self.placing, operators.tunables)
        self.desk = Desk(self.fleet, self.placing, self.news, operators.token, self.tuner)
        self.dialogs = Dialogs(self.desk)
        desk, placing = self.desk, self.placing
        parts = (
            self.fleet,
            placing,
            placing.watch,
            self.news,
            self.news.troubles,
            self.tuner,
            self.dialogs,
            desk.errands,
            desk.rewinds,
            desk.rollout,
        )
        self.guard = Guard(parts, self.news, operators.token, desk.errands.found, placing.failed)
        self._led = False
        self._cut_off = ROLLOUT in intents
        self._sample_at, self._turn, self._advanced_at = now.s, 0, now.s
        self.lookout = Lookout(self.fleet, self.news, now.s, operators.bootstrap)
        self.membership = Membership(self.fleet, self.placing, self.news)
        self.membership.fenced_strangers(leases)

    def handle(self, event: AnyEvent, now: Now) -> list[Effect]:
        """Take one event at `now` and return the effects to perform, in order.

        Raises ImpossibleTransition when the state contradicts itself: the process then ends, and
        the next leader starts from what is written."""
        # 1. The event itself. The guard catches our own errors in commands, in workers' messages
        #    and in plans; any other error ends the leader (guard.py says why).
        effects = self.guard.take(event, self._take(event, now), now.s, now.ms)
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
            self.desk.expire(now.s)
            effects += self.desk.errands.expire(now.s, now.ms)
            effects += self.desk.follows.end_lost() if self.liveness.watching() else ()
            effects += self.guard.looks("summary", lambda: self._summed_up(now), now.s)
        # 4. Followers, after everything above has published. Items that a `Write` publishes once
        #    it is committed count too.
        for effect in effects:
            for said in (effect, *(effect.then if isinstance(effect, Write) else ())):
                if isinstance(said, Publish):
                    self.desk.follows.published(said.item)
        return [*effects, *self.desk.follows.tell(now.s)]

    def _summed_up(self, now: Now) -> list[Effect]:
        self._turn += 1
        rows = worker_rows(self.fleet, self._turn - 1)
        rates, troubles = self.placing.watch.rates, self.news.troubles
        summary = summarise(self.fleet, rates, troubles, now.s, paused=self._paused(), workers=rows)
        effects: list[Effect] = [Publish(fleet_item(summary, self.fleet.leader_epoch))]
        if now.s >= self._sample_at:
            self._sample_at = now.s + SAMPLE_S
            effects.append(Sampled(samples(self.fleet)))
        return effects

    def _paused(self) -> bool:
        return PAUSE in self.fleet.intents

    # ---- the event alone: one handler for each kind ----

    def _take(self, event: AnyEvent, now: Now) -> Iterator[Effect]:
        """The effects of the event alone; `_advance` adds what follows from it."""
        if isinstance(event, _OF_A_WORKER) and event.worker not in self.fleet.views:
            return  # the worker has left the fleet meanwhile
        yield from _HANDLERS[type(event)](self, event, now) or ()

    def _time_passed(self, event: Tick | Wake, now: Now) -> None:
        """Nothing by itself: `_advance` looks at the time."""

    def _worker_seen(self, event: WorkerSeen, now: Now) -> Iterable[Effect]:
        said = self.refusals.announcement(event.announcement, now.s)
        # An unknown worker's presence is kept: a later inventory may name it.
        self.membership.announced(said)
        return self._seen(said, now) if said.worker in self.fleet.views else ()

    def _flooded(self, event: Flooded, now: Now) -> None:
        why = f"sends more than I read: {event.count:,} of its stanzas were dropped"
        if event.blocked_s:
            why += f", and the server holds back what it sends for {event.blocked_s:.0f} s"
        self.refusals.refuse("stanza", event.sender, why, now.s, event.count)

    def _not_understood(self, event: NotUnderstood, now: Now) -> None:
        why = f"sent an invalid message: {event.why}"
        self.refusals.refuse(event.what, event.worker, why, now.s)

    def _inventory_read(self, event: InventoryRead, now: Now) -> Iterator[Effect]:
        known = set(self.fleet.views)
        yield from self.membership.read(event)
        for said in self.membership.waiting(known):
            yield from self._seen(said, now)

    def _inventory_refused(self, event: InventoryRefused, now: Now) -> None:
        self.membership.refuse(event)

    def _telemetry_came(self, event: TelemetryIn, now: Now) -> None:
        worker = event.worker
        if worker not in self.fleet.views:
            return
        # Implausible figures are removed before anything else sees them.
        telemetry = self.refusals.telemetry(worker, event.telemetry, now.s)
        if self.fleet.reported(worker, telemetry, now.s):
            self.liveness.returned(worker)
            self.placing.watch.rates.heard(worker, telemetry, now.s)
            self.news.faults(worker, telemetry, now.s)

    def _lease_made(self, event: LeaseMade, now: Now) -> Iterable[Effect]:
        ended = f"The outcome of {short_name(event.worker)}'s last transaction is known now."
        self.news.troubles.clear(TroubleKind.TRANSACTION_UNDECIDED, event.worker, now.s, ended)
        return lease_made(self.fleet, self.placing, self.news, event, now.s, now.ms)

    def _lease_failed(self, event: LeaseFailed, now: Now) -> Iterator[Effect]:
        worker, reason = event.worker, event.reason
        if event.undecided:
            self.news.troubles.set(TroubleKind.TRANSACTION_UNDECIDED, worker, reason, now.s)
        if worker in self.fleet.views:
            self.fleet.end_fence(worker)
            self.fleet.views[worker].retry_at = now.s + RETRY_S
        else:
            self.membership.strangers[worker] = now.s + RETRY_S
        yield Note("alert", "", f"no lease for {worker}: {reason}", {})

    def _placement_written(self, event: PlacementWritten, now: Now) -> None:
        self.fleet.written(event.partitions, event.leases, event.intents, event.tuning)
        for p, placed in event.partitions.items():
            self.lookout.circles.given(p, placed, now.s)
        if event.tuning is not None:
            self.tuner.applied()

    def _ponged(self, event: Ponged, now: Now) -> Iterator[Effect]:
        view = self.fleet.views[event.worker]
        view.pinged_at = None
        # A failed ping proves nothing while we were away ourselves (PROTOCOL 2.10).
        if event.alive:
            view.heard_at = now.s
        elif event.alive is None:
            return
        elif view.present and now.s >= self.liveness.quiet_until and self.liveness.watching():
            yield from self._gone(event.worker, "silent, and no answer to a ping", now)

    def _planned(self, event: Planned, now: Now) -> Iterable[Effect]:
        commanding = self.liveness.watching()
        return self.placing.planned(event.scored, now.s, now.ms, commanding=commanding)

    def _plan_failed(self, event: PlanFailed, now: Now) -> None:
        raise event.error  # the guard catches it and reports the failed plan

    def _streams_looked(self, event: StreamsLooked, now: Now) -> Iterable[Effect]:
        return self.lookout.looked(event, now.s)

    def _offsets_read(self, event: OffsetsRead, now: Now) -> None:
        self.liveness.offsets(self.fleet, event.offsets)

    def _question_asked(self, event: QuestionAsked, now: Now) -> Iterable[Effect]:
        return self.desk.asked(event, now.s, now.ms, commanding=self.liveness.watching())

    def _form_asked(self, event: AdHoc | AdHocList, now: Now) -> Iterable[Effect]:
        return self.dialogs.asked(event, now.s, now.ms, commanding=self.liveness.watching())

    def _query_finished(self, event: QueryFinished, now: Now) -> Iterable[Effect]:
        return self.desk.errands.found(event, now.s, now.ms)

    def _affiliations_read(self, event: AffiliationsRead, now: Now) -> Iterable[Effect]:
        self.desk.affiliations.clear()
        return self.desk.affiliation(event.affiliations)

    def _affiliation_changed(self, event: AffiliationChanged, now: Now) -> Iterable[Effect]:
        return self.desk.affiliation({event.jid: event.affiliation})

    def _connection_changed(self, event: AnyEvent, now: Now) -> Iterator[Effect]:
        self._watch(event, now)
        if isinstance(event, Led):  # feeds are caches: publish again after a reconnect
            yield Publish(self.tuner.item())

    def _watch(self, event: AnyEvent, now: Now) -> None:
        """Note what we can reach. Whenever something is back, silence counts for nothing for a
        while (`came_back`)."""
        match event:
            case KafkaDown():
                if self.liveness.kafka_up:
                    self.news.kafka_down(now.s)
                self.liveness.kafka_up = False
            case KafkaUp():
                if not self.liveness.kafka_up:
                    self.liveness.came_back(now.s)
                    self.news.kafka_up(now.s)
                self.liveness.kafka_up = True
            case WriteRefused(why):
                self.liveness.writes_taken = False
                self.news.write_refused(why, now.s)
            case WriteTaken():
                self.liveness.writes_taken = True
                self.liveness.came_back(now.s)
                self.news.write_taken(now.s)
            case LinkDown() | NotLeading():
                if self.liveness.link_up:
                    self.news.link_down(now.s)
                self.liveness.link_up = False
                self.fleet.lost_sight()
                self.membership.lost_sight()
            case Led():
                self.liveness.link_up = True
                self.liveness.came_back(now.s)
                self.news.link_up(now.s)
                if not self._led and self.fleet.leader_epoch > 1:
                    self.news.line(
                        f"I lead now (leader epoch {self.fleet.leader_epoch}). The workers keep "
                        "what they have."
                    )
                self._led = True

    def _seen(self, said: Announcement, now: Now) -> Iterator[Effect]:
        """A known worker's presence."""
        view = self.fleet.views[said.worker]
        if said.health is Health.UNAVAILABLE:
            if self.fleet.left(said.worker, now.s):
                self.liveness.departed(said.worker, now.s)
            return
        before, boot = view.health, view.boot
        if self.fleet.announced(said, now.s):
            if boot and boot != view.boot:
                self.lookout.circles.started(view.spec, said.last_end, now.s)
            self.placing.joined(now.s)
            flipped = before is not said.health
            if flipped and self.news.health(view.spec, before, said.health, said.status, now.s):
                yield Note(
                    "fleet", said.worker, f"{said.worker} is {said.health}", {"boot": said.boot}
                )
        if view.boot not in view.dead:
            self.liveness.returned(said.worker)

    def _answered(self, e: Answered, now: Now) -> Iterator[Effect]:
        """A worker has obeyed a command. Of an answer to a release only the lanes that were asked
        for count, and only as far as Kafka confirms them (`_released`)."""
        view = self.fleet.views[e.worker]
        # An answer to a command that we no longer wait for changes nothing.
        if view.inflight.get(type(e.command)) is not e.command:
            return
        if isinstance(e.command, ReleaseCommand):  # it stays in flight until Kafka has answered
            asked = {(g.n, g.epoch) for g in e.command.lanes}
            told = tuple(g for g in e.answer.lanes if (g.n, g.epoch) in asked)
            yield ReadRelease(e.worker, e.command, WorkerAnswer(told))
        else:
            del view.inflight[type(e.command)]
        # A former boot's answer says nothing about the present one.
        if e.command.boot != view.boot:
            return
        view.heard_at, view.refusals = now.s, 0
        match e.command:
            case LeaseCommand() if e.command.producer_id >= 0:
                self.fleet.confirmed(e.worker, e.command.producer)
                self.placing.joined(now.s)
            case AssignCommand(topic=topic, lanes=lanes):
                has = {g.n: g.epoch for g in e.answer.lanes}
                for g in lanes:
                    if has.get(g.n) == g.epoch:
                        view.owned[Partition(topic, g.n)] = g.epoch
                    else:  # stale for the worker: say again what is written
                        view.said.pop(Partition(topic, g.n), None)
                        view.retry_at = now.s + RETRY_S

    def _released(self, e: ReleaseRead, now: Now) -> Iterator[Effect]:
        """A release counts as far as Kafka's offsets confirm it (2.6). An offset that Kafka does
        not show is asked for again; after RELEASE_TRIES the worker is fenced."""
        view = self.fleet.views[e.worker]
        if view.inflight.get(ReleaseCommand) is not e.command:
            return
        del view.inflight[ReleaseCommand]
        if e.command.boot != view.boot:
            return
        if e.error:
            view.retry_at = now.s + RETRY_S
            return
        records: dict[Partition, Placed] = {}
        untrue: dict[Partition, str] = {}
        for g in e.answer.lanes:
            # The record may have changed since the command: only the owner's release of this
            # epoch counts, and only while no other write of the partition is under way.
            p = Partition(e.command.topic, g.n)
            placed = self.fleet.partitions.get(p)
            if placed is None or (placed.worker, placed.boot) != (e.worker, e.command.boot):
                continue
            if (
                placed.state is not State.RELEASING
                or placed.epoch != g.epoch
                or self.fleet.writing[p]
            ):
                continue
            shown = e.committed.get(p)
            # If the group's offsets are gone, the log's end is the only bound left.
            most = max(placed.offset, e.ends.get(p, 0) if shown is None else shown)
            if g.offset > most:
                untrue[p] = (
                    f"{p.label} at {g.offset:,}, but Kafka shows "
                    f"{'none' if shown is None else f'{shown:,}'}"
                )
                continue
            offset = max(g.offset, shown or 0)  # the next owner may not start below either
            records[p] = step(
                placed,
                Step.RELEASED,
                leader_epoch=self.fleet.leader_epoch,
                now_ms=now.ms,
                why=placed.why,
                offset=offset,
            )
            view.owned.pop(p, None)
            view.tries.pop(p, None)
        if records:
            self.fleet.begin_write(records)
            yield Write(records)
        if untrue:
            yield from self._untrue(view, untrue, now)

    def _untrue(self, view: View, untrue: Mapping[Partition, str], now: Now) -> Iterator[Effect]:
        """Released offsets that Kafka does not show: ask again, and fence at the last try."""
        view.retry_at = now.s + RETRY_S
        view.tries.update(list(untrue))
        if any(view.tries[p] >= RELEASE_TRIES for p in untrue) and self.liveness.watching():
            why = f"it claims to have released {next(iter(untrue.values()))}"
            self.lookout.untrue(view.spec, why, now.s)
            yield from self._gone(view.spec.worker, why, now)

    def _refused(self, e: CommandWasRefused, now: Now) -> Iterator[Effect]:
        """A worker that refuses what is written REFUSALS times in a row is fenced; its next boot
        starts from what is written. One refusal is not enough: we may have been deposed without
        having noticed it yet."""
        view = self.fleet.views[e.worker]
        view.inflight.pop(type(e.command), None)
        if e.command.boot != view.boot:
            return
        view.retry_at = now.s + RETRY_S
        view.refusals += 1
        self.placing.watch.trouble(e.worker, now.s)
        if isinstance(e.command, AssignCommand):
            view.unsay(e.command)
        if view.refusals >= REFUSALS and self.liveness.watching():
            seen = f", it has seen epoch {e.seen}" if e.seen is not None else ""
            yield from self._gone(
                e.worker, f"it refuses what placement says ({e.condition}{seen})", now
            )

    def _unanswered(self, event: CommandUnanswered, now: Now) -> Iterator[Effect]:
        """Send the command again later. Only a release is counted: a worker that does not answer
        RELEASE_TRIES of them is fenced, since it holds lanes that somebody else is to have."""
        worker, kind = event.worker, type(event.command)
        view = self.fleet.views[worker]
        command = view.inflight.pop(kind, None)
        view.retry_at = now.s + RETRY_S
        self.placing.watch.trouble(worker, now.s)
        if isinstance(command, AssignCommand):
            view.unsay(command)
        if isinstance(command, ReleaseCommand) and self.liveness.watching() and view.present:
            slow = [Partition(command.topic, g.n) for g in command.lanes]
            view.tries.update(slow)
            if (
                any(view.tries[p] >= RELEASE_TRIES for p in slow)
                and now.s >= self.liveness.quiet_until
            ):
                yield from self._gone(
                    worker,
                    f"it did not release {slow[0].label} after {RELEASE_TRIES} requests",
                    now,
                )

    def _advance(self, now: Now) -> Iterator[Effect]:
        """Whatever follows from the present state, whichever event led to it. The order matters;
        docs/core.md shows it too.

        While Kafka, XMPP or the topic `placement` is away, people are told but nothing else
        happens: silence then proves nothing, and a command must not say what cannot be written."""
        if self.liveness.watching():
            # 1. Which workers are gone? First: nothing may be given to a worker that is about to
            #    be fenced.
            for found in self.liveness.look(self.fleet, now.s):
                if isinstance(found, Gone):
                    yield from self._gone(found.worker, found.why, now)
                else:
                    yield found
            # 2. Members that leave are fenced or forgotten, and rewinds take their next step:
            #    before placing, which is to see only the workers and orphans that remain.
            yield from self.membership.advance(now.s)
            yield from self.desk.rewinds.advance(now.s)
            # 3. Orphans are placed before the placement is improved: a lane without an owner never
            #    waits behind a lane that could be better off.
            yield from self.guard.plans(self.placing.place(now.s, now.ms), now.s)
            yield from self.guard.plans(self.placing.improve(now.s, now.ms), now.s)
            self.news.plan_failed(self.placing.failing, now.s)
            # 4. Workers are told what is written, after every decision of this turn: a partition
            #    whose record has just begun to change, or a worker that is being fenced, is left
            #    out until the change is committed.
            yield from saying.say(self.fleet, now.s)
            #    A rollout may send a command too: it restarts its next node. A rollout of an
            #    earlier leader is only reported as cut off, once.
            if self._cut_off:
                self._cut_off = False
                yield from self.desk.rollout.cut_off()
            yield from self.desk.rollout.advance(now.s)
            self.lookout.advance(now.s, self.liveness.quiet_until)
        # 5. People are told last, after everything that they could be told of.
        if self.placing.moved:
            self.news.moved(self.placing.moved, now.s)
            self.placing.moved.clear()
        self.news.waiting(self.placing.waiting, "all nodes that take lanes are full", now.s)
        yield from self.tuner.tell(now.s) if self.liveness.link_up else ()
        yield from self.news.tell(now.s, paused=self._paused(), connected=self.liveness.link_up)

    def _gone(self, worker: str, why: str, now: Now) -> Iterator[Effect]:
        """Fence the worker: make its lease anew for nobody (2.2). Calling it twice is harmless."""
        view = self.fleet.views[worker]
        if view.fencing or not self.fleet.statuses[worker].lease_live:
            return
        # Noted before the fence is performed: from here on nothing is given or said to this boot.
        self.fleet.begin_fence(worker, self.fleet.leases[worker].boot)
        fence = saying.make_lease(self.fleet, worker, "")
        if view.state == "draining" and not fence.partitions:
            self.news.stopped(view.spec)
        else:
            self.news.gone(view.spec, why, fence.partitions, now.s)
        yield fence


_OF_PEOPLE = (QuestionAsked, AdHoc, AdHocList, QueryFinished)
_OF_A_WORKER = (Answered, ReleaseRead, CommandWasRefused, CommandUnanswered, Ponged)

# Any: each handler takes the event of its own line.
_HANDLERS: Mapping[type, Callable[[Coordinator, Any, Now], Iterable[Effect] | None]] = {
    Tick: Coordinator._time_passed,
    Wake: Coordinator._time_passed,
    # what workers say
    WorkerSeen: Coordinator._worker_seen,
    TelemetryIn: Coordinator._telemetry_came,
    Flooded: Coordinator._flooded,
    NotUnderstood: Coordinator._not_understood,
    # what became of commands to them
    Answered: Coordinator._answered,
    ReleaseRead: Coordinator._released,
    CommandWasRefused: Coordinator._refused,
    CommandUnanswered: Coordinator._unanswered,
    Ponged: Coordinator._ponged,
    # what Kafka and the inventory say
    LeaseMade: Coordinator._lease_made,
    LeaseFailed: Coordinator._lease_failed,
    PlacementWritten: Coordinator._placement_written,
    OffsetsRead: Coordinator._offsets_read,
    StreamsLooked: Coordinator._streams_looked,
    InventoryRead: Coordinator._inventory_read,
    InventoryRefused: Coordinator._inventory_refused,
    # plans
    Planned: Coordinator._planned,
    PlanFailed: Coordinator._plan_failed,
    # people
    QuestionAsked: Coordinator._question_asked,
    AdHoc: Coordinator._form_asked,
    AdHocList: Coordinator._form_asked,
    QueryFinished: Coordinator._query_finished,
    AffiliationsRead: Coordinator._affiliations_read,
    AffiliationChanged: Coordinator._affiliation_changed,
    # our own connections
    KafkaDown: Coordinator._connection_changed,
    KafkaUp: Coordinator._connection_changed,
    WriteRefused: Coordinator._connection_changed,
    WriteTaken: Coordinator._connection_changed,
    LinkUp: Coordinator._connection_changed,
    LinkDown: Coordinator._connection_changed,
    NotLeading: Coordinator._connection_changed,
    Led: Coordinator._connection_changed,
}
