"""The boundary around commands, workers' messages and plans: an error of ours in there does not end
the leader. It is reported once, with its traceback.

A command that fails has changed nothing: none of its effects is performed, and the state that it
had changed is restored. Effects of a worker's message or of a plan that were made before the error
are kept, since each belongs to the state that it was made from. There is no boundary around the
rest of a tick: the state could stay advanced half-way, whereas a new leader starts from what is
written. Leaders that keep ending are reported (core/fleet/crash_loops.py)."""

from __future__ import annotations

import copy
import dataclasses
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from agents.base.text import to_one_line
from agents.core.effects import AnswerAdHoc, Effect, Fault, Say, Whisper
from agents.core.events import (
    AdHoc,
    AdHocList,
    AffiliationChanged,
    AffiliationsRead,
    Answered,
    CommandUnanswered,
    CommandWasRefused,
    Flooded,
    GeoAnswered,
    HotspotsRead,
    NotUnderstood,
    PlanFailed,
    Planned,
    Ponged,
    QueryFinished,
    QuestionAsked,
    Reacted,
    TelemetryIn,
    WorkerSeen,
)
from agents.core.fleet.incidents import News
from agents.core.model.feeds import Severity
from agents.core.model.forms import FormRefusal

TOLD_EVERY_S = 600.0  # per error and sender
REMEMBERED = 1000
STORY_AT_MOST = 8000  # characters of a traceback, counted from its end
FAULTS = (
    "command",
    "form",
    "errand",
    "worker",
    "room",
    "plan",
    "summary",
    "hotspots",
    "geo",
)  # where it failed

Undo = Callable[[], None]


@dataclass(slots=True)
class Guard:
    """`parts`: the objects whose state a command may change. `retry`: finishes the query of a
    command once more, this time with an error text. `plan_failed`: is called with the cause and the
    time of a failed plan. `counts`: errors since this leader began, by FAULTS."""

    parts: tuple[Any, ...]  # Any: dataclasses of any class
    news: News
    token: Callable[[], str]
    retry: Callable[[QueryFinished, float, int], Iterator[Effect]]
    plan_failed: Callable[[str, float], None]
    counts: Counter[str] = field(default_factory=Counter)
    _told: dict[tuple[str, str, str], float] = field(default_factory=dict)

    def run_handler(
        self, event: object, work: Iterator[Effect], now: float, now_ms: int
    ) -> list[Effect]:
        """Run `work`, which handles `event`, and return its effects. Errors in events that are not
        listed here are raised: the process ends, and the next leader starts from what is
        written."""
        match event:
            case QuestionAsked() | AdHoc() | AdHocList():
                return self._run_all_or_nothing(event, work, now)
            case QueryFinished():
                return self._run_query_result(event, work, now, now_ms)
            case (
                WorkerSeen()
                | TelemetryIn()
                | Answered()
                | CommandWasRefused()
                | CommandUnanswered()
                | GeoAnswered()
                | Ponged()
                | AffiliationsRead()
                | Reacted()
                | AffiliationChanged()
                | Flooded()
                | NotUnderstood()
                | HotspotsRead()
            ):
                return self._run_until_error(event, work, now)
            case Planned() | PlanFailed():
                return self.run_planning(work, now)
        return list(work)

    def run_planning(self, work: Iterator[Effect], now: float) -> list[Effect]:
        """Run `work` that plans or carries a plan out; an error counts as a failed plan."""
        effects: list[Effect] = []
        try:
            effects.extend(work)
        except Exception as e:  # noqa: BLE001 - the boundary: it is logged and told
            self.plan_failed(_format_cause(e), now)
            effects += self._report_fault("plan", "", "plan", e, now)[1]
        return effects

    def run_report(self, what: str, work: Callable[[], list[Effect]], now: float) -> list[Effect]:
        """Run `work` that only reports; an error costs the report."""
        try:
            return work()
        except Exception as e:  # noqa: BLE001 - the boundary: it is logged and told
            return self._report_fault(what, "", what, e, now)[1]

    def _run_all_or_nothing(
        self, event: QuestionAsked | AdHoc | AdHocList, work: Iterator[Effect], now: float
    ) -> list[Effect]:
        undo = take_snapshot(self.parts)
        try:
            return list(work)
        except Exception as e:  # noqa: BLE001 - the boundary: it is logged and told
            undo()
            what = "command" if isinstance(event, QuestionAsked) else "form"
            words, effects = self._report_fault(what, event.jid, event, e, now, always=True)
            return [_answer_with_error(event, words), *effects]

    def _run_query_result(
        self, event: QueryFinished, work: Iterator[Effect], now: float, now_ms: int
    ) -> list[Effect]:
        undo = take_snapshot(self.parts)
        try:
            return list(work)
        except Exception as e:  # noqa: BLE001 - the boundary: it is logged and told
            undo()
            words, effects = self._report_fault("errand", "", event, e, now, always=True)
        try:
            return [*self.retry(QueryFinished(event.ref, error=words), now, now_ms), *effects]
        except Exception as e:  # noqa: BLE001 - the boundary: it is logged and told
            return [*effects, *self._report_fault("errand", "", event, e, now)[1]]

    def _run_until_error(self, event: object, work: Iterator[Effect], now: float) -> list[Effect]:
        effects: list[Effect] = []
        try:
            effects.extend(work)
        except Exception as e:  # noqa: BLE001 - the boundary: it is logged and told
            who = _sender_of(event)
            what = "hotspots" if isinstance(event, HotspotsRead) else "worker" if who else "room"
            effects += self._report_fault(what, who, event, e, now)[1]
        return effects

    def _report_fault(
        self, what: str, who: str, event: object, e: Exception, now: float, *, always: bool = False
    ) -> tuple[str, list[Effect]]:
        """The answer for the person who asked, and the effects that report the error. `always`:
        report it even if the same error was reported within TOLD_EVERY_S, because the answer names
        an id that the person may ask about."""
        self.counts[what] += 1
        where = traceback.extract_tb(e.__traceback__)[-1]
        key = (what, who, f"{where.filename}:{where.lineno}")
        fresh = now - self._told.get(key, float("-inf")) >= TOLD_EVERY_S
        if not (fresh or always):
            return "", []
        name = f"fault {self.token()}"
        words = (
            f"That failed because of a bug of mine ({name}). Nothing was changed; my log has the "
            "details."
        )
        if fresh:
            if len(self._told) >= REMEMBERED:
                self._told.clear()
            self._told[key] = now
            by = f" of {who}" if who else ""
            text = (
                f"A bug of mine in a {what}{by}: {_format_cause(e)} ({name}). I continue; my log "
                "has the details."
            )
            self.news.add_alert(Severity.WARNING, "fault", who, text)
        story = "".join(traceback.format_exception(e))[-STORY_AT_MOST:]
        return words, [Fault(name, what, who, to_one_line(repr(event), 1000), story)]


def _format_cause(e: Exception) -> str:
    return to_one_line(f"{type(e).__name__}: {e}", 120)


def take_snapshot(parts: tuple[Any, ...]) -> Undo:
    """Return a function that restores every field of `parts` and the contents of their containers.

    The copy is shallow: a command replaces values in containers or adds some, and never changes a
    value in place."""
    kept = [
        (part, f.name, value := getattr(part, f.name), _copy_container(value))
        for part in parts
        for f in dataclasses.fields(part)
    ]

    def undo() -> None:
        for part, name, value, before in kept:
            match value:
                case dict() | set():
                    value.clear()
                    value.update(before)
                case list():
                    value[:] = before
                case deque():
                    value.clear()
                    value.extend(before)
            setattr(part, name, value)

    return undo


def _copy_container(value: Any) -> Any:
    return copy.copy(value) if isinstance(value, dict | set | list | deque) else None


def _answer_with_error(event: QuestionAsked | AdHoc | AdHocList, words: str) -> Effect:
    if not isinstance(event, QuestionAsked):
        return AnswerAdHoc(event.ref, FormRefusal("internal-server-error", words))
    return Say(words) if event.room else Whisper(event.jid, words)


def _sender_of(event: object) -> str:
    match event:
        case WorkerSeen(said):
            return said.worker
        case (
            TelemetryIn(worker)
            | Answered(worker)
            | CommandWasRefused(worker)
            | CommandUnanswered(worker)
            | GeoAnswered(worker)
            | Ponged(worker)
        ):
            return worker
    return ""
