"""What tests of the doctor share: settings without a file, and the findings of some checks by
name."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from agents.admin.doctor.check import Check, run_checks
from agents.admin.doctor.judge.verdict import Finding, Level
from agents.settings import Loaded, Settings
from agents.settings.sources import all_keys


def loaded(settings: Settings | None = None, **tables: msgspec.Struct) -> Loaded:
    """Settings as if a file had set every key; `tables` replace whole tables."""
    made = msgspec.structs.replace(settings or Settings(), **tables)
    return Loaded(made, dict.fromkeys(all_keys(), "test"))


async def findings(checks: Iterable[Check], *names: str) -> dict[str, Finding]:
    """The findings by `GROUP NAME`; with `names`, of these checks and what they need alone."""
    every = list(checks)
    wanted = set(names or [c.key for c in every])
    for check in reversed(every):
        if check.key in wanted:
            wanted |= {*check.needs, *check.after}
    return {
        f"{f.group} {f.name}": f for f in await run_checks([c for c in every if c.key in wanted])
    }


def named(found: dict[str, Finding], key: str, *words: str, level: Level = Level.FAULT) -> None:
    """The check `key` is at that level, its words are there, and it says what to do."""
    f = found[key]
    assert f.level is level, f
    for word in words:
        assert word in f"{f.found} -> {f.todo}", f
    assert f.todo or level in (Level.OK, Level.SKIPPED), f
