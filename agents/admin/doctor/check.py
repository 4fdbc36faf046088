"""Runs all checks at once, each with a time limit, so that a failed check does not delay the
others. A check is skipped if one that it needs has failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from agents.admin.doctor.judge.verdict import Finding, Level, NotLookedAt, Verdict, fault, skipped
from agents.base.errors import GeolaneError, SettingsError

BOUND_S = 5.0
LOOK_THERE = "look at that server's log and load"


@dataclass(frozen=True, slots=True)
class Check:
    """`needs`: checks (`kafka login`) without which this one is meaningless; it is skipped if one
    of them failed. `after`: checks that must have ended, with any result. All of them come before
    this one in the list."""

    group: str
    name: str
    look: Callable[[], Awaitable[Verdict]]
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    bound_s: float = BOUND_S
    todo: str = ""  # for an error that `look` raises

    @property
    def key(self) -> str:
        return f"{self.group} {self.name}"


async def run_checks(
    checks: Sequence[Check],
    tell: Callable[[Finding], None] = lambda _: None,
    running: set[str] | None = None,
) -> list[Finding]:
    """Run all the checks. Returns one finding for each, in the same order. `tell` gets each as soon
    as it and all before it are there. `running`: is kept the set of those that are being made."""
    run = _Run(set() if running is None else running)
    async with asyncio.TaskGroup() as group:
        for check in checks:
            run.tasks[check.key] = group.create_task(run.run_check(check))
        for task in run.tasks.values():
            tell(await task)
    return [task.result() for task in run.tasks.values()]


@dataclass(slots=True)
class _Run:
    running: set[str]
    tasks: dict[str, asyncio.Task[Finding]] = field(default_factory=dict)

    async def run_check(self, check: Check) -> Finding:
        verdict = await self._judge_check(check)
        return Finding(check.group, check.name, verdict.level, verdict.found, verdict.todo)

    async def _judge_check(self, check: Check) -> Verdict:
        for key in check.needs:
            need = await self.tasks[key]
            if need.level is Level.FAULT:
                return skipped(f"`{key}` is at fault")
            if need.level is Level.SKIPPED:
                return Verdict(Level.SKIPPED, need.found)  # the first reason, not a chain of them
        for key in check.after:
            await self.tasks[key]
        self.running.add(check.key)
        try:
            async with asyncio.timeout(check.bound_s):
                return await check.look()
        except NotLookedAt as e:
            return skipped(str(e))
        except TimeoutError:
            return fault(f"no answer within {check.bound_s:g} s", check.todo or LOOK_THERE)
        except SettingsError as e:
            return fault(str(e), check.todo or "correct that setting: docs/settings.md")
        except (GeolaneError, OSError) as e:
            return fault(str(e) or type(e).__name__, check.todo or LOOK_THERE)
        except Exception as e:  # noqa: BLE001 - the supervisor of checks: one that breaks must not hide the others
            return fault(f"the check itself failed: {type(e).__name__}: {e}", "please report this")
        finally:
            self.running.discard(check.key)
