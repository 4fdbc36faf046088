"""`explain` gives each term in ms, tells constraints apart, and what it says would revert a
decision does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.model.placement import Placed, State
from agents.core.model.plan import (
    AllowedNodes,
    Lane,
    Moment,
    Node,
    NodePlace,
    PlanningFrame,
    Scored,
)
from agents.core.model.topology import WorkerKind
from agents.core.operators.explain import describe_case, gains_elsewhere_ms, make_case
from agents.core.planning.planner import make_plan
from agents.core.planning.scoreboard import Scoreboard
from agents.settings.calm import Calm
from kernels import Numerics, Weights, no_rtt_table
from kernels.placement.assign import solve
from kernels.reference import compute_matrix_costs

NUMERICS = Numerics("numpy", "the oracle", compute_matrix_costs, solve)
NEAR, MID, FAR = 0, 1, 2
NAMES = ["node-near-1", "node-mid-1", "node-far-1"]
CALM = Calm(comfortable=0.85, ramp_s=0.0)
P = WorkerKind.NODE.partition(0)
NOW = 1000.0


def lane(n: int = 0, owner: int | None = NEAR, eps: float = 100.0, **more: object) -> Lane:
    return replace(Lane(n, eps, owner=owner), **more)  # type: ignore[arg-type]  # checked by replace itself


def node(n: int, capacity_eps: float = 1000.0, **more: object) -> Node:
    return replace(Node(NAMES[n], capacity_eps), **more)  # type: ignore[arg-type]  # checked by replace itself


NODES = [node(NEAR), node(MID), node(FAR)]


def scored(
    lanes: Sequence[Lane],
    nodes: Sequence[Node] = NODES,
    *,
    rules: Sequence[AllowedNodes] = (),
    egress_ms: Sequence[float] = (0.0, 0.0, 0.0),
    weights: Weights = Weights(),  # noqa: B008  # frozen
    calm: Calm = CALM,
    eager: bool = False,
) -> Scored:
    """Lanes at 0, 1 on the map; nodes at 0, 10 and 20 degrees east: RTT 2.1, 11.0 and 22.1 ms. The
    first rule binds all."""
    frame = PlanningFrame(
        (0.0,) * len(lanes),
        (1.0,) * len(lanes),
        (0 if rules else -1,) * len(lanes),
        tuple(NodePlace(n.id, 0.0, 10.0 * i, -1, egress_ms[i]) for i, n in enumerate(nodes)),
        tuple(rules),
        no_rtt_table(1.0, 0.01),
        calm,
        weights,
    )
    moment = Moment(NOW, tuple(lanes), tuple(nodes), eager=eager)
    found = make_plan(frame, moment, NUMERICS)
    partitions = [WorkerKind.NODE.partition(x.id) for x in lanes]
    return Scored(
        partitions,
        [n.id for n in nodes],
        frame,
        moment,
        Scoreboard(frame, moment, NUMERICS).problem,
        found,
    )


def at(worker: int | None, state: State = State.ASSIGNED) -> Placed:
    if worker is None:
        return Placed("", "", 7, 1, State.ORPHAN, 0, 0, "")
    return Placed(NAMES[worker], "b", 7, 1, state, 0, 0, "nearer")


def said(
    s: Scored, placed: Placed, *, paused: bool = False, absent: dict[str, str] | None = None
) -> str:
    text = describe_case(make_case(s, P, placed, absent or {}), placed, NOW, paused=paused)
    assert len(text.split("\n")) <= 8
    assert len(text) <= 580
    return text


def line(text: str, start: str) -> str:
    return next((x for x in text.split("\n") if x.startswith(start)), "")


def test_each_term_is_there_in_ms_and_those_that_are_nothing_are_not() -> None:
    s = scored(
        [lane(traffic=1.5), lane(1)],
        [node(NEAR), node(MID, degraded_ms=4.0), node(FAR)],
        egress_ms=(0.7, 0.0, 0.0),
        weights=Weights(2.0, 3.0),
    )
    text = said(s, at(NEAR))
    assert "Lane 0 is on near-1: 3.9 modelled ms = 2.1 RTT + 1.1 traffic + 0.7 egress." in text
    assert (
        "Runner-up mid-1: 25.5 modelled ms = 11.0 RTT + 5.5 traffic + 3.0 cold caches "
        "+ 4.0 degraded + 2.0 moving." in text
    )
    assert "near-1: 200 of 850 events/s allowed, 100 for this lane; room costs nothing." in text
    assert "Placed there: nearer (epoch 7)." in text


def test_when_nothing_binds_what_would_revert_it_does() -> None:
    text = said(scored([lane()]), at(NEAR))
    assert "Nothing binds" in text
    nearer = re.search(r"It would move to mid-1 if that were (\d+\.\d) ms closer\.", text)
    assert nearer
    gap = float(nearer[1])
    far_off, close = gap - 0.1, gap + 0.1
    for offset, goes in ((far_off, False), (close, True)):
        s = scored(
            [lane()], egress_ms=(offset, 0.0, 0.0), eager=True
        )  # as good as the other being so much nearer
        assert bool(s.plan.moves) is goes


def test_the_first_node_of_the_inventory_is_one_like_any() -> None:
    text = said(scored([lane(owner=MID)], egress_ms=(10.0, 0.0, 0.0)), at(MID))
    assert re.search(r"It would move to near-1 if that were \d+\.\d ms closer\.", text)


def test_a_full_node_that_would_save_nothing_noticeable_is_not_told() -> None:
    """It is as good as the lane's own, within 0.05 ms."""
    nodes = [node(NEAR, 10.0), node(MID), node(FAR)]
    s = scored([lane(owner=MID)], nodes, egress_ms=(8.9, 0.0, 0.0), weights=Weights(0.0, 0.0))
    text = said(s, at(MID))
    assert "Nothing binds" in text
    assert "Left out" not in text


def test_a_lane_gains_only_at_a_node_that_takes_it() -> None:
    nodes = [node(NEAR, takes=False), node(MID), node(FAR)]
    for takes, gains in ((True, {P: pytest.approx(16.9, abs=0.1)}), (False, {})):
        nodes[FAR] = node(FAR, takes=takes)
        s = scored([lane(owner=MID)], nodes, egress_ms=(0.0, 30.0, 0.0))
        assert gains_elsewhere_ms(s, {P: NAMES[MID]}) == gains


def test_a_rule_that_keeps_it_from_a_better_node_binds() -> None:
    text = said(
        scored([lane(owner=MID)], rules=[AllowedNodes("eu + de", (False, True, True))]), at(MID)
    )
    assert "Residency binds: rule eu + de keeps it from near-1" in text
    assert "It would move there if rule eu + de allowed it." in text
    assert "near-1 (rule eu + de)" in line(text, "Left out")


def test_a_rule_that_forbids_only_worse_nodes_does_not_bind() -> None:
    text = said(scored([lane()], rules=[AllowedNodes("eu", (True, True, False))]), at(NEAR))
    assert "Nothing binds" in text
    assert "far-1 (rule eu)" in line(text, "Left out")


def test_room_binds_and_with_what_it_names_the_lane_goes() -> None:
    lanes = [lane(owner=MID), *(lane(n, eps=135.0, priority=1) for n in range(1, 7))]
    text = said(scored(lanes), at(MID))
    assert "Room binds: near-1 is" in text
    assert "but has 40 of 100 events/s free." in text
    assert "near-1 (full)" in line(text, "Left out")
    more = re.search(r"It would move there with (\d+) events/s more room\.", text)
    assert more
    enough = node(NEAR, 1000.0 + float(more[1]) / CALM.target_utilisation)
    (move,) = scored(lanes, [enough, *NODES[1:]], eager=True).plan.moves
    assert (move.lane, move.to) == (0, NEAR)


def test_the_price_of_room_counts_for_runner_up_binding_and_reverting() -> None:
    s = scored([lane(owner=MID), lane(1)], calm=replace_calm(windows=9))
    dear = replace(s, plan=replace(s.plan, price_ms=(30.0, 1.0, 0.0)))
    text = said(dear, at(MID))
    assert line(text, "Runner-up").startswith("Runner-up far-1: "), (
        "dearer room puts near-1 behind it"
    )
    assert (
        "Room binds: near-1 is 6.9 ms better, but its room costs 29.0 ms more: others need it."
        in text
    )
    assert "It would move there if near-1 were 22.1 ms closer." in text
    assert "room costs 1.0 ms." in text
    little = replace(s, plan=replace(s.plan, price_ms=(3.0, 0.0, 0.0)))
    assert "(+ 3.0 price of room)" in line(said(little, at(MID)), "Runner-up near-1")


def replace_calm(**more: int) -> Calm:
    return msgspec.structs.replace(CALM, **more)


def test_a_lane_just_placed_pays_nothing_for_moving_where_it_is() -> None:
    text = said(scored([lane(owner=None)]), at(NEAR))
    assert text.startswith("Lane 0 is on near-1: 2.1 modelled ms = 2.1 RTT.\n")


def test_room_is_counted_with_what_is_begun_now() -> None:
    s = scored([lane(), lane(1, owner=MID)], eager=True)
    assert [m.lane for m in s.plan.moves] == [1]
    assert "near-1: 200 of 850 events/s allowed, 100 for this lane" in said(s, at(NEAR))


@pytest.mark.parametrize(
    ("held", "paused", "why"),
    [
        (
            lane(owner=MID, cooldown_until_s=NOW + 25),
            False,
            "it moved recently and stays for 25 s more",
        ),
        (lane(owner=MID), False, "it moves if that lasts 5 s more"),
        (lane(owner=MID), True, "the planner is paused"),
        (lane(owner=MID, moving=True, target=MID), False, "it is already being moved"),
    ],
)
def test_calm_binds_and_says_which_rule_of_it(held: Lane, paused: bool, why: str) -> None:
    text = said(scored([held]), at(MID), paused=paused)
    assert "Calm binds: near-1 is 6.9 ms better" in text
    assert why in text


@pytest.mark.parametrize(
    ("lasted_s", "why"),
    [
        (1.0, "it moves if that lasts 4 s more"),
        (5.0, "other lanes move first, or the room is kept for them"),
        (None, "other lanes move first, or the room is kept for them"),
    ],
)
def test_once_it_has_lasted_calm_waits_for_nothing_more(lasted_s: float | None, why: str) -> None:
    s = scored([lane(owner=MID)])
    since = {} if lasted_s is None else {0: NOW - lasted_s}
    plan = replace(s.plan, memory=replace(s.plan.memory, better_since_s=since))
    text = said(replace(s, plan=plan), at(MID))
    assert f"Calm binds: near-1 is 6.9 ms better; {why}." in text


def test_a_lane_that_goes_now_says_where_and_why() -> None:
    s = scored([lane(owner=MID)], eager=True)
    assert "Chosen: near-1, 4.1 modelled ms = 2.1 RTT + 2.0 moving (nearer; it moves now)." in said(
        s, at(MID)
    )
    assert "(nearer; the planner is paused, so it stays)" in said(s, at(MID), paused=True)


def test_a_lane_on_its_way_says_where_to() -> None:
    text = said(scored([lane(owner=MID, moving=True, target=NEAR)]), at(MID, State.RELEASING))
    assert "Lane 0 is leaving mid-1" in text
    assert "Chosen: near-1; it is moving there." in text


def test_who_is_left_out_is_told_apart() -> None:
    nodes = [node(NEAR), node(MID, takes=False), node(FAR, takes=False, empty="draining")]
    text = said(
        scored([lane()], nodes), at(NEAR), absent={NAMES[MID]: "gone", NAMES[FAR]: "draining"}
    )
    assert line(text, "Left out") == "Left out: mid-1 (gone); far-1 (draining)."
    assert "Runner-up" not in text
    assert "if there were another node for it" in text


def test_a_lane_that_must_leave_and_cannot_says_so() -> None:
    nodes = [node(NEAR, empty="draining", takes=False), node(MID, 10.0), node(FAR, 10.0)]
    lanes = [lane(), lane(1, owner=MID, eps=8.0), lane(2, owner=FAR, eps=8.0)]
    text = said(scored(lanes, nodes), at(NEAR))
    assert (
        "It must leave (draining), but no allowed node has room for 100 events/s: it stays." in text
    )


def test_a_lane_that_is_taken_away_says_why() -> None:
    s = scored([lane()])
    parked = replace(s, plan=replace(s.plan, parked=(0,)))
    assert "It has to wait: not all lanes fit, and others come first." in said(parked, at(NEAR))
    s = scored([lane()], rules=[AllowedNodes("moon", (False, False, False))])
    parked = replace(s, plan=replace(s.plan, parked=(0,), stuck=()))
    assert "It has to wait: rule moon forbids near-1, and no node that meets it has room." in said(
        parked, at(NEAR)
    )


def test_a_lane_without_room_says_how_much_it_needs() -> None:
    full = [
        lane(1, eps=950.0, priority=3),
        lane(2, owner=MID, eps=950.0),
        lane(3, owner=FAR, eps=970.0),
    ]
    text = said(scored([lane(owner=None), *full]), at(None))
    assert "Lane 0 has no owner" in text
    assert "Room binds: it needs 100 events/s, near-1 has the most room, 50." in text
    assert "It can be placed with 50 events/s more room." in text
    assert "Its priority is 0" in text
    equals = [replace(x, priority=0) for x in full]
    assert "priority" not in said(scored([lane(owner=None), *equals]), at(None))


def test_a_lane_that_its_rule_leaves_nowhere_says_so() -> None:
    text = said(
        scored([lane(owner=None)], rules=[AllowedNodes("moon", (False, False, False))]), at(None)
    )
    assert "Residency binds: no node of the inventory meets rule moon." in text
    assert "(rule moon)" in line(text, "Left out")


def test_a_lane_whose_rules_nodes_are_gone_waits_for_them() -> None:
    nodes = [node(NEAR), node(MID), node(FAR, takes=False)]
    s = scored([lane(owner=None)], nodes, rules=[AllowedNodes("far", (False, False, True))])
    text = said(s, at(None), absent={NAMES[FAR]: "gone"})
    assert "No node of rule far takes lanes now" in text
    assert line(text, "Left out") == "Left out: near-1, mid-1 (rule far); far-1 (gone)."


def test_a_lane_too_heavy_for_every_node_says_so() -> None:
    busy = [lane(n, owner=n - 1, eps=10.0) for n in (1, 2, 3)]
    assert "Too heavy: 5,000 events/s" in said(
        scored([lane(owner=None, eps=5000.0), *busy]), at(None)
    )


def test_a_lane_about_to_be_placed_says_so() -> None:
    assert "about to be placed" in said(scored([lane(owner=None)]), at(None))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_whatever_the_plan_it_fits_a_phone(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 5))
    names = [f"node-{'n' * 30}-{i}" for i in range(count)]
    rate, at_node = st.floats(0, 2000), st.one_of(st.none(), st.integers(0, count - 1))
    lanes = [
        Lane(
            n,
            data.draw(rate),
            owner=data.draw(at_node),
            priority=data.draw(st.integers(-1, 1)),
            traffic=data.draw(st.sampled_from([0.5, 1.0, 2.0])),
            warm=data.draw(at_node),
            cooldown_until_s=data.draw(st.sampled_from([0.0, NOW + 5])),
        )
        for n in range(data.draw(st.integers(1, 5)))
    ]
    nodes = [
        Node(
            name,
            data.draw(st.floats(100, 3000)),
            takes=data.draw(st.booleans()),
            empty=data.draw(st.sampled_from(["", "", "draining"])),
            degraded_ms=data.draw(st.sampled_from([0.0, 20.0])),
        )
        for name in names
    ]
    rules = (
        [AllowedNodes("a" * 41, tuple(data.draw(st.booleans()) for _ in names))]
        if data.draw(st.booleans())
        else []
    )
    egress = [data.draw(st.floats(0, 99)) for _ in names]
    s = scored(
        lanes,
        nodes,
        rules=rules,
        egress_ms=egress,
        weights=Weights(2.0, 3.0),
        eager=data.draw(st.booleans()),
    )
    for x in lanes:
        placed = at(None) if x.owner is None else replace(at(0), worker=names[x.owner])
        case = make_case(s, WorkerKind.NODE.partition(x.id), placed, {})
        text = describe_case(case, placed, NOW, paused=False)
        assert len(text.split("\n")) <= 8, "explain_fits_a_phone"
        if x.owner is not None:
            shown = re.search(r"is on .*: (-?[\d.]+) modelled ms = (.*)\.$", text.split("\n")[0])
            assert shown, "the_answer_is_in_the_first_line"
            parts = re.findall(r"([+-]? ?)(\d+\.\d) [A-Za-z]", "+ " + shown[2])
            total = sum(float(ms) * (-1 if "-" in sign else 1) for sign, ms in parts)
            assert abs(total - float(shown[1])) <= 0.3, "the_terms_add_up"
