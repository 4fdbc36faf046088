"""Commands by forms: who sees which, what is asked, the dry run as a step, and what ends a
dialog."""

from __future__ import annotations

import itertools

import pytest

from agents.base.errors import OperatorError
from agents.core import events as ev
from agents.core.events import AdHoc, AdHocList, AffiliationChanged
from agents.core.model.forms import (
    TEXT,
    Field,
    FieldKind,
    FormAnswer,
    FormRefusal,
    FormReply,
    Listing,
    Mood,
    Status,
)
from agents.core.model.placement import PAUSE, drain_intent
from agents.core.model.topology import WorkerKind
from agents.core.operators import form_dialogs
from agents.core.operators.arguments import PICK_AT_MOST, words_from_form
from agents.core.operators.chat import CONFIRM_S
from agents.core.operators.command import Command
from agents.core.operators.registry import COMMANDS
from tests.core.world import World

ANA, BEN, EVE = "ana@d", "ben@d", "eve@d"
_refs = itertools.count()


@pytest.fixture
def w() -> World:
    world = World(nodes=3, lanes=6)
    world.fair(8)
    world.tell(ev.AffiliationsRead({ANA: "admin", BEN: "member"}))
    return world


def send(w: World, event: AdHoc | AdHocList) -> FormAnswer:
    w.now_s += 2  # nobody fills in forms faster
    w.tell(event)
    answered = w.answered.pop()
    assert answered.ref == event.ref
    assert not w.answered, "one answer for each"
    return answered.answer


def do(
    w: World,
    command: str,
    who: str = ANA,
    *,
    session: str = "",
    action: str = "execute",
    **fields: str,
) -> FormAnswer:
    return send(w, AdHoc(f"r{next(_refs)}", who, command, session, action, fields))


def step(answer: FormAnswer) -> FormReply:
    assert isinstance(answer, FormReply), answer
    return answer


def text(answer: FormAnswer) -> str:
    form = step(answer).form
    assert form is not None
    return next(f.value for f in form.fields if f.var == TEXT)


def fields(answer: FormAnswer) -> dict[str, Field]:
    form = step(answer).form
    assert form is not None
    return {f.var: f for f in form.fields}


def error(answer: FormAnswer) -> str:
    (remark,) = step(answer).remarks
    assert remark.mood is Mood.ERROR
    return remark.text


def listed(w: World, who: str) -> set[str]:
    answer = send(w, AdHocList(f"r{next(_refs)}", who))
    assert isinstance(answer, Listing)
    return {o.value for o in answer.commands}


def victim(w: World) -> tuple[str, str]:
    worker = next(s.worker for p, s in w.partitions.items() if WorkerKind.NODE.works(p))
    return worker, worker.partition("-")[2]


def test_each_is_listed_what_they_may_do(w: World) -> None:
    assert {"status", "drain", "pause"} <= listed(w, ANA)
    assert "confirm" not in listed(w, ANA), "a form needs no ids"
    assert {"status", "whatif"} <= listed(w, BEN)
    assert not {"drain", "pause"} & listed(w, BEN)
    assert listed(w, EVE) == set()


def test_who_may_not_is_forbidden_at_every_step(w: World) -> None:
    for who, command in ((EVE, "status"), (EVE, "drain"), (BEN, "drain")):
        answer = do(w, command, who)
        assert isinstance(answer, FormRefusal)
        assert answer.condition == "forbidden"
    waiting = step(do(w, "pause")).session
    w.tell(AffiliationChanged(ANA, "member"))
    answer = do(w, "pause", session=waiting, action="complete")
    assert isinstance(answer, FormRefusal)
    assert answer.condition == "forbidden"
    w.kafka_step()
    assert PAUSE not in w.intents


@pytest.mark.parametrize(
    "command", ["status", "nodes", "lanes", "tune", "follow", "hotspots", "help"]
)
def test_a_look_completes_at_once(w: World, command: str) -> None:
    answer = step(do(w, command, BEN))
    assert answer.status is Status.COMPLETED
    assert text(answer)
    assert "```" not in text(answer), "chat's marks"


def test_a_table_is_as_long_as_a_screen(w: World) -> None:
    assert len(text(do(w, "lanes", BEN)).split("\n")) > 6


def test_help_by_form_tells_nothing_of_prefixes(w: World) -> None:
    answer = text(do(w, "help", BEN))
    assert "drain NODE" in answer
    assert "confirm" not in answer
    assert "!" not in answer


def test_nodes_and_lanes_are_picked_from_lists(w: World) -> None:
    form = fields(do(w, "move"))
    assert {o.value for o in form["node"].options} == {"0", "1", "2"}
    owner = w.partitions[WorkerKind.NODE.partition(0)].worker.partition("-")[2]
    assert [o.value for o in form["lane"].options] == [str(n) for n in range(6)]
    assert form["lane"].options[0].label == f"0: {owner}"
    assert all(f.required and f.kind is FieldKind.LIST for f in form.values())
    assert {o.value for o in fields(do(w, "node", BEN))["node"].options} == {
        "0",
        "1",
        "2",
        "router-1",
    }
    assert [o.value for o in fields(do(w, "whatif", BEN))["change"].options] == [
        "drain",
        "lose",
        "add",
        "rate",
    ]


def test_many_lanes_are_typed_within_a_range() -> None:
    w = World(nodes=3, lanes=PICK_AT_MOST + 1)
    w.tell(ev.AffiliationsRead({BEN: "member"}))
    lane = fields(do(w, "lane", BEN))["lane"]
    assert (lane.kind, lane.options, lane.low, lane.high) == (FieldKind.TEXT, (), 0, PICK_AT_MOST)


def test_a_look_with_arguments_asks_then_answers(w: World) -> None:
    asked = step(do(w, "explain", BEN))
    assert asked.status is Status.EXECUTING
    assert asked.form is not None
    assert asked.form.instructions == "Why a lane is where it is, in ms."
    wrong = step(do(w, "explain", BEN, session=asked.session, action="complete", lane="77"))
    assert "0 to 5" in error(wrong)
    assert wrong.status is Status.EXECUTING, "to be tried again"
    assert "lane is missing" in error(
        do(w, "explain", BEN, session=asked.session, action="complete")
    )
    answer = step(do(w, "explain", BEN, session=asked.session, action="complete", lane="2"))
    assert answer.status is Status.COMPLETED
    assert "RTT" in text(answer)
    assert fields(answer)["lane"].value == "2"


def test_a_drain_by_form_shows_the_dry_run_and_does_it_on_completion(w: World) -> None:
    worker, name = victim(w)
    asked = step(do(w, "drain"))
    assert asked.actions == ("next",)
    dry = step(do(w, "drain", session=asked.session, action="next", node=name))
    assert dry.status is Status.EXECUTING
    assert dry.actions[0] == "complete"
    assert "RTT an event" in text(dry)
    assert {m.lane for m in dry.moves} == {p.n for p in w.core.fleet.owned_by(worker)}
    assert {m.source for m in dry.moves} == {name}
    assert name not in {m.target for m in dry.moves}
    w.kafka_step()
    assert not w.intents, "a dry run changes nothing"
    done = step(do(w, "drain", session=asked.session, action="complete"))
    assert done.status is Status.COMPLETED
    assert f"On it: drain {name}" in text(done)
    w.kafka_step()
    assert drain_intent(worker) in w.intents
    w.fair(40, revive=False)
    assert not w.core.fleet.owned_by(worker)
    noted = [e for e in w.noted if e.kind == "action"]
    assert [(e.who, e.text) for e in noted] == [(ANA, f"drain {name}")], "noted with who asked"


@pytest.mark.parametrize("action", ["next", "complete", "execute"])
def test_a_form_that_is_sent_twice_confirms_nothing(w: World, action: str) -> None:
    _, name = victim(w)
    dry = step(do(w, "drain", node=name))
    again = step(do(w, "drain", session=dry.session, action=action, node=name))
    assert again.status is Status.EXECUTING
    w.kafka_step()
    assert not w.intents


def test_cancel_does_nothing_and_ends_it(w: World) -> None:
    dry = step(do(w, "pause"))
    assert step(do(w, "pause", session=dry.session, action="cancel")).status is Status.CANCELED
    answer = do(w, "pause", session=dry.session, action="complete")
    assert isinstance(answer, FormRefusal)
    assert answer.detail == "bad-sessionid"
    w.kafka_step()
    assert not w.intents


def test_one_may_go_back_from_the_dry_run(w: World) -> None:
    _, name = victim(w)
    dry = step(do(w, "drain", node=name))
    back = step(do(w, "drain", session=dry.session, action="prev"))
    assert fields(back)["node"].value == name
    no_arguments = step(do(w, "pause"))
    refused = do(w, "pause", session=no_arguments.session, action="prev")
    assert isinstance(refused, FormRefusal)
    assert refused.detail == "bad-action"


def test_what_rests_on_what_has_changed_is_predicted_anew_and_nothing_done(w: World) -> None:
    dry, other = step(do(w, "drain", node="0")), step(do(w, "pause"))
    w.crash("node-0")
    again = step(do(w, "drain", session=dry.session, action="complete"))
    assert again.status is Status.EXECUTING
    assert again.remarks[0].mood is Mood.WARN
    assert not w.intents
    assert step(do(w, "pause", session=other.session, action="complete")).status is Status.COMPLETED
    w.kafka_steps()
    assert list(w.intents) == [PAUSE]
    [noted] = [e for e in w.noted if e.kind == "action"]
    assert noted.data.keys() == {"version"}, "it is about no lane and no node"


def test_a_dialog_is_bound_to_its_person_its_command_and_its_time(w: World) -> None:
    w.tell(AffiliationChanged(BEN, "admin"))
    dry = step(do(w, "pause"))
    for answer in (
        do(w, "pause", BEN, session=dry.session, action="complete"),
        do(w, "rebalance", session=dry.session, action="complete"),
        do(w, "pause", session="made-up", action="complete"),
    ):
        assert isinstance(answer, FormRefusal)
        assert answer.detail == "bad-sessionid"
    w.now_s += CONFIRM_S
    answer = do(w, "pause", session=dry.session, action="complete")
    assert isinstance(answer, FormRefusal)
    w.kafka_step()
    assert not w.intents


def test_a_new_leader_knows_nothing_of_a_dialog_with_the_old_one(w: World) -> None:
    dry = step(do(w, "pause"))
    w.lead()
    w.tell(ev.AffiliationsRead({ANA: "admin"}))
    answer = do(w, "pause", session=dry.session, action="complete")
    assert isinstance(answer, FormRefusal)
    assert "another coordinator" in answer.text
    w.kafka_step()
    assert PAUSE not in w.intents


def test_dialogs_are_bounded_in_number(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = step(do(w, "pause")).session
    for _ in range(form_dialogs.EACH_AT_MOST):
        do(w, "pause")
    assert isinstance(do(w, "pause", session=first, action="complete"), FormRefusal), (
        "the oldest made room"
    )
    monkeypatch.setattr(form_dialogs, "DIALOGS_AT_MOST", 6)
    w.tell(ev.AffiliationsRead({ANA: "admin", BEN: "member", EVE: "member"}))
    assert isinstance(do(w, "explain", BEN), FormReply)
    answer = do(w, "explain", EVE)
    assert isinstance(answer, FormRefusal)
    assert answer.condition == "resource-constraint"


def test_a_flood_is_told_to_wait(w: World) -> None:
    answers = []
    for n in range(20):
        w.tell(AdHoc(f"f{n}", ANA, "status", "", "execute"))
        answers.append(w.answered.pop().answer)
    refused = [a for a in answers if isinstance(a, FormRefusal)]
    assert {a.condition for a in refused} == {"resource-constraint"}
    assert len(refused) == 10


def test_nobody_is_answered_before_the_room_is_known() -> None:
    w = World(nodes=3, lanes=6)
    answer = do(w, "status")
    assert isinstance(answer, FormRefusal)
    assert answer.condition == "resource-constraint"


def test_nothing_is_changed_by_form_while_kafka_is_away(w: World) -> None:
    w.tell(AffiliationChanged(ANA, "owner"))
    pause = step(do(w, "pause"))
    tune = step(do(w, "tune", name="commit_gap_ms", value="200"))
    w.tell(ev.KafkaDown())
    for command in ("pause", "drain"):
        answer = step(do(w, command))
        assert "Kafka is away" in error(answer)
        assert answer.status is Status.COMPLETED, "it ends at once: no dry run, and no form"
    for waiting in (pause, tune):
        done = do(w, waiting.command, session=waiting.session, action="complete")
        assert "Kafka is away" in error(done)
    assert not w.kafka
    assert step(do(w, "status")).status is Status.COMPLETED
    assert step(do(w, "tune")).status is Status.EXECUTING, "one may look at a setting"


def test_what_cannot_be_done_is_a_note(w: World) -> None:
    answer = step(do(w, "unpause"))
    assert (answer.status, error(answer)) == (Status.COMPLETED, "The planner is not paused.")
    at = w.partitions[WorkerKind.NODE.partition(0)].worker.partition("-")[2]
    again = step(do(w, "move", lane="0", node=at))
    assert "is already on" in error(again)
    assert again.status is Status.EXECUTING


def test_unknown_commands_and_actions_are_refused(w: World) -> None:
    answer = do(w, "nonsense")
    assert isinstance(answer, FormRefusal)
    assert answer.condition == "item-not-found"
    answer = do(w, "pause", action="complete")
    assert isinstance(answer, FormRefusal)
    assert answer.detail == "bad-action"


def test_fields_become_the_words_that_chat_would_have_had() -> None:
    assert words_from_form(COMMANDS["whatif"].args, {"change": "add", "what": " dsm  2000 "}) == [
        "add",
        "dsm",
        "2000",
    ]
    assert words_from_form(COMMANDS["lanes"].args, {}) == []
    with pytest.raises(OperatorError, match="change is missing"):
        words_from_form(COMMANDS["whatif"].args, {"what": "x"})


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda c: c.name)
def test_every_declaration_can_be_read_word_by_word(command: Command) -> None:
    args = command.args
    assert all(not a.many for a in [a for a in args if not a.keyed][:-1])
    assert sorted(args, key=lambda a: a.optional) == list(args), "what may be left out comes last"
    assert len({a.name for a in args}) == len(args)
    assert all(a.optional for a in args if a.keyed), "a form would ask for it"
