"""What people ask, workers say and the planner does ends no leader: a fault is told, its state put
back, its story kept."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from agents.core import effects as fx
from agents.core import events as ev
from agents.core.events import AdHoc, QuestionAsked, TelemetryIn, WorkerSeen
from agents.core.fleet import placing, reconcile
from agents.core.fleet.incidents import News
from agents.core.fleet.troubles import TroubleKind as Trouble
from agents.core.model.forms import FormRefusal
from agents.core.model.messages import Accelerator, Announcement, Health, Telemetry
from agents.core.model.placement import Intent, State
from agents.core.model.plan import Moment
from agents.core.model.topology import WorkerKind
from agents.core.operators.command import Context, Dry, Fetch, Result
from agents.core.operators.registry import COMMANDS
from tests.core.world import World

ANA, BEN = "ana@d", "ben@d"
_ids = itertools.count()


@pytest.fixture
def w() -> World:
    world = World(nodes=3, lanes=6)
    world.fair(8)
    world.tell(ev.AffiliationsRead({ANA: "owner", BEN: "member"}))
    world.said.clear()
    return world


def ask(w: World, text: str, who: str = ANA) -> str:
    before, n = len(w.said), next(_ids)
    w.tell(QuestionAsked(who, who.partition("@")[0], text, True, f"s{n}", None, f"m{n}"))
    return "\n".join(w.said[before:])


def instead(
    monkeypatch: pytest.MonkeyPatch, name: str, run: Callable[[Context, Sequence[str]], Result]
) -> None:
    """The command `name` does this from now on."""
    other = replace(COMMANDS[name], run=run)
    monkeypatch.setitem(COMMANDS, name, other)
    monkeypatch.setitem(COMMANDS, name, other)


def fails(*_: object) -> Any:
    raise RuntimeError("no \x1b[31m way\n")


def faults(w: World, event: Any) -> list[fx.Fault]:
    return [e for e in w.core.handle(event, w.now) if isinstance(e, fx.Fault)]


def test_a_worker_that_was_never_heard_can_be_asked_about(w: World) -> None:
    w.procs.clear()
    w.lead()
    w.tell(ev.AffiliationsRead({BEN: "member"}))
    assert "Nothing has been heard from it" in ask(w, "!node 1", BEN)
    assert not w.core.guard.counts


def test_a_look_that_fails_is_answered_with_an_id_and_ends_nobody(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead(monkeypatch, "status", fails)
    answer = ask(w, "!status", BEN)
    assert "failed because of a bug of mine (fault id" in answer
    (fault,) = faults(w, QuestionAsked(BEN, "ben", "!status", True, "again", None, "again"))
    assert "RuntimeError" in fault.story
    assert "test_guard.py" in fault.story
    assert "'!status'" in fault.event
    assert w.core.guard.counts["command"] == 2
    w.tell(ev.Tick())
    alerts = [n for n in w.noted if n.kind == "alert"]
    assert len(alerts) == 1, "told once; each asker has an id of their own"
    assert "\\x1b[31m way\\n" in alerts[0].text
    assert "3/3 nodes" not in answer
    assert "workers are ok" in ask(w, "!nodes", BEN)


def test_a_form_that_fails_is_refused_with_an_id(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, "status", fails)
    w.tell(AdHoc("r1", BEN, "status", "", "execute"))
    refusal = w.answered[-1].answer
    assert isinstance(refusal, FormRefusal)
    assert refusal.condition == "internal-server-error"
    assert "fault id" in refusal.text


def test_an_act_that_fails_half_way_has_done_nothing(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = WorkerKind.NODE.partition(0)

    def half(c: Context, args: Sequence[str]) -> Dry:
        def act(done: Context) -> Iterator[fx.Effect]:
            done.news.open_command_incident("half of it", [p], done.nick, done.now)
            done.news.add_line("half of it")
            done.fleet.begin_write([p])
            done.placing.begin_cooldown(p, done.now)
            done.fleet.held.add(p)
            done.rollout.queue.append("node-1")
            yield fx.Write(intents={"pause": Intent("ana@d", 1)})
            fails()

        return Dry("half", "Half.", act)

    instead(monkeypatch, "pause", half)
    name = ask(w, "!pause").partition("confirm ")[2].split()[0]
    core = w.core
    before = dict(core.placing.inputs.cooldown), core.fleet.version, list(core.news.incidents)
    answer = ask(w, f"!confirm {name}")
    assert "Nothing was changed" in answer
    assert "half of it" not in answer
    assert not w.kafka, "no effect of it is performed"
    assert not core.fleet.writing
    assert not core.fleet.held
    assert not core.desk.rollout.queue
    assert (
        dict(core.placing.inputs.cooldown),
        core.fleet.version,
        list(core.news.incidents),
    ) == before
    w.fair(5)
    assert w.all_at_work()


def test_what_was_found_and_fails_is_answered_all_the_same(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead(monkeypatch, "status", lambda c, args: Fetch("something", fails))
    assert ask(w, "!status", BEN) == ""
    before = len(w.said)
    w.tell(ev.QueryFinished(w.errands[-1].ref, "found"))
    assert "fault id" in w.said[before]
    assert w.core.guard.counts["errand"] == 1


def test_what_a_worker_says_ends_no_leader(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(News, "report_faults", fails)
    for _ in range(3):
        w.pass_s(1.0)
    assert w.core.guard.counts["worker"] >= 3
    assert sum("A bug of mine in a worker" in n.text for n in w.noted if n.kind == "alert") <= 4, (
        "told once for each"
    )
    assert w.all_at_work()


def no_plan(*_: object, **__: object) -> Any:
    raise ZeroDivisionError("a flaw")


def plan_failed(w: World) -> list[str]:
    return [
        t.text for t in w.core.news.troubles.list_worst_first() if t.kind is Trouble.PLAN_FAILED
    ]


def test_a_plan_that_is_not_made_ends_no_leader_and_is_tried_again_ever_less_often(
    w: World,
) -> None:
    before, w.plans_at_once, tries = dict(w.partitions), False, 0
    for _ in range(300):
        if w.plan is not None:
            tries += 1
            moment, w.plan = w.plan.moment, None
            w.tell(ev.PlanFailed(moment, ZeroDivisionError("a flaw")))
        w.pass_s(1.0)
    assert 5 < tries < 15
    assert w.partitions == before, "the last placement is kept"
    assert (
        "The planner fails: ZeroDivisionError: a flaw. Every lane stays where it is"
        in plan_failed(w)[0]
    )
    assert sum("The planner fails" in n.text for n in w.noted) == 1, "told once"
    assert w.core.guard.counts["plan"] == tries
    w.plans_at_once = True
    w.fair(90)
    assert not plan_failed(w)
    assert any("The planner works again" in s for s in w.said)


def test_a_planner_that_fails_while_lanes_are_nobodys_leaves_them_until_it_works(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "make_scored_plan", no_plan)
    orphans = [p for p, s in w.partitions.items() if s.worker == "node-1"]
    w.crash("node-1")
    w.fair(20, revive=False)
    assert orphans
    assert all(w.partitions[p].state is State.ORPHAN for p in orphans)
    assert plan_failed(w)
    w.crash("router-1")
    w.fair(5)
    assert w.partitions[WorkerKind.ROUTER.partition(0)].state is State.ASSIGNED, "routers go on"
    monkeypatch.undo()
    w.fair(80)
    assert w.all_at_work()
    assert not plan_failed(w)


def test_a_plan_that_fails_while_it_is_carried_out_stands_as_far_as_it_was_written(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing.Placing, "_write_assignments", fails)
    w.fair(5)
    assert plan_failed(w)
    assert w.all_at_work()
    monkeypatch.undo()
    w.fair(80)
    assert not plan_failed(w)


def test_the_story_of_a_plan_is_logged(w: World) -> None:
    try:
        no_plan()
    except ZeroDivisionError as e:
        error = e
    (fault,) = faults(w, ev.PlanFailed(Moment(0.0, (), ()), error))
    assert (fault.what, "no_plan" in fault.story) == ("plan", True)


def test_a_fault_in_a_tick_ends_the_leader(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """State that was advanced half-way would stay so; whoever leads next begins from what is
    written."""
    monkeypatch.setattr(reconcile, "reconcile_fleet", fails)
    with pytest.raises(RuntimeError):
        w.tell(ev.Tick())


WORDS = (
    "0",
    "1",
    "5",
    "7",
    "-1",
    "99999999999999999999",
    "node-0",
    "node-1",
    "router-1",
    "1m",
    "7d",
    "0s",
    "-10m",
    "s0",
    "s1",
    "x4",
    "xNaN",
    "x1e999",
    "rewind",
    "drain",
    "lose",
    "add",
    "rate",
    "list",
    "show",
    "replay",
    "lag",
    "alerts",
    "placement",
    "kind=alert",
    "by=ana",
    "node=1",
    "lane=0",
    "since=1h",
    "page=2",
    "all",
    "stop",
    "cooldown_s",
    "commit_gap_ms",
    "nan",
    "inf",
    "default",
    "\u202e",
    "\u0661",
    "=",
    "a=b",
    "'",
    "%s",
    "{0}",
    "10:00",
    "2026-13-01T00:00:00Z",
    "0.5",
    "1e9",
)


def test_no_words_in_any_state_of_the_fleet_make_a_command_fail(w: World) -> None:
    """Seeded; a fault here is a fault of ours, that the boundary would only hide."""
    rng = random.Random(7)

    def never_heard() -> None:
        w.procs.clear()
        w.lead()

    def strange() -> None:
        w.start("node-1") if "node-1" not in w.procs else None
        boot = w.procs["node-1"].boot
        w.tell(
            WorkerSeen(Announcement("node-1", Health.XA, boot, "odd", "x" * 1000, "nowhere", 1e-12))
        )
        device = Accelerator("nvidia", "H100", 0.0, None, 1.0, None, None, ("lost",))
        w.tell(
            TelemetryIn(
                "node-1",
                Telemetry(boot, 10**6, "", 0.0, 0.0, accelerators=(device,), pipeline="p@1"),
            )
        )

    def nothing() -> None:
        """As it is at work."""

    states: tuple[Callable[[], None], ...] = (
        nothing,
        strange,
        lambda: w.crash("node-1"),
        never_heard,
        lambda: w.fair(10),
    )
    for state in states:
        state()
        w.tell(ev.AffiliationsRead({ANA: "owner", BEN: "member"}))
        for _ in range(100):
            words = [rng.choice(list(COMMANDS)), *rng.choices(WORDS, k=rng.randrange(5))]
            w.now_s += 2
            ask(w, "!" + " ".join(words))
            if w.errands and rng.random() < 0.5:
                errand = w.errands.pop()
                w.tell(ev.QueryFinished(errand.ref, error="nothing was found"))
            assert not w.core.guard.counts, words
