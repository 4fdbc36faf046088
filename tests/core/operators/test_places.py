"""`place`: it asks a geo worker, or without one the coordinator's own table, and shows who says
so."""

from __future__ import annotations

import itertools

import pytest

from agents.core import effects as fx
from agents.core import events as ev
from agents.core.effects import AskGeo
from agents.core.events import QueryFinished, QuestionAsked
from agents.core.model.geo import PlaceAnswer, PlaceCommand
from agents.core.model.places import Place, Precision
from agents.core.operators.places import OfflinePlaceQuery
from tests.core.world import World

BEN = "ben@d"
_ids = itertools.count()


def make_world(geo: int) -> World:
    w = World(nodes=2, lanes=4, now_s=1_000_000.0, geo=geo)
    w.fair(2)
    w.tell(ev.AffiliationsRead({BEN: "member"}))
    return w


def ask(w: World, text: str) -> list[fx.Effect]:
    n = next(_ids)
    return w.core.handle(QuestionAsked(BEN, "ben", f"!{text}", True, f"s{n}", None, f"m{n}"), w.now)


def said(effects: list[fx.Effect]) -> str:
    return "\n".join(e.text for e in effects if isinstance(e, fx.Say))


def errand_of(effects: list[fx.Effect]) -> fx.Errand:
    (errand,) = [e for e in effects if isinstance(e, fx.Errand)]
    return errand


def test_without_a_geo_worker_the_coordinators_table_answers() -> None:
    w = make_world(geo=0)
    assert errand_of(ask(w, "place Springfield, Illinois")).what == OfflinePlaceQuery(
        "Springfield, Illinois", None
    )
    assert errand_of(ask(w, "place 39.8,-89.6")).what == OfflinePlaceQuery(
        "39.8,-89.6", (39.8, -89.6)
    )


def test_a_geo_worker_is_asked_where_one_works() -> None:
    w = make_world(geo=1)
    epoch, boot = w.core.fleet.leader_epoch, w.core.fleet.views["geo-1"].boot
    assert errand_of(ask(w, "place Paris TX")).what == AskGeo(
        "geo-1", PlaceCommand(epoch, boot, "Paris TX")
    )
    assert errand_of(ask(w, "place -33.9 18.4")).what == AskGeo(
        "geo-1", PlaceCommand(epoch, boot, "", (-33.9, 18.4))
    )


def test_the_answer_says_what_why_and_who() -> None:
    w = make_world(geo=0)
    errand = errand_of(ask(w, "place Springfield"))
    place = Place(
        "Springfield",
        37.21533,
        -93.29824,
        "US",
        "Missouri",
        Precision.CITY,
        "offline",
        33,
        "the largest of 34 places of this name",
    )
    answer = QueryFinished(errand.ref, PlaceAnswer(place, "GeoNames (CC BY 4.0)"))
    assert said(w.core.handle(answer, w.now)).endswith(
        "Springfield, Missouri, US\n"
        "37.2153, -93.2982 (precision: city)\n"
        "The largest of 34 places of this name. To mean another, add its region or country after a "
        "comma.\n"
        "Source: offline, GeoNames (CC BY 4.0)"
    )


def test_the_reason_is_the_answer_where_there_is_no_place() -> None:
    w = make_world(geo=0)
    errand = errand_of(ask(w, "place Nowhere"))
    answer = QueryFinished(errand.ref, PlaceAnswer(None, "", 'no place called "Nowhere" is known'))
    assert said(w.core.handle(answer, w.now)).endswith('No place called "Nowhere" is known.')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("place null", "stands for no value"),
        ("place 42", "it has no letters"),
        (f"place {'x' * 201}", "201 characters"),
        ("place", "Usage: place NAME"),
    ],
)
def test_what_cannot_be_a_place_is_refused_at_once(text: str, reason: str) -> None:
    w = make_world(geo=1)
    effects = ask(w, text)
    assert reason in said(effects)
    assert not [e for e in effects if isinstance(e, fx.Errand)]
