"""A rollout goes node by node, waits for each, and stops where something is wrong."""

from __future__ import annotations

import itertools

import pytest

from agents.core import effects as fx
from agents.core import events as ev
from agents.core.events import Now, QuestionAsked
from agents.core.fleet.rollout import BACK_S, ROLLOUT
from agents.core.model.messages import RestartCommand
from agents.core.model.placement import Intent
from tests.core.world import World

ANA = "ana@d"
_ids = itertools.count()


@pytest.fixture
def w() -> World:
    world = World(nodes=3, lanes=6)
    world.fair(8)
    world.tell(ev.AffiliationsRead({ANA: "admin"}))
    world.said.clear()
    return world


def ask(w: World, text: str) -> str:
    before, n = len(w.said), next(_ids)
    w.tell(QuestionAsked(ANA, "ana", text, True, f"s{n}", None, f"m{n}"))
    return "\n".join(w.said[before:])


def begin(w: World) -> list[fx.Effect]:
    answer = ask(w, "!rollout")
    assert "Restart 3 nodes one after the other" in answer
    n = next(_ids)
    confirm = f"!confirm {answer.partition('confirm ')[2].split()[0]}"
    return w.core.handle(QuestionAsked(ANA, "ana", confirm, True, f"s{n}", None, f"m{n}"), w.now)


def told(effects: list[fx.Effect]) -> list[str]:
    return [
        e.worker
        for e in effects
        if isinstance(e, fx.Send) and isinstance(e.command, RestartCommand)
    ]


def said(w: World, effects: list[fx.Effect]) -> str:
    """What is said by and by: news has a budget."""
    lines = [e.text for e in effects if isinstance(e, fx.Say)]
    return "\n".join(lines)


def at(w: World, s: float) -> Now:
    return Now(w.now.s + s, w.now.ms)


def test_it_begins_with_one_node_and_tells_it_again_if_nothing_follows(w: World) -> None:
    effects = begin(w)
    assert told(effects) == ["node-0"]
    assert any(isinstance(e, fx.Write) and ROLLOUT in e.intents for e in effects)
    assert told(w.core.handle(ev.Tick(), at(w, 1))) == []
    assert told(w.core.handle(ev.Tick(), at(w, 6))) == ["node-0"]


def test_it_stops_where_a_node_does_not_come_back(w: World) -> None:
    begin(w)
    texts = [
        said(w, w.core.handle(ev.Tick(), at(w, s)))
        for s in (1, 30, BACK_S + 2, BACK_S + 20, BACK_S + 40)
    ]
    assert any(
        "Rollout stopped: 0 is not back" in t and "0 done, not done: 0, 1, 2." in t for t in texts
    )
    assert not w.core.desk.rollout.running


def test_a_second_one_is_refused_and_stop_ends_it(w: World) -> None:
    begin(w)
    assert "A rollout is under way: 0 done, 2 to go" in ask(w, "!rollout 1")
    answer = ask(w, "!rollout stop")
    ask(w, f"!confirm {answer.partition('confirm ')[2].split()[0]}")
    assert not w.core.desk.rollout.running


def test_two_that_were_asked_for_begin_one_rollout(w: World) -> None:
    first, second = (ask(w, "!rollout").partition("confirm ")[2].split()[0] for _ in range(2))
    ask(w, f"!confirm {first}")
    begun = w.core.desk.rollout.current
    answer = ask(w, f"!confirm {second}")
    assert "What this dry run rests on has changed" in answer
    assert w.core.desk.rollout.current == begun


def test_who_may_not_act_may_not_roll_out(w: World) -> None:
    w.tell(ev.AffiliationsRead({ANA: "member"}))
    assert "needs an admin" in ask(w, "!rollout")


def test_a_new_leader_tells_that_one_was_cut_off(w: World) -> None:
    rollout = w.core.desk.rollout
    w.core.fleet.intents[ROLLOUT] = Intent(ANA, 1)
    effects = list(rollout.report_cut_off())
    assert effects == [fx.Write(intents={ROLLOUT: None})]
    assert any("A change of leader ended the rollout" in line for line in w.core.news.pending)
