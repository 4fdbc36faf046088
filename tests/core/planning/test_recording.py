"""What the journal keeps of a decision comes back as it was, to the bit, and what does not parse
says why."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any  # values of any type are compared here

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.base.errors import JournalError, SettingsError
from agents.core.model.plan import (
    AllowedNodes,
    Assignment,
    DataBroker,
    Lane,
    Memory,
    Moment,
    Node,
    NodePlace,
    Optimum,
    PlacementCost,
    Plan,
    PlannedMove,
    PlanningFrame,
)
from agents.core.planning import recording as replay
from agents.settings.calm import Calm
from kernels.tables import RttModel, Weights, no_rtt_table

anyfloat = st.floats()
row = st.integers(-1, 2**40)
some_row = st.none() | row
name = st.text(st.characters(codec="utf-8"), max_size=8)


def many(kind: Any, *columns: st.SearchStrategy[Any], most: int = 5) -> st.SearchStrategy[Any]:
    return st.lists(st.builds(kind, *columns), max_size=most).map(tuple)


def numbers(of: st.SearchStrategy[Any] = anyfloat) -> st.SearchStrategy[Any]:
    return st.lists(of, max_size=6).map(tuple)


@st.composite
def rtt_models(draw: st.DrawFn) -> RttModel:
    n = draw(st.integers(0, 4))
    vector = st.lists(anyfloat, min_size=n, max_size=n).map(lambda v: np.array(v, dtype=np.float64))
    square = st.lists(anyfloat, min_size=n * n, max_size=n * n).map(
        lambda v: np.array(v, dtype=np.float64)
    )
    flags = st.lists(st.booleans(), min_size=n * n, max_size=n * n).map(
        lambda v: np.array(v, dtype=bool)
    )
    regions = tuple(draw(st.lists(name, min_size=n, max_size=n)))
    lat, lon, rtt, measured = (
        draw(vector),
        draw(vector),
        draw(square).reshape(n, n),
        draw(flags).reshape(n, n),
    )
    return RttModel(regions, lat, lon, rtt, measured, draw(anyfloat), draw(anyfloat))


calms = st.builds(
    Calm,
    *[
        st.integers(0, 99) if type(v) is int else anyfloat
        for v in [getattr(Calm(), f) for f in Calm.__struct_fields__]
    ],
)
memories = st.builds(
    Memory,
    anyfloat,
    st.dictionaries(name, anyfloat, max_size=4),
    st.dictionaries(row, anyfloat, max_size=4),
    st.dictionaries(name, anyfloat, max_size=4),
)
frames = st.builds(
    PlanningFrame,
    numbers(),
    numbers(),
    numbers(row),
    many(NodePlace, name, anyfloat, anyfloat, row, anyfloat),
    many(AllowedNodes, name, numbers(st.booleans())),
    rtt_models(),
    calms,
    st.builds(Weights, anyfloat, anyfloat, anyfloat),
)
lanes = many(
    Lane,
    row,
    st.none() | anyfloat,
    anyfloat,
    some_row,
    some_row,
    st.booleans(),
    anyfloat,
    row,
    st.none() | anyfloat,
    some_row,
    anyfloat,
    some_row,
)
nodes = many(Node, name, anyfloat, st.booleans(), name, row, some_row, anyfloat, anyfloat)
brokers = many(DataBroker, row, name, name, numbers())
moments = st.builds(Moment, anyfloat, lanes, nodes, memories, st.booleans(), st.booleans(), brokers)
plans = st.builds(
    Plan,
    many(Assignment, row, row, anyfloat, name),
    many(PlannedMove, row, row, row, anyfloat, name),
    numbers(row),
    numbers(row),
    numbers(row),
    *[st.builds(PlacementCost, anyfloat, anyfloat, anyfloat)] * 2,
    st.builds(Optimum, anyfloat, anyfloat, anyfloat, row),
    numbers(),
    numbers(),
    numbers(),
    memories,
)


def bits(value: Any) -> Any:
    """The value with every float as its bits (NaN as one), and every type told: equal only if equal
    to the bit."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value.hex()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, [bits(v) for v in value.ravel().tolist()]
    if is_dataclass(value):
        return type(value), [bits(getattr(value, f.name)) for f in fields(value)]
    if isinstance(value, Calm):
        return Calm, [bits(getattr(value, f)) for f in value.__struct_fields__]
    if isinstance(value, dict):
        return {k: bits(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return type(value), [bits(v) for v in value]
    return type(value), value


def same_to_the_bit(
    value: Any, write: Callable[[Any], bytes], read: Callable[[bytes], Any]
) -> None:
    once = write(value)
    back = read(once)
    assert bits(back) == bits(value)
    assert write(back) == once


@given(frames)
def test_frame_comes_back_to_the_bit(frame: PlanningFrame) -> None:
    same_to_the_bit(frame, replay.frame_to_json, replay.frame_from_json)


@given(moments)
def test_moment_comes_back_to_the_bit(moment: Moment) -> None:
    same_to_the_bit(moment, replay.moment_to_json, replay.moment_from_json)


@given(plans)
def test_plan_comes_back_to_the_bit(plan: Plan) -> None:
    same_to_the_bit(plan, replay.plan_to_json, replay.plan_from_json)


@given(memories, st.randoms())
def test_order_of_a_mapping_does_not_show(memory: Memory, random: Any) -> None:
    keys = list(memory.price_ms)
    random.shuffle(keys)
    other = replace(memory, price_ms={k: memory.price_ms[k] for k in keys})
    one, two = (replay.moment_to_json(Moment(0.0, (), (), m)) for m in (memory, other))
    assert one == two


def test_whole_numbers_and_numpy_scalars_are_written_as_what_they_equal() -> None:
    plain = Moment(5.0, (Lane(3, 100.0, owner=1, moving=True),), ())
    odd = Moment(
        5,
        (Lane(np.int32(3), np.float64(100), owner=np.int64(1), moving=np.bool_(True)),),  # type: ignore[arg-type]
        (),
    )  # as NumPy code hands over
    assert replay.moment_to_json(odd) == replay.moment_to_json(plain)


def test_infinities_of_a_fresh_start_are_kept() -> None:
    moment = Moment(1.0, (), (Node("a", 10.0),))
    back = replay.moment_from_json(replay.moment_to_json(moment))
    assert back.nodes[0].came_s == back.memory.at_s == -math.inf
    assert back == moment


def test_table_without_measurements_keeps_its_shape() -> None:
    frame = PlanningFrame((), (), (), (), (), no_rtt_table(1.0, 0.01), Calm(), Weights())
    assert replay.frame_from_json(replay.frame_to_json(frame)).rtt.rtt_ms.shape == (0, 0)


@pytest.mark.parametrize(
    "lane",
    [
        Lane("7", 1.0),  # type: ignore[arg-type]
        Lane(1, "fast"),  # type: ignore[arg-type]
        Lane(1.5, 1.0),  # type: ignore[arg-type]
        Lane(1, 1.0, owner=True),
        Lane(1, 1.0, moving=1),  # type: ignore[arg-type]
    ],  # the point
)
def test_value_of_another_type_is_not_written(lane: Lane) -> None:
    with pytest.raises(JournalError, match="moment cannot be written"):
        replay.moment_to_json(Moment(0.0, (lane,), ()))


WHOLE = json.loads(
    replay.moment_to_json(Moment(0.0, (Lane(1, 2.0), Lane(2, None)), (), Memory(0.0, {"a": 1.0})))
)


def broken(change: Callable[[dict[str, Any]], object]) -> bytes:
    data = json.loads(json.dumps(WHOLE))
    change(data)
    return json.dumps(data).encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "moment: not valid JSON"),
        (b"\xff", "moment: not valid JSON"),
        (b"[]", "moment: this JSON is of another kind"),
        (
            replay.frame_to_json(
                PlanningFrame((), (), (), (), (), no_rtt_table(0, 0), Calm(), Weights())
            ),
            "of another kind",
        ),
        (
            broken(lambda d: d.update(format=0)),
            "written in format 0, read here is format 1: use the version",
        ),
        (broken(lambda d: d.pop("value")), "moment: not an object"),
        (
            broken(lambda d: d["value"].pop("eager")),
            "moment has no 'eager': it was written by another version",
        ),
        (
            broken(lambda d: d["value"].pop("brokers")),  # as before lanes had brokers
            "moment has no 'brokers': it was written by another version",
        ),
        (broken(lambda d: d["value"].update(mood="good")), "moment has an unknown 'mood'"),
        (broken(lambda d: d["value"]["lanes"].pop("warm")), "moment.lanes has no 'warm'"),
        (
            broken(lambda d: d["value"]["lanes"]["id"].pop()),
            "moment.lanes: the columns differ in length",
        ),
        (
            broken(lambda d: d["value"]["lanes"].update(id=["a", "b"])),
            "moment.lanes.id: 'a' is not a int",
        ),
        (
            broken(lambda d: d["value"]["lanes"].update(moving=None)),
            "moment.lanes.moving: not a list",
        ),
        (broken(lambda d: d["value"].update(now_s="soon")), "moment.*'soon' is not a float"),
        (
            broken(lambda d: d["value"]["memory"].update(hot_since_s=[["a"], []])),
            "keys and an equally long list of values",
        ),
    ],
)
def test_what_does_not_parse_says_where_and_why(data: bytes, says: str) -> None:
    with pytest.raises(JournalError, match=says):
        replay.moment_from_json(data)


def empty_frame() -> dict[str, Any]:
    """As JSON."""
    frame = PlanningFrame((), (), (), (), (), no_rtt_table(0, 0), Calm(), Weights())
    found: dict[str, Any] = json.loads(replay.frame_to_json(frame))
    return found


@pytest.mark.parametrize(
    "item", [None, 5, {"shape": [0, 0]}, {"shape": [0, 0], "values": [], "more": []}]
)
def test_array_that_is_none_is_refused(item: object) -> None:
    data = empty_frame()
    data["value"]["rtt"]["rtt_ms"] = item
    with pytest.raises(JournalError, match="rtt_ms: not an array"):
        replay.frame_from_json(json.dumps(data).encode())


def test_array_that_does_not_fill_its_shape_is_refused() -> None:
    data = empty_frame()
    data["value"]["rtt"]["rtt_ms"]["shape"] = [2, 2]
    with pytest.raises(JournalError, match="0 values do not fill an array of"):
        replay.frame_from_json(json.dumps(data).encode())


# ---- other settings ----

FRAME = PlanningFrame(
    (),
    (),
    (),
    (NodePlace("node-iad-1", 0.0, 0.0), NodePlace("node-ord-1", 0.0, 0.0)),
    (),
    no_rtt_table(1.0, 0.01),
    Calm(),
    Weights(),
)


def test_settings_are_changed_by_name_and_type_and_nothing_else_is() -> None:
    out = replay.frame_with_settings(FRAME, {"windows": "3", "move_ms": "1.5", "act_above": "2"})
    assert (out.calm.windows, out.calm.act_above, out.weights) == (3, 2.0, Weights(move_ms=1.5))
    assert type(out.calm.windows) is int
    assert replay.frame_to_json(
        replay.frame_with_settings(out, {"windows": "2", "move_ms": "2", "act_above": "1.25"})
    ) == (replay.frame_to_json(FRAME))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("window", "3", "did you mean windows?"),
        ("moves_ms", "3", "did you mean move_ms?"),
        ("zzzz", "3", "settings are act_above, budget_share"),
        ("windows", "2.5", "not a whole number"),
        ("windows", "0", "above 0"),
        ("move_ms", "fast", "not a finite number from 0"),
        ("move_ms", "inf", "not a finite number from 0"),
        ("move_ms", "-1", "not a finite number from 0"),
        ("move_ms", "1e9", "more than 1e\\+06 ms"),
        ("round_trips", "101", "round_trips=101: more than 100$"),
        ("target_utilisation", "1.2", "a share, at most 1"),
        ("act_above", "0.9", "at least 1"),
        ("settle_to", "2", "settle_to is 2, above act_above, which is 1.25"),
    ],
)
def test_setting_that_makes_no_sense_is_refused(key: str, value: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        replay.frame_with_settings(FRAME, {key: value})


# ---- two plans compared ----

PLAN = Plan(
    (),
    (PlannedMove(1, 0, 1, -3.0, "nearer"),),
    (4,),
    (),
    (),
    PlacementCost(1, 1, 0.5),
    PlacementCost(1, 1, 0.5),
    Optimum(1, 1, 0, 1),
    (5.0, 6.0),
    (10.0, 10.0),
    (0.0, 0.25),
    Memory(),
)


def test_equal_plans_have_no_differences() -> None:
    assert replay.compare_plans(FRAME, PLAN, replay.plan_from_json(replay.plan_to_json(PLAN))) == []


def test_difference_too_small_for_words_is_said_all_the_same() -> None:
    assert replay.compare_plans(FRAME, PLAN, replace(PLAN, price_ms=(-0.0, 0.25))) == [
        "the same except for order or the sign of a zero"
    ]


def test_differences_name_lanes_nodes_and_figures() -> None:
    now = replace(
        PLAN,
        moves=(),
        waiting=(),
        assignments=(Assignment(4, 0, 7.0, "orphan"),),
        after=PlacementCost(1, 0.5, 0.5),
        price_ms=(0.0, 0.5),
        memory=Memory(at_s=1.0),
    )
    assert replay.compare_plans(FRAME, PLAN, now) == [
        "lane 1: moved from iad-1 to ord-1 (nearer, -3.0 ms), now left alone",
        "lane 4: waits, now given to iad-1 (orphan, 7.0 ms)",
        "after.mean_rtt_ms: 1, now 0.5",
        "price_ms of ord-1: 0.25, now 0.5",
        "the memory for the next plan differs",
    ]


@given(plans, plans)
def test_plans_with_other_bytes_have_a_difference_to_show(one: Plan, two: Plan) -> None:
    if replay.plan_to_json(one) != replay.plan_to_json(two):
        assert replay.compare_plans(FRAME, one, two)
