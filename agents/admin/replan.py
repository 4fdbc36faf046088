"""Makes past plans again from the journal, with the same core and kernels. Are they the same, byte
for byte, and what would other settings have done? It only reads; a coordinator may be writing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from agents.base.errors import JournalError, OperatorError
from agents.base.progress import PrintLine
from agents.base.text import counted
from agents.core.model.plan import Moment, PlanningFrame
from agents.core.model.times import format_utc, parse_time
from agents.core.planning.recording import (
    compare_plans,
    frame_from_json,
    frame_with_settings,
    make_plan_json,
    moment_from_json,
    plan_from_json,
)
from agents.core.planning.replay import DecisionReplay, ReplayTotals
from agents.journal.decisions import TickRow, Ticks, decompress_blob, open_ticks
from kernels.tables import Numerics

T = TypeVar("T")

SHOWN, WORDS_SHOWN = 3, 6
FIGURES = (
    "before.",
    "after.",
    "optimum.",
    "load_eps",
    "room_eps",
    "price_ms",
    "the memory",
)
DAMAGED = "the plan in the journal is damaged: its bytes are not those that were written"


class Span(NamedTuple):
    """Epoch ms, both ends included; at most `limit` ticks of it, None: all."""

    from_ms: int
    to_ms: int
    limit: int | None = None

    def __str__(self) -> str:
        return f"{format_utc(self.from_ms)} to {format_utc(self.to_ms)}"


@dataclass(frozen=True, slots=True)
class Different:
    """A tick whose plan came out differently, with the differences in words. `steps`: the plan's
    actions differ, not only its figures."""

    tick: int
    at: str
    kind: str
    steps: bool
    words: list[str]


@dataclass(slots=True)
class Again:
    """The result of planning a span again, also as `geolane replan --json` prints it. `ticks`: how
    many plans; `same`: of them the same, byte for byte. `first`, `last`: RFC 3339. `kernels`: with
    which, and `why` these; `made_by`: how many of the plans were made with which."""

    first: str = ""
    last: str = ""
    ticks: int = 0
    same: int = 0
    kernels: str = ""
    why: str = ""
    made_by: dict[str, int] = field(default_factory=dict)
    different: list[Different] = field(default_factory=list)


@dataclass(slots=True)
class Otherwise:
    """A span under other settings: as recorded, with the same settings followed through the model
    (replay.py), and with the other settings followed the same way."""

    first: str = ""
    last: str = ""
    kernels: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    recorded: ReplayTotals = field(default_factory=ReplayTotals)
    same_settings: ReplayTotals = field(default_factory=ReplayTotals)
    other_settings: ReplayTotals = field(default_factory=ReplayTotals)


def parse_span(from_: str, to: str, limit: int | None, now: datetime) -> Span:
    """Raises OperatorError for an invalid time, or a span that ends before it begins."""
    span = Span(parse_time(from_, now), parse_time(to, now), limit)
    if span.from_ms > span.to_ms:
        raise OperatorError(f"from {span}: the span ends before it begins")
    return span


def parse_pairs(texts: Iterable[str]) -> dict[str, str]:
    """KEY=VALUE as pairs. Raises OperatorError."""
    out = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise OperatorError(f"--with {text}: write KEY=VALUE")
        out[key.strip()] = value.strip()
    return out


def count_plans(path: Path, span: Span) -> int:
    """How many plans of the span the journal has. Raises JournalError if there are none, and says
    which there are."""
    with open_ticks(path) as ticks:
        if found := ticks.count_ticks(span.from_ms, span.to_ms):
            return found
        whole = ticks.read_span()
    if whole is None:
        raise JournalError(f"{path}: no plan was ever made with this journal")
    raise JournalError(
        f"no plan was made from {span}; the journal has {whole[2]:,}, from "
        f"{Span(whole[0], whole[1])}"
    )


def replan_span(
    path: Path, span: Span, numerics: Numerics, step: Callable[[], None] = lambda: None
) -> Again:
    """Make every plan of the span again; `step` is called after each. Raises JournalError if the
    journal cannot be read."""
    out = Again(kernels=numerics.name, why=numerics.why)
    with open_ticks(path) as ticks:
        for tick, frame in _read_ticks(ticks, span):
            out.first, out.last = out.first or format_utc(tick.ms), format_utc(tick.ms)
            out.ticks += 1
            made_by = tick.numerics or "unknown"
            out.made_by[made_by] = out.made_by.get(made_by, 0) + 1
            words = _compare_plans(tick, frame, numerics)
            if words:
                steps = not all(w.startswith(FIGURES) for w in words)
                out.different.append(
                    Different(tick.id, format_utc(tick.ms), tick.kind, steps, words)
                )
            else:
                out.same += 1
            step()
    return out


def replan_with_settings(
    path: Path,
    span: Span,
    numerics: Numerics,
    settings: Mapping[str, str],
    step: Callable[[], None] = lambda: None,
) -> Otherwise:
    """The span with other settings; `step` is called after each plan. Raises JournalError as
    `replan_span` does, and SettingsError for settings that are not valid."""
    out = Otherwise(kernels=numerics.name, settings=dict(settings))
    followers: tuple[DecisionReplay, DecisionReplay] | None = None
    life = -1
    with open_ticks(path) as ticks:
        for tick, frame in _read_ticks(ticks, span):
            # a new frame is another life of the leader: the model begins again from its state
            out.first, out.last = out.first or format_utc(tick.ms), format_utc(tick.ms)
            if followers is None or tick.frame_id != life:
                life, slots = tick.frame_id, frame.calm.in_flight
                followers = (
                    DecisionReplay(frame, numerics, slots, out.same_settings),
                    DecisionReplay(
                        frame_with_settings(frame, settings), numerics, slots, out.other_settings
                    ),
                )
            moment = _decode_moment(tick)
            out.recorded.add_plan(_decode_blob(tick, plan_from_json, tick.plan, "plan"))
            for follower in followers:
                follower.replay_moment(moment)
            step()
    return out


def _read_ticks(ticks: Ticks, span: Span) -> Iterator[tuple[TickRow, PlanningFrame]]:
    """Each tick of the span with its frame."""
    held: tuple[int, PlanningFrame] | None = None
    for tick in islice(ticks.read_between(span.from_ms, span.to_ms), span.limit):
        if held is None or held[0] != tick.frame_id:
            held = (
                tick.frame_id,
                _decode_named(
                    f"frame {tick.frame_id}", frame_from_json, ticks.read_frame_json(tick.frame_id)
                ),
            )
        yield tick, held[1]


def _compare_plans(tick: TickRow, frame: PlanningFrame, numerics: Numerics) -> list[str]:
    """How the plan differs now; empty if it is the same, byte for byte."""
    moment = _decode_moment(tick)
    try:
        then = decompress_blob(tick.plan, "the plan")
    except JournalError:
        return [DAMAGED]
    if sha256(then).digest() != tick.sha256:
        return [DAMAGED]
    try:
        now = make_plan_json(frame, moment, numerics)
    except ValueError as e:
        return [f"the planner refuses these inputs now: {e}"]
    if then == now:
        return []
    return compare_plans(
        frame, _decode_named(_tick_label(tick), plan_from_json, then), plan_from_json(now)
    )


def _decode_moment(tick: TickRow) -> Moment:
    return _decode_blob(tick, moment_from_json, tick.moment, "moment")


def _decode_blob(tick: TickRow, read: Callable[[bytes], T], blob: bytes, what: str) -> T:
    return _decode_named(
        _tick_label(tick), read, decompress_blob(blob, f"{_tick_label(tick)}: the {what}")
    )


def _decode_named(name: str, read: Callable[[bytes], T], data: bytes) -> T:
    try:
        return read(data)
    except JournalError as e:
        raise JournalError(f"{name}: {e}") from e


def _tick_label(tick: TickRow) -> str:
    return f"tick {tick.id} ({format_utc(tick.ms)})"


# For people.


def describe_replan(a: Again) -> str:
    """As text: how many plans, how many are the same, and the first differences."""
    lines = [
        f"{counted(a.ticks, 'plan')} from {a.first} to {a.last}, made again with the kernels "
        f"{a.kernels} ({a.why})",
        f"{a.same:,} are the same, byte for byte",
    ]
    if a.different:
        steps = sum(d.steps for d in a.different)
        rest = len(a.different) - steps
        lines[-1] += (
            f"; {len(a.different):,} are not ({steps:,} in what they do, {rest:,} in figures alone)"
        )
    others = [f"{name} ({n:,})" for name, n in sorted(a.made_by.items()) if name != a.kernels]
    if others:
        lines.append(
            f"made with {', '.join(others)}: only equal kernels promise equal bytes (see --kernels)"
        )
    for d in a.different[:SHOWN]:
        lines += [
            "",
            f"{d.at}  tick {d.tick}, {d.kind}:",
            *(f"  {w}" for w in d.words[:WORDS_SHOWN]),
        ]
        if len(d.words) > WORDS_SHOWN:
            lines.append(f"  and {len(d.words) - WORDS_SHOWN} more")
    if len(a.different) > SHOWN:
        lines += ["", f"and {len(a.different) - SHOWN:,} more"]
    return "\n".join(lines)


def describe_other_settings(o: Otherwise) -> str:
    """As a table: the record, the same settings in the model, the other settings in the model."""
    named = ", ".join(f"{k}={v}" for k, v in o.settings.items())
    rows = [
        ("as it was", o.recorded),
        ("same settings, modelled", o.same_settings),
        (f"{named}, modelled", o.other_settings),
    ]
    wide = max(len(name) for name, _ in rows)
    lines = [
        f"{counted(o.recorded.ticks, 'plan')} from {o.first} to {o.last}, with the kernels "
        f"{o.kernels}",
        "",
        f"{'':{wide}}  {'moves':>7}  {'mean RTT':>10}  {'busiest node':>18}  waiting",
    ]
    for name, t in rows:
        busy = f"{t.mean_busiest:.0%} (most {t.busiest_most:.0%})"
        waits = (
            f"up to {t.waiting_most:,}, in {counted(t.waiting_ticks, 'plan')}"
            if t.waiting_most
            else "none"
        )
        lines.append(f"{name:{wide}}  {t.moves:7,}  {t.mean_rtt_ms:7.2f} ms  {busy:>18}  {waits}")
    lines += [
        "",
        "Modelled: load and health as recorded, lanes where the model's own plans put them, a move "
        "done by the next plan.",
    ]
    return "\n".join(lines)


# For programs.


class PlansFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Of a number of `plans`: moves begun, orphans placed, and the placements that they lead to.
    `busiest_mean`, `busiest_most`: the busiest node's load, a share of its capacity.
    `waiting_most`: lanes without room at once; in `waiting_plans` there were any."""

    plans: int
    moves: int
    placed: int
    mean_rtt_ms: float
    busiest_mean: float
    busiest_most: float
    waiting_most: int
    waiting_plans: int

    @classmethod
    def of_totals(cls, t: ReplayTotals) -> PlansFigures:
        return cls(
            plans=t.ticks,
            moves=t.moves,
            placed=t.placed,
            mean_rtt_ms=t.mean_rtt_ms,
            busiest_mean=t.mean_busiest,
            busiest_most=t.busiest_most,
            waiting_most=t.waiting_most,
            waiting_plans=t.waiting_ticks,
        )


class OtherwiseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What `geolane replan --with KEY=VALUE --json` prints: the plans as recorded, with the same
    settings in the model, and with the others. `first`, `last`: RFC 3339."""

    first: str
    last: str
    kernels: str
    settings: dict[str, str]
    recorded: PlansFigures
    same_settings: PlansFigures
    other_settings: PlansFigures


def outcome_json(outcome: Again | Otherwise) -> str:
    """One line."""
    if isinstance(outcome, Again):
        return msgspec.json.encode(outcome).decode()
    answer = OtherwiseAnswer(
        first=outcome.first,
        last=outcome.last,
        kernels=outcome.kernels,
        settings=outcome.settings,
        recorded=PlansFigures.of_totals(outcome.recorded),
        same_settings=PlansFigures.of_totals(outcome.same_settings),
        other_settings=PlansFigures.of_totals(outcome.other_settings),
    )
    return msgspec.json.encode(answer).decode()


def run(
    path: Path,
    span: Span,
    numerics: Numerics,
    settings: Mapping[str, str],
    *,
    json: bool,
    say: PrintLine,
    step: Callable[[], None] = lambda: None,
) -> int:
    """Run the sub-command and print its result; `step` is called after each plan. Returns 1 if a
    plan came out differently under its own settings, otherwise 0."""
    if settings:
        other = replan_with_settings(path, span, numerics, settings, step)
        say(outcome_json(other) if json else describe_other_settings(other))
        return 0
    out = replan_span(path, span, numerics, step)
    say(outcome_json(out) if json else describe_replan(out))
    return 1 if out.different else 0
