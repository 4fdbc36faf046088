"""Answers that are looked up outside the core: told once, to whom asked, or why not
(queries.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from agents.base.errors import OperatorError
from agents.core import effects as fx
from agents.core import events as ev
from agents.core.events import AdHoc, QuestionAsked
from agents.core.fleet.queries import ERRAND_S, ERRANDS_AT_MOST
from agents.core.model.answers import Answer, HelpData
from agents.core.model.forms import FormReply, Status
from agents.core.operators import form_dialogs, registry
from agents.core.operators.command import Access, Command, Context, Fetch
from tests.core.world import World

ANA = "ana@d"


@dataclass(frozen=True, slots=True)
class Depth:
    """What the test's command sends for."""

    of: str


def _well(c: Context, args: Sequence[str]) -> Fetch:
    def answer(then: Context, found: object) -> Answer:
        if found == "dry":
            raise OperatorError("It is dry.")
        return Answer(f"{found} m at {then.now_ms}", HelpData(commands=()))

    return Fetch(Depth("well"), answer)


@pytest.fixture
def w(monkeypatch: pytest.MonkeyPatch) -> World:
    command = Command("well", (), Access.LOOK, "how deep it is", _well)
    monkeypatch.setattr(registry, "COMMANDS", {**registry.COMMANDS, "well": command})
    monkeypatch.setattr(form_dialogs, "COMMANDS", registry.COMMANDS)
    world = World(nodes=1, lanes=2)
    world.fair(3)
    world.tell(ev.AffiliationsRead({ANA: "member"}))
    world.said.clear()
    return world


def errand(effects: Sequence[object]) -> fx.Errand:
    (found,) = [e for e in effects if isinstance(e, fx.Errand)]
    assert found.what == Depth("well")
    return found


def asked(w: World, n: int) -> list[fx.Effect]:
    return w.core.handle(QuestionAsked(ANA, "ana", "!well", True, f"s{n}", None, f"m{n}"), w.now)


def said(effects: Sequence[fx.Effect]) -> list[str]:
    return [e.text for e in effects if isinstance(e, fx.Say)]


def test_what_was_found_is_said_once_to_whom_asked(w: World) -> None:
    before = asked(w, 1)
    assert said(before) == []
    found = ev.QueryFinished(errand(before).ref, "12")
    assert said(w.core.handle(found, w.now)) == [f"12 m at {w.now.ms}"]
    assert said(w.core.handle(found, w.now)) == []


def test_what_went_wrong_is_said(w: World) -> None:
    assert said(
        w.core.handle(ev.QueryFinished(errand(asked(w, 1)).ref, error="No rope."), w.now)
    ) == ["No rope."]
    assert said(w.core.handle(ev.QueryFinished(errand(asked(w, 2)).ref, "dry"), w.now)) == [
        "It is dry."
    ]


def test_who_may_not_ask_any_more_is_not_answered(w: World) -> None:
    ref = errand(asked(w, 1)).ref
    w.tell(ev.AffiliationsRead({}))
    (answer,) = said(w.core.handle(ev.QueryFinished(ref, "12"), w.now))
    assert "needs a member" in answer


def test_nobody_waits_for_ever_and_not_too_many_wait(w: World) -> None:
    for n in range(ERRANDS_AT_MOST):
        w.tell(ev.AffiliationsRead({ANA: "member"}))
        w.core.desk._asks.clear()
        asked(w, n)
    w.core.desk._asks.clear()
    assert said(asked(w, 99)) == [
        "Too many requests wait for their answers; try again in a moment."
    ]
    w.core.desk._asks.clear()
    late = type(w.now)(w.now.s + ERRAND_S + 1, w.now.ms)
    effects = w.core.handle(ev.Tick(), late)
    assert len([t for t in said(effects) if t.startswith("No answer within")]) == ERRANDS_AT_MOST
    assert said(asked(w, 100)) == []


def test_a_form_is_answered_when_it_is_found_and_takes_no_step_before(w: World) -> None:
    (sent,) = [
        e
        for e in w.core.handle(AdHoc("i1", ANA, "well", "", "execute", {}), w.now)
        if isinstance(e, fx.Errand)
    ]
    session = next(iter(w.core.dialogs._open))
    (early,) = [
        e.answer
        for e in w.core.handle(AdHoc("i2", ANA, "well", session, "complete", {}), w.now)
        if isinstance(e, fx.AnswerAdHoc)
    ]
    assert "is not allowed at this step" in str(early)
    (told,) = [
        e
        for e in w.core.handle(ev.QueryFinished(sent.ref, "12"), w.now)
        if isinstance(e, fx.AnswerAdHoc)
    ]
    assert told.ref == "i1"
    assert isinstance(told.answer, FormReply)
    assert told.answer.status is Status.COMPLETED
    assert told.answer.form is not None
    assert told.answer.form.fields[0].value == f"12 m at {w.now.ms}"
