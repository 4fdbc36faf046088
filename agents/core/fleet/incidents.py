"""Messages that the room gets without having asked: what matters, once, briefly, and never in a
flood (PROTOCOL 4 "On a phone").

An incident opens with one message and ends with another, when every partition that it touched is at
work again. Lines that come faster than the budget are joined into one message. The progress of a
command is one message that is corrected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from agents.base.text import clip_words, counted
from agents.core.effects import Effect, Note, Publish, Reply, Say, Subject
from agents.core.fleet.crash_loops import Circles
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.troubles import TroubleKind, Troubles
from agents.core.model.feeds import ALERTS, AlertItem, FeedItem, Severity
from agents.core.model.messages import Health, Telemetry
from agents.core.model.placement import State
from agents.core.model.times import format_duration, format_took
from agents.core.model.topology import ASIDE, Partition, WorkerKind, WorkerSpec, kind_of, short_name

BURST, REFILL_S = 4.0, 5.0  # messages at once, and seconds for one more
CORRECT_EVERY_S = 3.0
FLIPS, FLIP_S = 8.0, 30.0  # of one worker's health: changes at once, and seconds for one more
SUBJECT_AFTER_S = 5.0  # a new subject must have held for this long
# A lane must have no fault for this long: its next owner may find the same one
# (ownership.MISSING_AFTER_S).
WELL_AGAIN_S = 12.0
# Kafka that was away for less than BRIEF_S is told to be back once it has answered for STEADY_S:
# on a busy machine it may fall silent for a second again and again.
BRIEF_S, STEADY_S = 5.0, 30.0
HELD = "held: "  # begins a worker's fault that concerns all its lanes alike
SUBJECT_TEXT = 60
PENDING_LINES, LINES, CHARACTERS = 50, 8, 600


def format_partitions(partitions: Iterable[Partition], at_most: int = 6) -> str:
    """`lanes 3, 7, 12`, `raw 0, 1`, `lanes 1, 2, 3 and 9 more`, or `nothing`."""
    ps = sorted(partitions)
    if not ps:
        return "nothing"
    if len(ps) == 1:
        return ps[0].label
    word = "lanes" if ps[0].unit == "lane" else ps[0].unit
    more = f" and {len(ps) - at_most} more" if len(ps) > at_most else ""
    return f"{word} {', '.join(str(p.n) for p in ps[:at_most])}{more}"


def clip_lines(lines: Iterable[str], most: int = LINES, characters: int = CHARACTERS) -> str:
    """At most `most` lines and `characters`; the last line says how many are left out."""
    all_lines = [part for line in lines for part in line.split("\n")]
    out = all_lines[:most]
    while len(out) > 1 and (len("\n".join(out)) > characters - 20):
        out.pop()
    if len(out) < len(all_lines):
        out[-1:] = [f"and {counted(len(all_lines) - len(out) + 1, 'more line')}"]
    return clip_words("\n".join(out), characters)


@dataclass(slots=True)
class Incident:
    """An incident that is not over. `epochs`: its partitions; it is over when each is at work under
    a higher epoch. `by`: the nick of the person who asked for it, whose progress message is then
    corrected (`thread`) and replies to `reply`. `empties`: the worker that must have no partition
    in the end."""

    title: str
    epochs: dict[Partition, int]
    since: float
    by: str = ""
    thread: str = ""
    told_at: float = 0.0
    done: int = 0
    about: str = ""
    empties: str = ""
    reply: Reply | None = None


@dataclass(slots=True)
class News:
    """Collects lines, alerts and incidents; `tell_pending` turns them into effects. `troubles`:
    whatever is wrong until it is mended."""

    fleet: Fleet
    pending: list[str] = field(default_factory=list)
    pending_about: list[str] = field(default_factory=list)  # ids of the troubles in `pending`
    replies: list[tuple[str, Reply]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    alerts: list[tuple[Severity, str, str, str]] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    away: set[str] = field(default_factory=set)
    # How many changes of a worker's health may still be told, and as of when.
    flips: dict[str, tuple[float, float]] = field(default_factory=dict)
    troubles: Troubles = field(default_factory=Troubles)
    circles: Circles = field(init=False)
    tokens: float = BURST
    refilled_at: float = 0.0
    subject: str = ""
    coming: str = ""
    coming_at: float = 0.0
    link_down_at: float | None = None
    kafka_down_at: float | None = None
    led: bool = False
    count: int = 0

    def __post_init__(self) -> None:
        self.circles = Circles(self.troubles)

    # ---- events ----

    def report_gone(
        self, spec: WorkerSpec, why: str, lost: Iterable[Partition], now: float
    ) -> None:
        """A worker is gone, and has lost these partitions. `now`: monotonic s, as everywhere
        here."""
        parts = set(lost)
        self.away.add(spec.worker)
        if self.circles.is_looping(spec.worker):
            return
        none = f" It had no {spec.kind.partitions_word}."
        todo = f" To be moved: {format_partitions(parts)}." if parts else none
        self.add_line(f"{spec.label} is gone: {why}.{todo}")
        self.add_alert(
            Severity.CRITICAL, f"{spec.kind.name}_gone", spec.worker, f"{spec.label} is gone: {why}"
        )
        self.incidents.append(
            Incident(
                f"{format_partitions(parts)} of {spec.label}",
                self._current_epochs(parts),
                now,
                about=spec.worker,
            )
        )

    def report_stopped(self, spec: WorkerSpec) -> None:
        """A drained worker has left."""
        self.away.add(spec.worker)
        text = f"{spec.label} has stopped; it handed everything over first"
        self.add_line(f"{text}.")
        self.add_alert(Severity.INFO, "worker_stopped", spec.worker, text)

    def report_restarted(self, spec: WorkerSpec, lost: Iterable[Partition], now: float) -> None:
        """A worker came with another boot, and has lost these partitions."""
        parts = set(lost)
        if self.circles.is_looping(spec.worker):
            return
        todo = f" To be placed again: {format_partitions(parts)}." if parts else ""
        self.add_line(f"{spec.label} has restarted.{todo}")
        self.incidents.append(
            Incident(
                f"{format_partitions(parts)} of {spec.label}",
                self._current_epochs(parts),
                now,
                about=spec.worker,
            )
        )

    def report_health(
        self, spec: WorkerSpec, before: Health, after: Health, status: str, now: float
    ) -> bool:
        """A worker's health has changed. False if the change is one of too many to report."""
        # Its return is always told, so it comes before the budget of changes.
        if spec.worker in self.away and after is not Health.UNAVAILABLE:
            self.away.discard(spec.worker)
            if not self.circles.is_looping(spec.worker):
                self.add_line(f"{spec.label} is back.")
                self.add_alert(Severity.INFO, "worker_back", spec.worker, f"{spec.label} is back")
        left, at = self.flips.get(spec.worker, (FLIPS, now))
        left = min(FLIPS, left + (now - at) / FLIP_S)
        self.flips[spec.worker] = (left - 1 if left >= 1 else left, now)
        if left < 1:
            return False
        if left < 2:
            text = (
                f"{spec.label} keeps changing its health; from now on I report it every "
                f"{FLIP_S:.0f} s"
            )
            self.add_line(f"{text}.")
            self.add_alert(Severity.WARNING, "flapping", spec.worker, text)
        if after is Health.XA:
            self.add_line(
                f"{spec.label} is unhealthy: {status or 'no reason given'}. Its "
                f"{spec.kind.partitions_word} are moved away."
            )
            self.add_alert(
                Severity.WARNING, "unhealthy", spec.worker, f"{spec.label} is unhealthy: {status}"
            )
        elif before is Health.XA and after is Health.AVAILABLE:
            self.add_line(f"{spec.label} is healthy again.")
        return True

    def report_kafka_down(self, now: float) -> None:
        self.kafka_down_at = now
        text = (
            "Kafka does not answer me. I send no commands until it does; the workers keep what "
            "they have."
        )
        self.troubles.set(TroubleKind.KAFKA_AWAY, "", text, now)

    def report_kafka_up(self, now: float) -> None:
        if self.kafka_down_at is not None:
            away_s = now - self.kafka_down_at
            ended = f"Kafka is back after {format_took(away_s)}. No worker was fenced meanwhile."
            holds_s = STEADY_S if away_s < BRIEF_S else 0.0
            self.troubles.clear(TroubleKind.KAFKA_AWAY, "", now, ended, holds_s=holds_s)
        self.kafka_down_at = None

    def report_write_refused(self, why: str, now: float) -> None:
        """The topic `placement` refuses our writes; `why`: in Kafka's words."""
        text = (
            f"I cannot write to the topic placement: {why}. I send no commands until that is "
            "fixed (geolane provision --only kafka sets topics and rights); every lane stays "
            "where it is. I retry every second."
        )
        self.troubles.set(TroubleKind.PLACEMENT_REFUSED, "", text, now)

    def report_write_taken(self, now: float) -> None:
        ended = (
            "The topic placement accepts my writes again: I continue. No worker was fenced "
            "meanwhile."
        )
        self.troubles.clear(TroubleKind.PLACEMENT_REFUSED, "", now, ended)

    def report_plan_failure(self, why: str, now: float) -> None:
        """`why`: how the last plan failed; empty if it did not."""
        if why:
            text = (
                f"The planner fails: {why}. Every lane stays where it is, and orphans wait. I "
                "retry at least once a minute; see fault_outlived in the coordinator's log."
            )
            self.troubles.set(TroubleKind.PLAN_FAILED, "", text, now)
        else:
            self.troubles.clear(
                TroubleKind.PLAN_FAILED, "", now, "The planner works again.", holds_s=WELL_AGAIN_S
            )

    def report_link_down(self, now: float) -> None:
        self.link_down_at = now

    def report_link_up(self, now: float) -> None:
        if self.link_down_at is not None:
            self.add_line(
                f"I was cut off from XMPP for {format_took(now - self.link_down_at)}. What was "
                "asked meanwhile did not reach me: ask again. No worker was fenced."
            )
        self.link_down_at = None

    def open_command_incident(
        self,
        title: str,
        partitions: Iterable[Partition],
        by: str,
        now: float,
        *,
        empties: str = "",
        reply: Reply | None = None,
    ) -> Incident:
        """A confirmed command begins to move these; with `empties` also whatever else that worker
        gets meanwhile."""
        self.count += 1
        epochs = self._current_epochs(partitions)
        self.incidents.append(
            Incident(title, epochs, now, by, f"{self.count}", now, empties=empties, reply=reply)
        )
        return self.incidents[-1]

    def end_drain_incidents(self, worker: str) -> None:
        """A worker is no longer to be emptied: end the incidents of its drain."""
        self.incidents = [i for i in self.incidents if i.empties != worker]

    def report_planner_moves(self, partitions: Iterable[Partition], now: float) -> None:
        """The planner begins to move these by itself; one incident collects them."""
        for incident in self.incidents:
            if incident.about == "planner":
                incident.epochs.update(self._current_epochs(partitions))
                return
        self.incidents.append(
            Incident("moved to cut latency", self._current_epochs(partitions), now, about="planner")
        )

    def report_waiting_lanes(self, partitions: Sequence[Partition], why: str, now: float) -> None:
        """These lanes have no room; none: every lane has room again."""
        if partitions:
            text = (
                f"No room for {format_partitions(partitions)}: {why}. They wait and lag; nothing "
                "is shed. Add a node, or capacity."
            )
            self.troubles.set(TroubleKind.OVER_CAPACITY, "", text, now)
        else:
            self.troubles.clear(
                TroubleKind.OVER_CAPACITY, "", now, "There is room for every lane again."
            )

    def report_journal(self, fault: str, now: float) -> None:
        """`fault`: why the journal cannot be written; empty if it can."""
        kind = TroubleKind.JOURNAL_FAILED
        if not fault:
            ended = "My journal is written again."
            self.troubles.clear(kind, "", now, ended, holds_s=WELL_AGAIN_S)
            return
        text = (
            f"My journal cannot be written ({fault}): history, plots and replan will lack what "
            "happens now. Free the disk, or mend the file's rights; I go on and try again."
        )
        self.troubles.set(kind, "", text, now, Severity.WARNING)

    def report_faults(self, worker: str, telemetry: Telemetry, now: float) -> None:
        """Take a worker's faults: for each partition that is written as its own, or that Kafka
        Streams has given to it, whether it has stopped, is held up, or works (again). Faults of
        other partitions are ignored."""
        name, held = short_name(worker), ""
        of_streams = set(self.fleet.worked_by_streams(self.fleet.views[worker]))
        for lane in telemetry.lanes:
            p = Partition(lane.topic, lane.n)
            placed = self.fleet.partitions.get(p)
            if placed is None or (
                (placed.worker, placed.epoch) != (worker, lane.epoch) and p not in of_streams
            ):
                continue
            if lane.fault.startswith(ASIDE):
                others = "" if kind_of(p).optional else " Its other lanes continue."
                text = f"{p.label} is held up on {name}: {lane.fault.removeprefix(ASIDE)}.{others}"
                self.troubles.set(TroubleKind.LANE_HELD_UP, p.key, text, now, Severity.WARNING)
                continue
            ended = f"{p.label} is no longer held up."
            self.troubles.clear(TroubleKind.LANE_HELD_UP, p.key, now, ended, holds_s=WELL_AGAIN_S)
            if lane.fault.startswith(HELD):  # one trouble of the worker, not one for each lane
                held = lane.fault.removeprefix(HELD)
            elif lane.fault:
                self.troubles.set(
                    TroubleKind.LANE_STOPPED,
                    p.key,
                    f"{p.label} has stopped on {name}: {lane.fault}.",
                    now,
                )
            else:
                ended = f"{p.label} is running again, on {name}."
                self.troubles.clear(
                    TroubleKind.LANE_STOPPED, p.key, now, ended, holds_s=WELL_AGAIN_S
                )
        if held and self.kafka_down_at is not None:
            return  # Kafka is away for all: that is told
        if held:
            text = f"{name} cannot commit, and all its lanes have stopped: {held}."
            self.troubles.set(TroubleKind.WORKER_HELD, worker, text, now, Severity.WARNING)
        else:
            self.troubles.clear(
                TroubleKind.WORKER_HELD, worker, now, f"{name} commits again.", holds_s=WELL_AGAIN_S
            )

    def _current_epochs(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        return {p: self.fleet.partitions[p].epoch for p in partitions}

    def add_line(self, text: str, reply: Reply | None = None) -> None:
        """A line for the room. `reply`: the message of the person who asked for it; the line is
        then a message of its own."""
        if reply is not None and len(self.replies) < PENDING_LINES:
            self.replies.append((text, reply))
        elif len(self.pending) < PENDING_LINES:
            self.pending.append(text)

    def add_alert(self, severity: Severity, kind: str, about: str, text: str) -> None:
        self.alerts.append((severity, kind, about, text))

    def acknowledge_troubles(self, ids: Iterable[str], jid: str, now: float) -> list[str]:
        """That person is at work on these; returns the texts of those that are new to the
        person."""
        who = jid.partition("@")[0]
        found = [t for id in ids for t in self.troubles.acknowledge(id, who, now)]
        for t in found:
            told: dict[str, object] = {"kind": t.kind.value, "about": t.about}
            self.notes.append(Note("action", jid, f"ack {t.id}: {t.text}", told))
        return [t.text for t in found]

    # ---- effects ----

    def tell_pending(self, now: float, *, paused: bool, connected: bool) -> Iterator[Effect]:
        """The messages for now. While not `connected`, up to 50 lines are kept."""
        # Incidents and troubles first: both add lines and alerts that are sent below.
        yield from self._tell_progress(now)
        self._tell_troubles(now)
        for severity, kind, about, text in self.alerts:
            self.count += 1
            item = FeedItem(
                ALERTS,
                f"alert-{self.fleet.leader_epoch}-{self.count}",
                text,
                text,
                AlertItem(severity, kind, about),
                self.fleet.leader_epoch,
            )
            yield Publish(item)
            told: dict[str, object] = {"kind": kind, "about": about, "severity": severity.value}
            owner = self._owner_of_key(about)
            yield Note("alert", "", text, told | ({"nodes": [owner]} if owner else {}))
        self.alerts.clear()
        yield from self.notes
        self.notes.clear()
        self.tokens = min(BURST, self.tokens + (now - self.refilled_at) / REFILL_S)
        self.refilled_at = now
        if self.pending and connected and self.tokens >= 1:
            self.tokens -= 1
            yield Say(clip_lines(self.pending), about=tuple(self.pending_about[-PENDING_LINES:]))
            self.pending.clear()
            self.pending_about.clear()
        if connected:
            yield from (Say(text, reply=reply) for text, reply in self.replies)
            self.replies.clear()
        yield from self._tell_subject(now, paused)

    def _owner_of_key(self, about: str) -> str:
        """The owner of the partition with this key; empty for anything else."""
        if not about.rpartition("/")[2].isdecimal():
            return ""
        placed = self.fleet.partitions.get(Partition.of_key(about))
        return placed.worker if placed is not None else ""

    def _tell_troubles(self, now: float) -> None:
        self.troubles.expire(now)
        for change in self.troubles.changes:
            t = change.trouble
            self.add_line(change.ended or f"{t.text} (!ack {t.id})")
            if not change.ended:
                self.pending_about.append(t.id)
            severity = Severity.CALM if change.ended else t.severity
            self.add_alert(severity, t.kind, t.about, change.ended or t.text)
        self.troubles.changes.clear()
        for t in self.troubles.take_reminders(now):
            how = f"{t.at_work} is at it" if t.at_work else f"!ack {t.id}"
            text = f"Still, after {format_duration(now - t.since_s)}: {t.text}"
            self.add_line(f"{text} ({how})")
            self.pending_about.append(t.id)
            self.add_alert(t.severity, t.kind, t.about, text)

    def _tell_progress(self, now: float) -> Iterator[Effect]:
        for incident in list(self.incidents):
            # First, because it adds the partitions that have come to the worker since.
            emptied = not incident.empties or self._is_emptied(incident)
            left = [
                p for p, epoch in incident.epochs.items() if not _is_at_work(self.fleet, p, epoch)
            ]
            total = len(incident.epochs)
            if left or not emptied:
                done = total - len(left)
                if (
                    incident.by
                    and done != incident.done
                    and now - incident.told_at >= CORRECT_EVERY_S
                ):
                    incident.done, incident.told_at = done, now
                    yield Say(
                        f"{incident.title}: {done} of {total} done", incident.thread, incident.reply
                    )
                continue
            self.incidents.remove(incident)
            took = format_took(now - incident.since)
            if incident.by:
                yield Say(f"{incident.by}: {incident.title}: done in {took}.", reply=incident.reply)
            elif incident.about == "planner":
                where = ", ".join(
                    f"{p.n} to {short_name(self.fleet.partitions[p].worker)}"
                    for p in sorted(incident.epochs)[:6]
                )
                self.add_line(f"Moved to cut latency: {where}{' ...' if total > 6 else ''}.")
            elif total:
                self.add_line(f"Calm again: {incident.title} running again after {took}.")
                self.add_alert(
                    Severity.CALM,
                    "node_gone",
                    incident.about,
                    f"{incident.title} running again after {took}",
                )

    def _is_emptied(self, incident: Incident) -> bool:
        """Whether the worker is drained, or has left the fleet. The partitions that it has now
        become part of the incident, including those that it got before the drain was written."""
        worker = incident.empties
        for p in self.fleet.owned_by(worker):
            incident.epochs.setdefault(p, self.fleet.partitions[p].epoch)
        return worker not in self.fleet.views or self.fleet.statuses[worker].drained

    def _tell_subject(self, now: float, paused: bool) -> Iterator[Effect]:
        fleet = self.fleet
        nodes = [v for v in fleet.views.values() if v.spec.kind == WorkerKind.NODE]
        lanes = fleet.partitions_of(WorkerKind.NODE)
        placed = sum(fleet.partitions[p].state is State.ASSIGNED for p in lanes)
        here = sum(v.available for v in nodes)
        all_usable = all(fleet.statuses[v.spec.worker].usable for v in nodes)
        state = "Kafka away" if self.kafka_down_at is not None else ("paused" if paused else "calm")
        if not all_usable or placed < len(lanes):
            state = "working" if state == "calm" else state
        if (standing := self.troubles.list_worst_first()) and state != "Kafka away":
            more = f" (+ {len(standing) - 1})" if standing[1:] else ""
            state = f"{clip_words(standing[0].text.rstrip('.'), SUBJECT_TEXT)}{more}"
        text = f"geolane: {state}, {here}/{len(nodes)} nodes, {placed}/{len(lanes)} lanes"
        if text != self.coming:
            self.coming, self.coming_at = text, now
        # A state that lasts only a moment does not become the subject.
        if text != self.subject and now - self.coming_at >= SUBJECT_AFTER_S:
            self.subject = text
            yield Subject(text)


def _is_at_work(fleet: Fleet, p: Partition, beyond: int) -> bool:
    """Whether its written owner works it, under an epoch above `beyond`."""
    s = fleet.partitions[p]
    return (
        s.epoch > beyond
        and s.state is State.ASSIGNED
        and s.worker in fleet.views
        and fleet.views[s.worker].owned.get(p) == s.epoch
    )
