"""How checks are run: bounded, at once, none hides another; what needs one that failed is skipped
with the first reason."""

from __future__ import annotations

import asyncio

from agents.admin.doctor.check import Check, run_checks
from agents.admin.doctor.judge.verdict import Level, NotLookedAt, Verdict, fault, ok
from agents.base.errors import KafkaUnavailable, SettingsError


async def fine() -> Verdict:
    return ok("fine")


async def wrong() -> Verdict:
    return fault("wrong", "mend it")


async def not_here() -> Verdict:
    raise NotLookedAt("it is elsewhere")


async def for_ever() -> Verdict:
    await asyncio.Event().wait()
    return ok("never")


def raising(error: Exception) -> Check:
    async def look() -> Verdict:
        raise error

    return Check("g", type(error).__name__, look)


async def test_a_check_that_breaks_hangs_or_raises_hides_no_other() -> None:
    checks = [
        raising(ZeroDivisionError("oh")),
        raising(KafkaUnavailable("away")),
        raising(SettingsError("no such key")),
        raising(OSError("cut")),
        Check("g", "slow", for_ever, bound_s=0.05),
        Check("g", "fine", fine),
    ]
    async with asyncio.timeout(2):
        found = {f.name: f for f in await run_checks(checks)}
    assert list(found) == [c.name for c in checks], "in the order in which they stand"
    assert "the check itself failed: ZeroDivisionError: oh" in found["ZeroDivisionError"].found
    assert found["KafkaUnavailable"].found == "away"
    assert "docs/settings.md" in found["SettingsError"].todo
    assert found["slow"].found == "no answer within 0.05 s"
    assert found["fine"].level is Level.OK
    assert all(f.level is Level.FAULT and f.todo for name, f in found.items() if name != "fine")


async def test_what_needs_a_check_that_failed_is_skipped_and_says_the_first_reason() -> None:
    checks = [
        Check("g", "root", wrong),
        Check("g", "needs", fine, ("g root",)),
        Check("h", "needs that", fine, ("g needs",)),
        Check("h", "elsewhere", not_here),
        Check("h", "needs elsewhere", fine, ("h elsewhere",)),
        Check("h", "only after", fine, after=("g root",)),
    ]
    found = {f.name: (f.level, f.found) for f in await run_checks(checks)}
    because = (Level.SKIPPED, "not checked, because `g root` is at fault")
    assert (found["needs"], found["needs that"]) == (because, because)
    assert found["needs elsewhere"] == (Level.SKIPPED, "not checked, because it is elsewhere")
    assert found["only after"] == (Level.OK, "fine")


async def test_checks_are_made_at_once() -> None:
    """Each waits for the other: one after the other they would not end."""
    here, there = asyncio.Event(), asyncio.Event()

    async def first() -> Verdict:
        here.set()
        await there.wait()
        return ok("")

    async def second() -> Verdict:
        there.set()
        await here.wait()
        return ok("")

    found = await run_checks([Check("g", "first", first), Check("g", "second", second)])
    assert [f.level for f in found] == [Level.OK, Level.OK]
