"""docs/chaos-requests.md: a row for each setup that was run, and the last run's cases one by
one."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from aiokafka.errors import for_code

from tests.fixtures.request_proxy import Api, Do
from tests.late_requests.broker import Setup
from tests.late_requests.cases import PLACES
from tests.late_requests.life import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "chaos-requests.md"
_COLUMNS = (
    "Kafka",
    "transaction.version",
    "leases from epoch",
    "cases",
    "clean",
    "not clean",
    "replays not clean",
    "late copies: taken, refused, unanswered",
    "workers that ended",
    "producer id changed",
    "longest case",
)
HEAD = (f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|")
_ROW = re.compile(r"^\| (\d+\.\d+\.\d+) \| (\d) \| ([\d,]+) \|.*$", re.M)


def unexpected(setup: Setup, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those that are not clean, and should be."""
    return [o for o in outcomes if o.wrong and not o.case.is_replayed(setup.transactions)]


def row(setup: Setup, outcomes: Sequence[Outcome]) -> str:
    """What became of one setup's cases, as a line of the table."""
    late = Counter(
        "none" if o.answer is None else "taken" if o.answer == 0 else "refused" for o in outcomes
    )
    figures = (
        setup.kafka,
        setup.transactions,
        f"{setup.first_epoch:,}",
        len(outcomes),
        sum(not o.wrong for o in outcomes),
        len(unexpected(setup, outcomes)),
        sum(bool(o.wrong) for o in outcomes) - len(unexpected(setup, outcomes)),
        f"{late['taken']}, {late['refused']}, {late['none']}",
        sum(o.lost for o in outcomes),
        sum(o.producer_ids > 1 for o in outcomes),
        f"{max(o.seconds for o in outcomes):.0f} s",
    )
    return f"| {' | '.join(map(str, figures))} |"


def cells(outcomes: Sequence[Outcome]) -> str:
    """Each case: whether its ledger is clean, what the late copy was answered, whether the worker
    was killed or fenced."""
    by = {(o.case.request, o.case.do, o.case.place): o for o in outcomes}
    lines = [f"| request | fault | {' | '.join(PLACES)} |", "|---" * (2 + len(PLACES)) + "|"]
    for request in Api:
        for do in Do:
            found = [_cell(by.get((request, do, place))) for place in PLACES]
            lines.append(f"| {request.words} | {do.value} | {' | '.join(found)} |")
    codes = sorted({o.answer for o in outcomes if o.answer})
    names = ", ".join(f"{code} {for_code(code).__name__}" for code in codes)
    return "\n".join([*lines, "", f"0: taken (or nothing was left to do); {names}; -: no answer."])


def _cell(o: Outcome | None) -> str:
    if o is None:
        return ""
    answer = "-" if o.answer is None else str(o.answer)
    return " ".join(w for w in ("✗" if o.wrong else "✓", answer, o.case.loss) if w)


def write(runs: Mapping[Setup, Sequence[Outcome]]) -> None:
    """The rows of these runs are new, those of other setups stay; the cases are those of the first
    run."""
    old = PAGE.read_text("utf-8")
    rows = {m.group(1, 2, 3): m.group() for m in _ROW.finditer(old)}
    for setup, outcomes in runs.items():
        rows[setup.kafka, str(setup.transactions), f"{setup.first_epoch:,}"] = row(setup, outcomes)
    first = next(iter(runs))
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    parts = {
        "runs": "\n".join([*HEAD, *(rows[key] for key in sorted(rows))]),
        "wrong": "\n".join(_wrong(runs)) or "Every ledger of the last run is clean.",
        "cases": f"Kafka {first.kafka}, transaction.version {first.transactions}, leases from "
        "epoch "
        f"{first.first_epoch:,}; {now}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at "
        "the end.\n\n" + cells(runs[first]),
    }

    def part(m: re.Match[str]) -> str:
        return f"<!-- made: {m.group(1)} -->\n{parts[m.group(1)]}\n<!-- end -->"

    PAGE.write_text(
        re.sub(r"<!-- made: (\w+) -->\n.*?<!-- end -->", part, old, flags=re.DOTALL), "utf-8"
    )


def _wrong(runs: Mapping[Setup, Sequence[Outcome]]) -> list[str]:
    return [
        f"- Kafka {s.kafka}, transaction.version {s.transactions}, leases from epoch "
        f"{s.first_epoch:,}: "
        f"{o.case.words}: {'; '.join(o.wrong)}"
        for s, outcomes in runs.items()
        for o in outcomes
        if o.wrong
    ]
