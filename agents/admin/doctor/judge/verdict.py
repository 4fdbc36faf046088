"""What a check returns, and how the report shows it: one line per check that is ok, two for a
warning or fault, and at the end of a group one for all that were skipped for the same reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

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


class DoctorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What `geolane doctor --json` prints. `ok`: there is no fault. `counts`: of the findings, by
    level."""

    ok: bool
    account: str
    counts: dict[Level, int]
    findings: tuple[Finding, ...]


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
        """One DoctorAnswer on one line."""
        answer = DoctorAnswer(
            ok=self.code == 0,
            account=self.account,
            counts={level: self.count(level) for level in Level},
            findings=tuple(self.findings),
        )
        return msgspec.json.encode(answer).decode()

    def to_text(self) -> str:
        """The report for people."""
        text = ReportText([f.name for f in self.findings])
        lines = [line for f in self.findings for line in text.add(f)]
        return "\n".join([*lines, *text.end(), self.last_line])

    @property
    def last_line(self) -> str:
        counts = ", ".join(
            f"{self.count(level)} {level.value}" for level in Level if self.count(level)
        )
        return f"as {self.account}: {counts}"


def unstyled(text: str, level: Level) -> str:
    return text


class ReportText:
    """The lines for people, from findings as they come. Skipped checks are held back until their
    group ends, and those with the same reason share a line.

    `names`: of all checks, for the width of their column. `style`: colours a text by its level."""

    def __init__(self, names: Iterable[str], style: Callable[[str, Level], str] = unstyled) -> None:
        self._width = max(map(len, names), default=0)
        self._style = style
        self._group = ""
        self._skipped: dict[str, list[Finding]] = {}

    def add(self, f: Finding) -> Iterator[str]:
        if f.group != self._group:
            yield from self.end()
            self._group = f.group
            yield f.group
        if f.level is Level.SKIPPED:
            self._skipped.setdefault(f.found, []).append(f)
        else:
            yield from self._format(f)

    def end(self) -> Iterator[str]:
        """The lines of the checks that were held back."""
        for why, alike in self._skipped.items():
            if len(alike) > 1:
                names = ", ".join(f.name for f in alike)
                merged = f"{len(alike)} checks"
                yield from self._format(
                    Finding(self._group, merged, Level.SKIPPED, f"{why}: {names}")
                )
            else:
                yield from self._format(alike[0])
        self._skipped = {}

    def _format(self, f: Finding) -> Iterator[str]:
        level = self._style(f"{f.level.value:8}", f.level)
        yield f"  {level} {f.name:{self._width}}  {_join_lines(f.found)}"
        if f.todo:
            yield f"  {'':8} {'':{self._width}}  -> {_join_lines(f.todo)}"


def _join_lines(text: str) -> str:
    return " | ".join(part.strip() for part in text.splitlines() if part.strip())
