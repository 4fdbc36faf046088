"""Recorded decisions: a plan and its inputs as exact JSON, and the plan made again from them. Equal
inputs and equal kernels give equal plans, byte for byte."""

from __future__ import annotations

import difflib
import math
import typing
from collections.abc import Iterator, Mapping

import msgspec

from agents.base.errors import SettingsError
from agents.core.model.plan import Moment, Plan, PlanningFrame
from agents.core.model.topology import short_name
from agents.core.planning.exact_json import Exact
from agents.core.planning.planner import make_plan
from agents.settings.calm import Calm
from kernels.tables import MOST_MS, MOST_ROUND_TRIPS, Numerics, Weights

# Increase it when a field changes its meaning; added and removed fields are noticed by name.
FORMAT = 1

_FRAME = Exact(PlanningFrame, "frame", FORMAT)
_MOMENT = Exact(Moment, "moment", FORMAT)
_PLAN = Exact(Plan, "plan", FORMAT)


def frame_to_json(frame: PlanningFrame) -> bytes:
    """Raises JournalError when a field is not of its type; so do `moment_to_json` and
    `plan_to_json`."""
    return _FRAME.encode(frame)


def moment_to_json(moment: Moment) -> bytes:
    return _MOMENT.encode(moment)


def plan_to_json(plan: Plan) -> bytes:
    return _PLAN.encode(plan)


def frame_from_json(data: bytes) -> PlanningFrame:
    """Raises JournalError when the data is not a frame of this format; so do
    `moment_from_json` and `plan_from_json` for theirs."""
    return _FRAME.decode(data)


def moment_from_json(data: bytes) -> Moment:
    return _MOMENT.decode(data)


def plan_from_json(data: bytes) -> Plan:
    return _PLAN.decode(data)


def make_plan_json(frame: PlanningFrame, moment: Moment, numerics: Numerics) -> bytes:
    """The JSON of a plan that is made now from these inputs. Raises ValueError as `make_plan`
    does."""
    return plan_to_json(make_plan(frame, moment, numerics))


# ---- other settings ----

SHARES = frozenset({"target_utilisation", "comfortable", "budget_share", "ramp_from"})
POSITIVE = frozenset({"target_utilisation", "window_s", "windows", "in_flight", "budget_share"})
AT_LEAST_ONE = frozenset({"act_above", "settle_to"})
ORDERED = (("settle_to", "act_above"), ("cooldown_s", "cooldown_most_s"))


def frame_with_settings(frame: PlanningFrame, values: Mapping[str, str]) -> PlanningFrame:
    """The frame with other settings. `values`: by field of Calm or Weights, the value as text.

    Raises SettingsError for an unknown key (it names the nearest known one), and for a value that
    is not a number of the field's type or is out of range."""
    calm, weights = typing.get_type_hints(Calm), typing.get_type_hints(Weights)
    new_calm: dict[str, float] = {}
    new_weights: dict[str, float] = {}
    for key, text in values.items():
        if key in calm:
            new_calm[key] = _parse_setting(key, text, calm[key])
        elif key in weights:
            new_weights[key] = _parse_setting(key, text, weights[key])
            most, unit = (MOST_ROUND_TRIPS, "") if key == "round_trips" else (MOST_MS, " ms")
            if new_weights[key] > most:
                raise SettingsError(f"{key}={text}: more than {most:g}{unit}")
        else:
            known = sorted([*calm, *weights])
            near = difflib.get_close_matches(key, known, 1, 0.4)
            hint = f"did you mean {near[0]}?" if near else f"settings are {', '.join(known)}"
            raise SettingsError(f"{key} is not a setting of the planner; {hint}")
    out = msgspec.structs.replace(frame.calm, **new_calm)
    for low, high in ORDERED:
        if {low, high} & set(new_calm) and getattr(out, low) > getattr(out, high):
            raise SettingsError(
                f"{low} is {getattr(out, low):g}, above {high}, which is {getattr(out, high):g}"
            )
    return PlanningFrame(
        frame.lat,
        frame.lon,
        frame.rule,
        frame.nodes,
        frame.rules,
        frame.rtt,
        out,
        frame.weights._replace(**new_weights),
    )


def _parse_setting(key: str, text: str, kind: type) -> float:
    try:
        value: float = int(text) if kind is int else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise SettingsError(
            f"{key}={text}: not {'a whole' if kind is int else 'a finite'} number from 0"
        )
    if key in POSITIVE and value == 0:
        raise SettingsError(f"{key}={text}: must be above 0")
    if key in SHARES and value > 1:
        raise SettingsError(f"{key}={text}: must be a share, at most 1")
    if key in AT_LEAST_ONE and value < 1:
        raise SettingsError(f"{key}={text}: must be at least 1 (times the mean)")
    return value


# ---- two plans compared ----


def compare_plans(frame: PlanningFrame, then: Plan, now: Plan) -> list[str]:
    """The differences between the plans, for people: lanes first, then figures and prices. Empty
    only if their JSON is the same."""
    if plan_to_json(then) == plan_to_json(now):
        return []
    return [
        *_compare_lanes(frame, then, now),
        *_compare_figures(then, now),
        *_compare_columns(frame, then, now),
    ] or ["the same except for order or the sign of a zero"]


def _compare_lanes(frame: PlanningFrame, then: Plan, now: Plan) -> Iterator[str]:
    was, is_ = _describe_outcomes(frame, then), _describe_outcomes(frame, now)
    for lane in sorted(was.keys() | is_.keys()):
        if was.get(lane) != is_.get(lane):
            yield f"lane {lane}: {was.get(lane, 'left alone')}, now {is_.get(lane, 'left alone')}"


def _compare_figures(then: Plan, now: Plan) -> Iterator[str]:
    for name in ("before", "after", "optimum"):
        old, new = getattr(then, name), getattr(now, name)
        for field in old.__slots__:
            if getattr(old, field) != getattr(new, field):
                yield f"{name}.{field}: {getattr(old, field)!r}, now {getattr(new, field)!r}"


def _compare_columns(frame: PlanningFrame, then: Plan, now: Plan) -> Iterator[str]:
    nodes = [_name_node(frame, row) for row in range(len(frame.nodes))]
    lanes = [f"row {row}" for row in range(len(then.load_eps))]
    for column, rows in (("load_eps", lanes), ("room_eps", nodes), ("price_ms", nodes)):
        old, new = getattr(then, column), getattr(now, column)
        if len(old) != len(new):
            yield f"{column}: {len(old)} of them, now {len(new)}"
            continue
        yield from (
            f"{column} of {r}: {o!r}, now {n!r}"
            for r, o, n in zip(rows, old, new, strict=False)
            if o != n
        )
    if then.memory != now.memory:
        yield "the memory for the next plan differs"


def _name_node(frame: PlanningFrame, row: int) -> str:
    node = frame.nodes[row].id if 0 <= row < len(frame.nodes) else f"row {row}"
    return short_name(node) or node


def _describe_outcomes(frame: PlanningFrame, p: Plan) -> dict[int, str]:
    """By lane, what the plan does with it; lanes that it leaves alone are left out."""
    out = dict.fromkeys(p.waiting, "waits")
    out |= dict.fromkeys(p.stuck, "is stuck")
    out |= dict.fromkeys(p.parked, "is parked")
    out |= {
        a.lane: f"given to {_name_node(frame, a.to)} ({a.reason}, {a.rtt_ms!r} ms)"
        for a in p.assignments
    }
    out |= {
        m.lane: f"moved from {_name_node(frame, m.frm)} to {_name_node(frame, m.to)} ({m.reason}, "
        f"{m.delta_ms!r} ms)"
        for m in p.moves
    }
    return out
