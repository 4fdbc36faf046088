"""What a check returns, and how the report shows it: one line per check that is ok, two for a
warning or fault, one for all that were skipped for the same reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any

import msgspec


class Level(StrEnum):
    """A `warning` will cost something one day; a `fault` stops or loses something now. A `skipped`
    check was not made, and `found` says why."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    SKIPPED = "skipped"


class NotLookedAt(Exception):
    """A check cannot be made here. Its text continues the phrase "not checked, because"."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`found`: figures with their units. `todo`: what to do; empty if there is nothing to do."""

    level: Level
    found: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A check's verdict. `group` is the outside system (`kafka`), `name` the check in it
    (`login`)."""

    group: str
    name: str
    level: Level
    found: str
    todo: str = ""


def ok(found: str) -> Verdict:
    return Verdict(Level.OK, found)


def warning(found: str, todo: str) -> Verdict:
    return Verdict(Level.WARNING, found, todo)


def fault(found: str, todo: str) -> Verdict:
    return Verdict(Level.FAULT, found, todo)


def skipped(why: str) -> Verdict:
    return Verdict(Level.SKIPPED, f"not checked, because {why}")


def merge_verdicts(good: str, *verdicts: Verdict) -> Verdict:
    """One verdict for several of the same kind: the gravest level, with the findings and advice of
    all that are not ok. `good` is the text if all are ok."""
    bad = [v for v in verdicts if v.level is not Level.OK]
    if not bad:
        return ok(good)
    levels = [v.level for v in bad]
    level = next(x for x in (Level.FAULT, Level.WARNING, Level.SKIPPED) if x in levels)
    todo = "; ".join(dict.fromkeys(v.todo for v in bad if v.todo))
    return Verdict(level, "; ".join(v.found for v in bad), todo)


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, in the order in which they are shown. `settings_wrong`: nothing else could be
    examined."""

    account: str
    findings: Sequence[Finding]
    settings_wrong: bool = False

    def count(self, level: Level) -> int:
        return sum(f.level is level for f in self.findings)

    @property
    def code(self) -> int:
        """The exit code: 0 no fault, 1 at least one, 2 the settings are wrong."""
        return 2 if self.settings_wrong else int(self.count(Level.FAULT) > 0)

    def to_json(self) -> str:
        """One object on one line: ok, account, counts by level, findings."""
        counts = {level.value: self.count(level) for level in Level}
        shown: dict[str, Any] = {"ok": self.code == 0, "account": self.account, "counts": counts}
        return msgspec.json.encode(
            shown | {"findings": [asdict(f) for f in self.findings]}
        ).decode()

    def to_text(self) -> str:
        """The report for people."""
        wide = max((len(f.name) for f in self.findings), default=0)
        lines = []
        for group, findings in groupby(self.findings, key=lambda f: f.group):
            lines.append(group)
            for f in _merge_skipped(list(findings)):
                level = "" if f.level is Level.OK else f.level.value
                lines.append(f"  {level or 'ok':8} {f.name:{wide}}  {_join_lines(f.found)}")
                if f.todo:
                    lines.append(f"  {'':8} {'':{wide}}  -> {_join_lines(f.todo)}")
        counts = ", ".join(
            f"{self.count(level)} {level.value}" for level in Level if self.count(level)
        )
        return "\n".join([*lines, f"as {self.account}: {counts}"])


def _merge_skipped(findings: list[Finding]) -> list[Finding]:
    """The findings, with those skipped for the same reason merged into one, at the place of the
    first."""
    out: list[Finding] = []
    for f in findings:
        alike = [x for x in findings if x.level is Level.SKIPPED and x.found == f.found]
        if f.level is not Level.SKIPPED or len(alike) == 1:
            out.append(f)
        elif f is alike[0]:
            names = ", ".join(x.name for x in alike)
            out.append(Finding(f.group, f"{len(alike)} checks", f.level, f"{f.found}: {names}"))
    return out


def _join_lines(text: str) -> str:
    return " | ".join(part.strip() for part in text.splitlines() if part.strip())
