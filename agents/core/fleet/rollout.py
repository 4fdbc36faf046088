"""A rollout: nodes restart one after the other, each after it has handed its lanes over, so that
new code reaches a fleet that keeps working.

The rollout stops at the first node that does not come back in time or whose lanes stop, and says
so. It ends with its leader: the next leader finds the intent `rollout` in `placement`, deletes it,
and reports that the rollout was cut off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from agents.base.text import counted
from agents.core.effects import Effect, Note, Reply, Send, Write
from agents.core.fleet.fleet import Fleet, View
from agents.core.fleet.incidents import News
from agents.core.model.messages import RestartCommand
from agents.core.model.placement import Intent
from agents.core.model.topology import WorkerKind, short_name

ROLLOUT = "rollout"
BACK_S = 120.0  # from the command to being back, or the rollout stops
AGAIN_S = 5.0  # until the command is sent again
QUIET_S = 6.0  # a node that is back is watched for faults for this long before the next restarts


@dataclass(slots=True)
class Rollout:
    """`queue`: workers that have not been restarted. `current`: the one being restarted, whose old
    boot is `boot`; it was told at `told_at`, first at `began_at`, and back at `back_at` (monotonic
    s). `by`, `jid`: the nick and bare JID of the person who asked. `done`: how many
    are done. `reply`: the message that asked."""

    fleet: Fleet
    news: News
    queue: list[str] = field(default_factory=list)
    current: str = ""
    boot: str = ""
    began_at: float = 0.0
    told_at: float = 0.0
    back_at: float | None = None
    by: str = ""
    jid: str = ""
    done: int = 0
    reply: Reply | None = None

    @property
    def running(self) -> bool:
        return bool(self.current or self.queue)

    def begin(
        self, workers: Sequence[str], nick: str, jid: str, now_ms: int, reply: Reply | None = None
    ) -> Iterator[Effect]:
        self.reply = reply
        self.queue, self.current, self.done, self.by, self.jid = list(workers), "", 0, nick, jid
        yield Write(intents={ROLLOUT: Intent(jid, now_ms)})

    def stop(self, why: str) -> Iterator[Effect]:
        """End it early; a node that was told to restart still does."""
        left = [short_name(w) for w in ([self.current] if self.current else []) + self.queue]
        about, self.queue, self.current = self.current, [], ""
        text = (
            f"Rollout stopped: {why}. {self.done} done, not done: "
            f"{', '.join(left[:8])}{' ...' if len(left) > 8 else ''}."
        )
        self.news.add_line(f"{self.by}: {text}" if self.by else text, self.reply)
        yield Note("decision", "", text, {"nodes": [about] if about else []})
        yield Write(intents={ROLLOUT: None})

    def report_cut_off(self) -> Iterator[Effect]:
        """Report, once per leader, that an earlier leader's rollout was cut off."""
        intent = self.fleet.intents.get(ROLLOUT)
        if intent is not None and not self.running:
            who = intent.by.partition("@")[0]
            self.news.add_line(
                f"A change of leader ended the rollout that {who} asked for: see nodes, and ask "
                "again."
            )
            yield Write(intents={ROLLOUT: None})

    def advance(self, now: float) -> Iterator[Effect]:
        """The next step, if it is due."""
        if not self.running:
            return
        if not self.current:
            yield from self._restart_next_node(now)
            return
        view = self.fleet.views.get(self.current)
        name = short_name(self.current)
        if view is None:
            yield from self.stop(f"{name} is no longer in the inventory")
        elif fault := _find_fault(view, self.boot):
            yield from self.stop(f"{name} has come back, but {fault}")
        elif self._is_back(view):
            self.back_at = now if self.back_at is None else self.back_at
            if now - self.back_at >= QUIET_S:
                self.done += 1
                yield from self._restart_next_node(now)
        elif now - self.began_at > BACK_S:
            yield from self.stop(f"{name} is not back {BACK_S:.0f} s after it was told to restart")
        elif (
            view.boot == self.boot
            and view.present
            and view.state != "draining"
            and now - self.told_at > AGAIN_S
        ):
            self.told_at = now
            yield Send(self.current, RestartCommand(self.fleet.leader_epoch, view.boot))

    def _is_back(self, view: View) -> bool:
        return (
            view.available
            and view.boot != self.boot
            and self.fleet.statuses[view.spec.worker].usable
            and view.telemetry is not None
            and view.telemetry.boot == view.boot
        )

    def _restart_next_node(self, now: float) -> Iterator[Effect]:
        self.current = ""
        while self.queue:
            worker = self.queue.pop(0)
            view = self.fleet.views.get(worker)
            if view is None or not view.present or not view.boot:
                self.news.add_line(
                    f"Rollout: {short_name(worker)} is not here; it runs the new code when it "
                    "starts."
                )
                continue
            self.current, self.boot, self.began_at, self.told_at, self.back_at = (
                worker,
                view.boot,
                now,
                now,
                None,
            )
            yield Send(worker, RestartCommand(self.fleet.leader_epoch, view.boot))
            return
        text = (
            f"Rollout done: {counted(self.done, 'node')} restarted. {format_versions(self.fleet)}"
        )
        self.news.add_line(f"{self.by}: {text}", self.reply)
        yield Note("decision", "", text, {})
        yield Write(intents={ROLLOUT: None})


def _find_fault(view: View, old_boot: str) -> str:
    t = view.telemetry
    if t is None or t.boot == old_boot:
        return ""
    return next((f"lane {lane.n} stopped ({lane.fault})" for lane in t.lanes if lane.fault), "")


def format_versions(fleet: Fleet) -> str:
    """`All run mine:pipeline@3f2a.`, or how many nodes run which version."""
    by: dict[str, int] = {}
    for view in fleet.views.values():
        if (
            view.spec.kind == WorkerKind.NODE
            and view.present
            and view.telemetry is not None
            and view.telemetry.pipeline
        ):
            by[view.telemetry.pipeline] = by.get(view.telemetry.pipeline, 0) + 1
    if len(by) == 1:
        return f"All run {next(iter(by))}."
    return (
        ", ".join(f"{count} run {name}" for name, count in sorted(by.items())) + "." if by else ""
    )
