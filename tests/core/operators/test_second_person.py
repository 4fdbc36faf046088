"""Changes that a second person must confirm: who may, what ends a request, and what is recorded."""

from __future__ import annotations

import pytest

from agents.base.errors import SettingsError
from agents.core import events as ev
from agents.core.effects import Reply
from agents.core.events import QuestionAsked
from agents.core.model.forms import Mood, Status
from agents.core.model.placement import PAUSE, drain_intent
from agents.core.operators import second_person
from agents.core.operators.registry import COMMANDS
from agents.core.operators.second_person import SECOND_S, commands_by_two
from tests.core.operators.test_chat import ANA, BEN, EVE, ask, confirm_id
from tests.core.operators.test_form_dialogs import do, listed, step, text
from tests.core.world import World

OLA = "ola@d"


@pytest.fixture
def w() -> World:
    world = World(nodes=3, lanes=6)
    world.fair(8)
    world.tell(ev.AffiliationsRead({ANA: "admin", BEN: "admin", EVE: "member", OLA: "owner"}))
    world.core.desk.second.commands = frozenset({"drain", "pause", "tune", "dead", "rollout"})
    world.said.clear()
    world.says.clear()
    return world


def written(w: World) -> set[str]:
    w.kafka_steps()
    return set(w.intents)


def test_another_admin_confirms_and_both_are_recorded(w: World) -> None:
    asked = ask(w, "!drain 0")
    assert asked.startswith("ana asks for: drain 0\nDrain 0: lanes")
    assert f"Another admin than ana: !confirm {confirm_id(asked)} (within 10 min)" in asked
    assert not written(w)
    told = ask(w, f"!confirm {confirm_id(asked)}", BEN)
    assert told.startswith("ben confirms what ana asked for. On it: drain 0.")
    assert written(w) == {drain_intent("node-0")}
    assert w.intents[drain_intent("node-0")].by == ANA
    noted = [(n.who, n.text, n.data.get("confirmed_by")) for n in w.noted if n.kind == "action"]
    assert noted == [
        (ANA, "drain 0 (confirmed by ben)", BEN),
        (BEN, f"confirm {confirm_id(asked)}: drain 0", None),
    ]
    w.said.clear()
    w.fair(40, revive=False)
    assert any(x.startswith("ana: drain 0") and "done in" in x for x in w.said), "who asked is told"


def test_nobody_confirms_their_own_request(w: World) -> None:
    one = confirm_id(ask(w, "!pause"))
    for room in (True, False):
        assert "You asked for this yourself" in ask(w, f"!confirm {one}", room=room)
    assert not written(w)
    ask(w, f"!confirm {one}", BEN)
    assert written(w) == {PAUSE}, "the request was not spent by the refused confirmations"
    assert "There is no dry run" in ask(w, f"!confirm {one}", OLA), "it counts once"


def test_a_confirmation_needs_the_same_right_as_the_change(w: World) -> None:
    one = confirm_id(ask(w, "!drain 0"))
    assert "needs an admin" in ask(w, f"!confirm {one}", EVE)
    two = confirm_id(ask(w, "!tune commit_gap_ms 250", OLA))
    assert f"Another owner than ola: !confirm {two}" in w.said[-1]
    assert "needs an owner" in ask(w, f"!confirm {two}", BEN)
    assert not written(w)


def test_what_the_person_may_no_longer_ask_for_is_not_done(w: World) -> None:
    one = confirm_id(ask(w, "!pause"))
    w.tell(ev.AffiliationChanged(ANA, "member"))
    assert "ana may no longer ask for this" in ask(w, f"!confirm {one}", BEN)
    assert not written(w)


def test_a_request_expires_and_the_room_is_told(w: World) -> None:
    one = confirm_id(ask(w, "!pause"))
    w.said.clear()
    w.now_s += SECOND_S + 1
    w.tell(ev.Tick())
    assert "ana: pause: not confirmed by a second person; nothing was done." in w.said
    assert "There is no dry run" in ask(w, f"!confirm {one}", BEN)
    assert not written(w)
    assert ("action", ANA) in [(n.kind, n.who) for n in w.noted]


def test_what_rests_on_something_that_changed_is_not_done(w: World) -> None:
    one = confirm_id(ask(w, "!drain 0"))
    w.crash("node-0")
    w.fair(5)
    assert "has changed: nothing was done" in ask(w, f"!confirm {one}", BEN)
    assert drain_intent("node-0") not in written(w)


def test_a_correction_withdraws_the_request(w: World) -> None:
    one = confirm_id(ask(w, "!pause", message_id="m1"))
    ask(w, "!status", BEN, replaces="m1")
    assert "On it" not in ask(w, "no", replaces="m1")
    assert any(x.startswith("Withdrawn: pause") for x in w.said)
    assert "There is no dry run" in ask(w, f"!confirm {one}", BEN)


def test_one_to_one_the_dry_run_comes_first_and_then_the_room_is_asked(w: World) -> None:
    dry = ask(w, "pause", room=False)
    assert not w.says, "nothing in the room yet"
    told = ask(w, f"confirm {confirm_id(dry)}", room=False)
    assert "Nothing is done yet. Another admin than ana must confirm" in told
    (said,) = w.says
    assert said.text.startswith("ana asks for: pause\n")
    assert not written(w)
    assert "On it" in ask(w, f"confirm {confirm_id(said.text)}", BEN, room=False)
    assert written(w) == {PAUSE}


def test_in_forms_the_last_step_asks_and_the_command_confirm_does_it(w: World) -> None:
    dry = step(do(w, "drain", node="0"))
    assert dry.status is Status.EXECUTING
    asked = step(do(w, "drain", session=dry.session, action="complete"))
    (remark,) = asked.remarks
    assert (asked.status, remark.mood) == (Status.COMPLETED, Mood.WARN), "not done, not refused"
    assert not written(w)
    id = confirm_id(w.says[-1].text)
    own = step(do(w, "confirm", id=id))
    assert "You asked for this yourself" in own.remarks[0].text
    other = step(do(w, "confirm", BEN, id=id))
    assert text(other).startswith("ana asks for: drain 0\nDrain 0: lanes")
    assert not written(w), "a dry run changes nothing"
    done = step(do(w, "confirm", BEN, session=other.session, action="complete"))
    assert text(done) == f"On it: confirm {id}: drain 0."
    assert written(w) == {drain_intent("node-0")}


def test_one_person_alone_keeps_nobody_from_asking(w: World) -> None:
    for _ in range(second_person.REQUESTS_AT_MOST + 5):
        ask(w, "!pause")
        w.now_s += 2
    assert "of your changes wait for a second person already" in w.said[-1]
    assert ask(w, "!drain 1", BEN).startswith("ben asks for: drain 1")


def test_of_two_who_confirm_at_once_one_does_it(w: World) -> None:
    one = confirm_id(ask(w, "!pause"))
    dry = step(do(w, "confirm", OLA, id=one))
    assert "ben confirms what ana asked for" in ask(w, f"!confirm {one}", BEN)
    late = step(do(w, "confirm", OLA, session=dry.session, action="complete"))
    assert "There is no dry run with that id" in late.remarks[0].text
    assert written(w) == {PAUSE}
    assert [n.data.get("confirmed_by") for n in w.noted if n.who == ANA] == [BEN]


def test_a_request_ends_with_its_leader(w: World) -> None:
    one = confirm_id(ask(w, "!pause"))
    w.lead()
    w.tell(ev.AffiliationsRead({ANA: "admin", BEN: "admin"}))
    w.core.desk.second.commands = frozenset({"pause"})
    assert "another coordinator leads now" in ask(w, f"!confirm {one}", BEN)
    assert not written(w)


def test_confirm_is_listed_where_it_can_be_used(w: World) -> None:
    assert "confirm" in listed(w, ANA)
    assert "confirm" not in listed(w, EVE)


def test_what_only_stops_something_and_what_the_setting_does_not_name_need_nobody_else(
    w: World,
) -> None:
    one = confirm_id(ask(w, "!rollout 0"))
    ask(w, f"!confirm {one}", BEN)
    assert "To do it: !confirm" in ask(w, "!rollout stop")


def test_another_leader_knows_nothing_of_a_request(w: World) -> None:
    one = confirm_id(ask(w, "!pause"))
    w.lead()
    w.tell(ev.AffiliationsRead({ANA: "admin", BEN: "admin"}))
    assert "another coordinator leads now" in ask(w, f"!confirm {one}", BEN)


def test_news_of_the_action_reply_to_who_asked(w: World) -> None:
    w.tell(QuestionAsked(ANA, "Ana", "!drain 0", True, "stanza-7", None, "m7"))
    asked = w.says[-1]
    ask(w, f"!confirm {confirm_id(asked.text)}", BEN)
    w.fair(40, revive=False)
    about = [x for x in w.says if "drain 0" in x.text]
    assert len(about) >= 3
    assert {x.reply for x in about} == {Reply("Ana", "stanza-7")}


def test_the_setting_names_commands_that_change_something() -> None:
    assert commands_by_two("", COMMANDS) == frozenset()
    assert commands_by_two("drain,lane", COMMANDS) == {"drain", "lane"}
    everything = commands_by_two("all", COMMANDS)
    assert {"drain", "tune", "lane", "reset", "dead", "move"} <= everything
    assert not {"confirm", "status", "whatif"} & everything
    for wrong in ("status", "confirm", "drein"):
        with pytest.raises(SettingsError, match=wrong):
            commands_by_two(wrong, COMMANDS)
