"""`traffic`: the traffic index of lanes with its source and age, or why there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from agents.base.text import counted, to_one_line
from agents.core.fleet.geo_questions import find_geo_worker
from agents.core.geo.figures import Figure
from agents.core.model.answers import Answer, TrafficData
from agents.core.model.geo import REASON_LIMIT, lane_key
from agents.core.model.topology import WorkerKind
from agents.core.operators.arguments import parse_page
from agents.core.operators.command import Context
from agents.core.operators.explain import WHY_LIMIT
from agents.core.operators.tables import format_table, say_more, slice_page

ASKED = "The geo worker is being asked."
COUNTS_AS_ONE = "Plans count it as 1."


def show_traffic(c: Context, args: Sequence[str]) -> Answer:
    known, lanes = c.geo.list_known(c.now), len(c.fleet.partitions_of(WorkerKind.NODE))
    shown, pages = slice_page(len(known), page := parse_page(args), c.rows)
    data = TrafficData(
        page=page,
        pages=pages,
        total=len(known),
        lanes=lanes,
        calls=c.geo.budget.calls,
        daily_calls=c.geo.budget.daily_calls,
        rows=tuple(c.geo.traffic_row(n, figure, index, c.now) for n, figure, index in known[shown]),
    )
    if not known:
        why = _describe_absence(c, REASON_LIMIT) or ASKED
        return Answer(f"Traffic: n/a. {why} {COUNTS_AS_ONE}", data)
    rows = [
        (str(n), f"{index:.2f}", _format_age(figure, c.now), _name_of(c, n))
        for n, figure, index in known[shown]
    ]
    rest = f"; the others count as 1. {_describe_absence(c)}" if len(known) < lanes else "."
    more = say_more(pages, "traffic", page, c.prefix)
    text = (
        f"Traffic of {len(known)} of {counted(lanes, 'lane')} is known "
        f"({_describe_sources([figure for _, figure, _ in known])}){rest.rstrip()}"
        f"{_describe_budget(c)}{more}\n"
        + format_table(("lane", "x", "age", "place"), rows, (4, 5, 6, 18), chat=c.chat)
    )
    return Answer(text, data)


def _name_of(c: Context, lane: int) -> str:
    name = c.placing.inputs.geo.name_of(lane_key(lane), c.now)
    return (name.value or "-").partition(",")[0] if name else "-"


def _format_age(figure: Figure[float], now: float) -> str:
    age_s = figure.age_s(now)
    return f"{age_s:.0f} s" if age_s < 100 else f"{age_s / 60:.0f} min"


def _describe_sources(figures: Sequence[Figure[float]]) -> str:
    """`apple, live: Apple Maps`, each provider once."""
    said: dict[str, None] = {}
    for figure in figures:
        name = f"{figure.source.provider}{', live' if figure.live else ''}"
        credit = figure.source.attribution
        said[f"{name}: {credit}" if credit else name] = None
    return "; ".join(said)


def _describe_budget(c: Context) -> str:
    budget = c.geo.budget
    if not budget.daily_calls:
        return ""
    return f" {budget.calls:,} of {budget.daily_calls:,} calls used today."


def _describe_absence(c: Context, limit: int = WHY_LIMIT) -> str:
    """Why traffic is not known, where it is not, and what to do; empty if it will be soon.
    `limit`: characters of a reason, so that a table fits below it."""
    views = [v for v in c.fleet.views.values() if v.spec.kind == WorkerKind.GEO]
    if not views:
        return "The inventory has no geo worker: see docs/maps.md."
    if not find_geo_worker(c.fleet):
        name = views[0].spec.name
        return (
            f"No geo worker runs: start geolane geo --name {name}, or its unit geolane-geo@{name}."
        )
    if c.geo.failure:
        return f"The geo worker did not answer the last question: {_clip(c.geo.failure, limit)}."
    reasons = Counter(
        figure.reason
        for p in c.fleet.partitions_of(WorkerKind.NODE)
        if (figure := c.placing.inputs.geo.traffic.refusal_of(p.n, c.now))
    )
    if not reasons:
        return ""
    reason, count = reasons.most_common(1)[0]
    return f"{counted(count, 'lane')}: {_clip(reason, limit)}."


def _clip(why: str, limit: int) -> str:
    return to_one_line(why, limit).rstrip(".")
