"""What calm holds back is said, with until when; an operator's own drain puts no cooldown on the
way back."""

from __future__ import annotations

import itertools

from agents.core import events as ev
from agents.core.events import QuestionAsked
from agents.core.model.topology import WorkerKind
from agents.core.operators.held_back import describe_held_back
from tests.core.world import World

_ids = itertools.count()


def ask(w: World, text: str) -> str:
    w.tell(ev.AffiliationsRead({"ana@d": "owner"}))
    before, n = len(w.said), next(_ids)
    w.core.desk._asks.clear()
    w.tell(QuestionAsked("ana@d", "ana", text, True, f"s{n}", None, f"m{n}"))
    return "\n".join(w.said[before:])


def confirm(w: World, dry: str) -> None:
    assert "On it" in ask(w, f"!confirm {dry.partition('confirm ')[2].split()[0]}")


def test_after_a_drain_and_a_resume_lanes_come_back_without_a_cooldown_and_it_is_said_when() -> (
    None
):
    w = World(nodes=3, lanes=6)
    w.fair(150)
    name = next(s.worker for p, s in w.partitions.items() if WorkerKind.NODE.works(p)).partition(
        "-"
    )[2]
    mine = {p for p, s in w.partitions.items() if s.worker == f"node-{name}"}
    confirm(w, ask(w, f"!drain {name}"))
    w.fair(20)
    assert not any(s.worker == f"node-{name}" for s in w.partitions.values())
    assert not [p for p in mine if w.core.placing.inputs.cooldown.get(p, 0.0) > w.now_s]
    dry = ask(w, f"!resume {name}")
    assert "Lanes that gain come back: the first in about 5 s, 5 at a time" in dry
    confirm(w, dry)
    w.fair(25)
    assert {p for p, s in w.partitions.items() if s.worker == f"node-{name}"} == mine


def test_a_lane_that_is_left_alone_though_it_would_gain_is_told_with_how_much_and_how_long() -> (
    None
):
    w = World(nodes=3, lanes=6)
    w.fair(150)
    p = WorkerKind.NODE.partition(0)
    here = w.partitions[p].worker
    other = next(x for x in w.procs if x.startswith("node") and x != here).partition("-")[2]
    assert describe_held_back(w.core.placing, w.now_s) == []
    confirm(w, ask(w, f"!move 0 {other}"))
    w.fair(5)
    [line] = describe_held_back(w.core.placing, w.now_s)
    assert line.startswith(
        "1 lane moved recently and may not move yet (10 min at most), although up to "
    )
    assert "ms an event could be saved (lane 0)" in line
    assert line in ask(w, "!status").replace("\n", "\n")
