"""What became of commands to workers (obeyed, refused, unanswered) and of pings. A worker that does
not do what is written is asked again, and in the end fenced (PROTOCOL 2.4, 2.6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agents.core.effects import Effect, ReadRelease, Write
from agents.core.events import (
    Answered,
    CommandUnanswered,
    CommandWasRefused,
    Now,
    Ponged,
    ReleaseRead,
)
from agents.core.fleet.fencing import Fencing
from agents.core.fleet.fleet import Fleet, View
from agents.core.fleet.handover import Step, record_after_step
from agents.core.fleet.liveness import Liveness
from agents.core.fleet.placing import Placing
from agents.core.fleet.reconcile import RETRY_S
from agents.core.fleet.trouble_watch import Lookout
from agents.core.model.messages import AssignCommand, LeaseCommand, ReleaseCommand, WorkerAnswer
from agents.core.model.placement import Placed, State
from agents.core.model.topology import Partition

RELEASE_TRIES = 3  # releases that failed before the worker is fenced (2.4)
REFUSALS = 4  # in a row before a fence


@dataclass(slots=True)
class CommandOutcomes:
    """Every worker named by an event is in the fleet."""

    fleet: Fleet
    liveness: Liveness
    placing: Placing
    lookout: Lookout
    fencing: Fencing

    def handle_answer(self, e: Answered, now: Now) -> Iterator[Effect]:
        """A worker has obeyed a command. Of an answer to a release only the lanes that were asked
        for count, and only as far as Kafka confirms them (`handle_release`)."""
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
                self.fleet.note_lease_confirmed(e.worker, e.command.producer)
                self.placing.note_join(now.s)
            case AssignCommand(topic=topic, lanes=lanes):
                has = {g.n: g.epoch for g in e.answer.lanes}
                for g in lanes:
                    if has.get(g.n) == g.epoch:
                        view.owned[Partition(topic, g.n)] = g.epoch
                    else:  # stale for the worker: say again what is written
                        view.said.pop(Partition(topic, g.n), None)
                        view.retry_at = now.s + RETRY_S

    def handle_release(self, e: ReleaseRead, now: Now) -> Iterator[Effect]:
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
            records[p] = record_after_step(
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
            yield from self._handle_untrue_release(view, untrue, now)

    def _handle_untrue_release(
        self, view: View, untrue: Mapping[Partition, str], now: Now
    ) -> Iterator[Effect]:
        """Released offsets that Kafka does not show: ask again, and fence at the last try."""
        view.retry_at = now.s + RETRY_S
        view.tries.update(list(untrue))
        if any(view.tries[p] >= RELEASE_TRIES for p in untrue) and self.liveness.can_command():
            why = f"it claims to have released {next(iter(untrue.values()))}"
            self.lookout.report_untrue_answer(view.spec, why, now.s)
            yield from self.fencing.fence_worker(view.spec.worker, why, now)

    def handle_refusal(self, e: CommandWasRefused, now: Now) -> Iterator[Effect]:
        """A worker that refuses what is written REFUSALS times in a row is fenced; its next boot
        starts from what is written. One refusal is not enough: we may have been deposed without
        having noticed it yet."""
        view = self.fleet.views[e.worker]
        view.inflight.pop(type(e.command), None)
        if e.command.boot != view.boot:
            return
        view.retry_at = now.s + RETRY_S
        view.refusals += 1
        self.placing.inputs.note_failed_handover(e.worker, now.s)
        if isinstance(e.command, AssignCommand):
            view.mark_unsaid(e.command)
        if view.refusals >= REFUSALS and self.liveness.can_command():
            seen = f", it has seen epoch {e.seen}" if e.seen is not None else ""
            yield from self.fencing.fence_worker(
                e.worker, f"it refuses what placement says ({e.condition}{seen})", now
            )

    def handle_no_answer(self, event: CommandUnanswered, now: Now) -> Iterator[Effect]:
        """Send the command again later. Only a release is counted: a worker that does not answer
        RELEASE_TRIES of them is fenced, since it holds lanes that somebody else is to have."""
        worker, kind = event.worker, type(event.command)
        view = self.fleet.views[worker]
        command = view.inflight.pop(kind, None)
        view.retry_at = now.s + RETRY_S
        self.placing.inputs.note_failed_handover(worker, now.s)
        if isinstance(command, AssignCommand):
            view.mark_unsaid(command)
        if isinstance(command, ReleaseCommand) and self.liveness.can_command() and view.present:
            slow = [Partition(command.topic, g.n) for g in command.lanes]
            view.tries.update(slow)
            if (
                any(view.tries[p] >= RELEASE_TRIES for p in slow)
                and now.s >= self.liveness.quiet_until
            ):
                yield from self.fencing.fence_worker(
                    worker,
                    f"it did not release {slow[0].label} after {RELEASE_TRIES} requests",
                    now,
                )

    def handle_pong(self, event: Ponged, now: Now) -> Iterator[Effect]:
        """A ping was answered (`alive`), or it was not; None: its outcome says nothing."""
        view = self.fleet.views[event.worker]
        view.pinged_at = None
        # A failed ping proves nothing while we were away ourselves (PROTOCOL 2.10).
        if event.alive:
            view.heard_at = now.s
        elif event.alive is None:
            return
        elif view.present and now.s >= self.liveness.quiet_until and self.liveness.can_command():
            yield from self.fencing.fence_worker(
                event.worker, "silent, and no answer to a ping", now
            )
