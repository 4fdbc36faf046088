"""Whatever befalls a real coordinator, each of its plans comes out of the journal's bytes again,
byte for byte."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from agents.core import effects as fx
from agents.core import events as ev
from agents.core.events import QuestionAsked
from agents.core.model.plan import Decided, PlanningFrame
from agents.core.planning.recording import (
    frame_from_json,
    frame_to_json,
    make_plan_json,
    moment_from_json,
    moment_to_json,
    plan_to_json,
)
from tests.core.world import NUMERICS, World


@dataclass
class Recorded(World):
    """The world, and every plan that its coordinators made, as bytes, with its frame."""

    frame: PlanningFrame | None = None
    recorded: list[tuple[bytes, bytes, bytes, Decided]] = field(default_factory=list)

    def _perform(self, effect: fx.Effect) -> None:
        if isinstance(effect, Decided):
            self.frame = effect.frame or self.frame
            assert self.frame is not None, "a leader's first plan comes with its frame"
            self.recorded.append(
                (
                    frame_to_json(self.frame),
                    moment_to_json(effect.moment),
                    plan_to_json(effect.plan),
                    effect,
                )
            )
        super()._perform(effect)


def troubled(seed: int) -> Recorded:
    """Nodes crash, freeze and come back, a leader is followed by another."""
    dice, w = random.Random(seed), Recorded(nodes=4, lanes=10)
    w.fair(6)
    for _ in range(6):
        worker = dice.choice(sorted(w.procs))
        match dice.choice(["crash", "freeze", "leader", "cut"]):
            case "crash":
                w.crash(worker)
            case "freeze":
                w.procs[worker].frozen = True
                for _ in range(6):
                    w.pass_s(1.0)
            case "leader":
                w.lead()
            case _:
                w.cut()
        w.fair(5, revive=dice.random() < 0.5)
    w.fair(6)
    return w


@pytest.mark.parametrize("seed", range(4))
def test_every_plan_of_a_troubled_coordinator_is_made_again_byte_for_byte(seed: int) -> None:
    w = troubled(seed)
    assert len(w.recorded) > 20
    assert sum(len(d.plan.assignments) for *_, d in w.recorded) >= 10
    for frame, moment, plan, decided in w.recorded:
        assert make_plan_json(frame_from_json(frame), moment_from_json(moment), NUMERICS) == plan
        assert decided.numerics == NUMERICS.name


def test_frame_comes_once_in_a_leaders_life() -> None:
    w = troubled(2)
    assert sum(d.frame is not None for *_, d in w.recorded) <= w.leader_epoch
    assert w.recorded[0][3].frame is not None


def test_plans_after_a_change_that_a_second_person_confirmed_are_made_again() -> None:
    w = Recorded(nodes=4, lanes=10)
    w.fair(6)
    w.core.desk.second.commands = frozenset({"drain"})
    w.tell(ev.AffiliationsRead({"ana@d": "admin", "ben@d": "admin"}))
    before = len(w.recorded)
    w.tell(QuestionAsked("ana@d", "ana", "!drain 0", True, "s1", None, "m1"))
    id = w.said[-1].partition("!confirm ")[2].split()[0]
    w.tell(QuestionAsked("ben@d", "ben", f"!confirm {id}", True, "s2", None, "m2"))
    w.fair(30, revive=False)
    assert not w.core.fleet.owned_by("node-0")
    after = w.recorded[before:]
    assert sum(len(d.plan.assignments) for *_, d in after) >= 1
    for frame, moment, plan, _ in after:
        assert make_plan_json(frame_from_json(frame), moment_from_json(moment), NUMERICS) == plan
