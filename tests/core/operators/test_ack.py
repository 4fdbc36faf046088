"""Acknowledging a trouble: by a command or a reaction, who may, and the one reminder."""

from __future__ import annotations

import pytest

from agents.core import events as ev
from agents.core.fleet.troubles import REMIND_ACKNOWLEDGED_S, REMIND_S, TroubleKind
from agents.core.model.feeds import AlertItem, Severity
from tests.core.operators.test_chat import ANA, BEN, ask
from tests.core.operators.test_form_dialogs import do, text
from tests.core.world import World

TEXT = "the well is dry"


@pytest.fixture
def w() -> World:
    world = World(nodes=3, lanes=6)
    world.fair(8)
    world.tell(ev.AffiliationsRead({ANA: "admin", BEN: "member"}))
    world.said.clear()
    world.says.clear()
    world.core.news.troubles.set(TroubleKind.RACK_UNKNOWN, "", TEXT, world.now_s, Severity.WARNING)
    world.tell(ev.Tick())
    return world


def the_id(w: World) -> str:
    return next(x for x in w.said if TEXT in x).partition("!ack ")[2][:4]


def lines(w: World, seconds: float) -> list[str]:
    """What the room is told of the trouble in that time, in steps of a minute."""
    w.said.clear()
    for _ in range(round(seconds / 60)):
        w.now_s += 60
        w.tell(ev.Tick())
    return [line for x in w.said for line in x.split("\n") if TEXT in line]


def test_a_trouble_is_told_with_the_id_that_acknowledges_it(w: World) -> None:
    id = the_id(w)
    assert f"{TEXT} (!ack {id})" in w.said[0]
    assert f"Warning, for < 1 s (!ack {id}): {TEXT}" in ask(w, "!status")
    assert ask(w, f"!ack {id}") == f"ana is at it: {TEXT}"
    assert f"(ana is at it): {TEXT}" in ask(w, "!status")
    assert ask(w, f"!ack {id}") == f"You are at it already: {TEXT}"
    assert f"{id}, for < 1 s, ana is at it: {TEXT}" in ask(w, "!ack", BEN)
    w.tell(ev.Tick())
    (noted,) = [n for n in w.noted if n.kind == "action"]
    assert (noted.who, noted.text) == (ANA, f"ack {id}: {TEXT}")


def test_who_may_not_act_acknowledges_nothing(w: World) -> None:
    assert "needs an admin" in ask(w, f"!ack {the_id(w)}", BEN)
    w.tell(ev.Reacted(BEN, (the_id(w),)))
    assert "is at it" not in ask(w, "!status")
    assert "is not the id of a trouble that lasts; !ack lists them" in ask(w, "!ack 0000")


def test_a_reaction_to_the_message_acknowledges_what_it_told(w: World) -> None:
    (told,) = [x for x in w.says if TEXT in x.text]
    assert told.about == (the_id(w),)
    w.now_s += 5
    w.tell(ev.Reacted(ANA, told.about))
    w.tell(ev.Tick())
    assert w.said[-1] == f"ana is at it: {TEXT}"
    w.now_s += 30
    w.tell(ev.Reacted(ANA, told.about))
    w.tell(ev.Tick())
    assert w.said[-1] == f"ana is at it: {TEXT}", "told once"
    assert sum("is at it" in x for x in w.said) == 1


def test_one_reminder_while_it_lasts(w: World) -> None:
    before = len(w.published)
    (still,) = lines(w, 3 * REMIND_S)
    assert still == f"Still, after 15 min: {TEXT} (!ack {still[-5:-1]})"
    alerts = [x.item.element for x in w.published[before:]]
    assert sum(isinstance(a, AlertItem) and a.kind == "rack_unknown" for a in alerts) == 1


def test_after_an_acknowledgement_the_reminder_comes_later_and_names_the_person(w: World) -> None:
    ask(w, f"!ack {the_id(w)}")
    assert lines(w, REMIND_ACKNOWLEDGED_S - 120) == []
    assert lines(w, 2 * REMIND_ACKNOWLEDGED_S) == [f"Still, after 60 min: {TEXT} (ana is at it)"]


def test_what_is_over_is_not_reminded_of_and_comes_again_unacknowledged(w: World) -> None:
    id = the_id(w)
    ask(w, f"!ack {id}")
    w.core.news.troubles.clear(TroubleKind.RACK_UNKNOWN, "", w.now_s, "Rain.")
    assert lines(w, 2 * REMIND_ACKNOWLEDGED_S) == []
    w.core.news.troubles.set(TroubleKind.RACK_UNKNOWN, "", TEXT, w.now_s)
    w.tell(ev.Tick())
    assert the_id(w) == id, "the id is that of the trouble"
    assert "is at it" not in ask(w, "!status")


def test_elsewhere_than_in_the_room_the_room_is_told_too_even_while_kafka_is_away(
    w: World,
) -> None:
    w.tell(ev.KafkaDown())
    assert text(do(w, "ack", id=the_id(w))) == f"ana is at it: {TEXT}"
    w.now_s += 10
    w.tell(ev.Tick())
    assert any(f"ana is at it: {TEXT}" in x for x in w.said)
