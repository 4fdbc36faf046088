"""What a change would do is foretold, nothing is touched, and what names nothing is answered with
what is near."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from agents.base.errors import OperatorError
from agents.core.fleet.incidents import format_partitions
from agents.core.fleet.placing_inputs import FleetChange
from agents.core.model.inventory import Inventory
from agents.core.model.placement import Intent, drain_intent
from agents.core.model.plan import AllowedNodes
from agents.core.model.topology import Site, WorkerKind
from agents.core.operators.whatif import MOST_EPS, USAGE, answer_whatif
from tests.core.world import World


@pytest.fixture
def w() -> World:
    world = World(nodes=3, lanes=6)
    world.fair(45)
    return world


def ask(w: World, text: str) -> str:
    answer = answer_whatif(w.core.placing, w.now_s, int(w.now_s * 1000), text.split()).text
    assert len(answer.split("\n")) <= 8
    assert all(len(line) <= 75 for line in answer.split("\n"))
    return answer


def home(w: World) -> str:
    """The node that has lane 0, as people say it."""
    return w.partitions[WorkerKind.NODE.partition(0)].worker.partition("-")[2]


def test_a_drain_moves_all_that_the_node_has(w: World) -> None:
    name = home(w)
    count = len(w.core.fleet.owned_by(f"node-{name}"))
    answer = ask(w, f"drain {name}")
    assert answer.startswith(f"What if {name} were drained (nothing is changed):")
    assert f"{count} of 6 lanes would move: " in answer
    assert "RTT an event " in answer
    assert "(modelled)" in answer
    assert "fit nowhere" not in answer
    assert "Most goes to " in answer
    assert f"Most goes to {name}:" not in answer


def test_what_it_foretells_of_a_drain_is_what_the_drain_foretells(w: World) -> None:
    """Both go through the same plan: the confirmed command must not surprise who asked before."""
    worker = f"node-{home(w)}"
    then = w.core.placing.what_if(
        w.now_s, int(w.now_s * 1000), FleetChange(empty=frozenset({worker}))
    )
    figures = f"-> {then.plan.after.mean_rtt_ms:.1f} ms (modelled)"
    assert figures in ask(w, f"drain {home(w)}")


@pytest.mark.parametrize("ask_for", ["region", "site", "region without its blanks"])
def test_a_region_or_site_is_lost_with_its_nodes(w: World, ask_for: str) -> None:
    site = w.inv.sites[w.inv.workers[f"node-{home(w)}"].site]
    text = {
        "region": site.region,
        "site": site.name,
        "region without its blanks": site.region.lower().replace(" ", ""),
    }
    answer = ask(w, f"lose {text[ask_for]}")
    assert "were lost, with its node" in answer
    count = len(w.core.fleet.owned_by(f"node-{home(w)}"))
    assert f"{count} of 6 lanes would move" in answer


def test_when_nobody_is_left_the_lanes_wait(w: World) -> None:
    sites = {name: replace(site, region="everywhere") for name, site in w.inv.sites.items()}
    w.core.fleet.inventory = Inventory(sites, w.inv.workers)
    assert "No room, so they wait and lag: lanes 0, 1, 2, 3 and 2 more." in ask(
        w, "lose everywhere"
    )


def test_a_node_where_one_was_lost_would_get_its_lanes_back(w: World) -> None:
    w.crash("node-1")
    w.fair(45, revive=False)
    answer = ask(w, "add s1 5000")
    assert "What if s1 had another node of 5,000 events/s" in answer
    assert "2 of 6 lanes would move: lanes 1, 4." in answer
    assert "Most goes to the new node: 2 lanes, " in answer
    before, after = (
        float(x) for x in answer.split("\n")[1].split("event ")[1].split(" ms")[0].split(" -> ")
    )
    assert after < before


def test_what_is_now_is_shown_as_it_is_whatever_is_asked(w: World) -> None:
    w.crash("node-1")
    w.fair(45, revive=False)
    last = w.core.placing.last
    assert last is not None
    for text in ("rate 1 x20", "lose s0", "drain 0", "add s1 2000"):
        assert f"RTT an event {last.plan.before.mean_rtt_ms:.1f} -> " in ask(w, text)


def test_a_drain_moves_nobody_else_before_calm_would(w: World) -> None:
    w.crash("node-1")
    w.fair(45, revive=False)
    w.start("node-1")
    w.fair(1)
    answer = ask(w, "drain 2")
    moved = answer.split("would move: ")[1].split(".")[0]
    assert moved == format_partitions(w.core.fleet.owned_by("node-2")), (
        "lanes 1 and 4 wait for their window"
    )


def test_a_rate_that_does_not_change_moves_nothing_of_its_own(w: World) -> None:
    answer = ask(w, "rate 2 x1")
    assert "No lane would move." in answer or "in any case" in answer
    shown = answer.split("\n")[1].split("event ")[1].split(" ms")[0].split(" -> ")
    if "No lane would move." in answer:
        assert shown[0] == shown[1]


def test_a_rate_that_fills_the_node_pushes_its_other_lane_off(w: World) -> None:
    answer = ask(w, "rate 0 x34")
    assert "What if lane 0 had 34 times its rate" in answer
    assert "1 of 6 lanes would move: lane 3." in answer


def test_a_rule_holds_for_what_is_foretold_too(w: World) -> None:
    """Only the node that has them may have these lanes: drained, they stay, and that is said."""
    name, frame = home(w), w.core.placing.frame
    allowed = tuple(n.id == f"node-{name}" for n in frame.nodes)
    w.core.placing.frame = replace(
        frame, rule=(0,) * len(frame.rule), rules=(AllowedNodes("here", allowed),)
    )
    answer = ask(w, f"drain {name}")
    assert "No lane would move." in answer
    assert "They should leave but fit nowhere: lanes " in answer


@pytest.mark.parametrize(
    "text", ["drain {home}", "lose s1", "add s0 2000", "rate 0 x50", "rate 5 0"]
)
def test_nothing_is_touched(w: World, text: str) -> None:
    placing, fleet = w.core.placing, w.core.fleet
    keep = {
        "last": placing.last,
        "memory": placing.memory,
        "frame": placing.frame,
        "plans": placing.plans,
        "waiting": placing.waiting,
        "targets": dict(placing.inputs.targets),
        "cooldown": dict(placing.inputs.cooldown),
        "version": fleet.version,
        "partitions": copy.deepcopy(fleet.partitions),
        "inventory": fleet.inventory,
    }
    ask(w, text.format(home=home(w)))
    assert keep == {
        "last": placing.last,
        "memory": placing.memory,
        "frame": placing.frame,
        "plans": placing.plans,
        "waiting": placing.waiting,
        "targets": placing.inputs.targets,
        "cooldown": placing.inputs.cooldown,
        "version": fleet.version,
        "partitions": fleet.partitions,
        "inventory": fleet.inventory,
    }
    assert not w.kafka


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", USAGE),
        ("drain", USAGE),
        ("burn 1", USAGE),
        ("add s0", USAGE),
        ("rate 1 x2 x3", USAGE),
        ("drain nod-1", "No node is called 'nod-1'."),
        ("drain router-1", "No node is called 'router-1'."),
        ("lose Canada Cental", "Did you mean Canada Central?"),
        ("add s9 100", "No site is called 's9'. There are: s0, s1, s2."),
        ("add s0 -5", "'-5' is not a valid capacity"),
        ("add s0 much", "'much' is not a valid capacity"),
        (f"add s0 {MOST_EPS * 2}", "is not a valid capacity"),
        ("rate 6 x2", "lanes are 0 to 5"),
        ("rate \u0661 x2", "is not a valid lane"),
        ("rate 1 xx", "'xx' is not a valid factor"),
        ("rate 1 x-1", "'x-1' is not a valid factor"),
        ("rate 1 xnan", "'xnan' is not a valid factor"),
        ("rate 1 xinf", "'xinf' is not a valid factor"),
    ],
)
def test_what_cannot_be_is_answered_with_what_can(w: World, text: str, says: str) -> None:
    with pytest.raises(OperatorError) as error:
        ask(w, text)
    assert says in str(error.value)


def test_a_region_without_nodes_and_a_node_drained_already_are_said(w: World) -> None:
    sites = {**w.inv.sites, "west": Site("west", 32.0, -110.0, "empty land")}
    w.core.fleet.inventory = Inventory(sites, w.inv.workers)
    with pytest.raises(OperatorError, match="no node in empty land"):
        ask(w, "lose empty land")
    w.core.fleet.apply_records({}, {}, {drain_intent("node-1"): Intent("ana@d", 0)})
    with pytest.raises(OperatorError, match="1 is already drained"):
        ask(w, "drain 1")
