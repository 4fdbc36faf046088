"""Plans are made in a thread: the loop goes on meanwhile, only the newest that is wanted is made,
one that fails is told, and one that hangs ends it all."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from agents.base.errors import LeadershipLost
from agents.coordinator import performer
from agents.coordinator.performer import Performer
from agents.core import effects as fx
from agents.core import events as ev
from agents.core.coordinator import AnyEvent
from agents.core.model.placement import Leader
from agents.core.model.plan import Moment, PlanningFrame, Scored

NOBODY = cast(Any, None)  # Any: what a performer has besides is not used here
WAIT_S = 5.0


def new_performer(
    planner: Callable[[PlanningFrame, Moment], Scored], tell: Callable[[AnyEvent], None]
) -> Performer:
    return Performer(
        NOBODY, NOBODY, NOBODY, {}, NOBODY, tell, leader=Leader(1, "b"), planner=planner
    )


def wanted(now_s: float) -> fx.PlanWanted:
    return fx.PlanWanted(NOBODY, Moment(now_s, (), ()))


async def test_the_loop_goes_on_and_only_the_newest_that_waits_is_made() -> None:
    begun, go_on, made = threading.Event(), threading.Event(), asyncio.Queue[AnyEvent]()

    def planner(frame: PlanningFrame, moment: Moment) -> Scored:
        begun.set()
        assert go_on.wait(WAIT_S)
        return Scored([], [], frame, moment, NOBODY, NOBODY)

    hands = new_performer(planner, made.put_nowait)
    running = asyncio.create_task(hands.run_planner())
    try:
        hands.perform([wanted(1.0)], 0)
        assert await asyncio.to_thread(begun.wait, WAIT_S)
        hands.perform([wanted(2.0)], 0)
        hands.perform([wanted(3.0)], 0)
        assert made.empty()
        go_on.set()
        async with asyncio.timeout(WAIT_S):
            told = [await made.get(), await made.get()]
        assert [e.scored.moment.now_s for e in told if isinstance(e, ev.Planned)] == [1.0, 3.0]
        assert made.empty()
    finally:
        go_on.set()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_a_planner_that_hangs_ends_the_leadership(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performer, "PLAN_S", 0.05)
    go_on = threading.Event()

    def planner(frame: PlanningFrame, moment: Moment) -> Scored:
        assert go_on.wait(WAIT_S)
        raise AssertionError

    hands = new_performer(planner, NOBODY)
    hands.perform([wanted(1.0)], 0)
    try:
        with pytest.raises(LeadershipLost, match=r"no plan was made in 0\.05 s"):
            async with asyncio.timeout(WAIT_S):
                await hands.run_planner()
    finally:
        go_on.set()


async def test_a_planner_that_fails_is_told_and_asked_again() -> None:
    made = asyncio.Queue[AnyEvent]()

    def planner(frame: PlanningFrame, moment: Moment) -> Scored:
        if moment.now_s < 3:
            raise (ZeroDivisionError if moment.now_s < 2 else TimeoutError)("a flaw")
        return Scored([], [], frame, moment, NOBODY, NOBODY)

    hands = new_performer(planner, made.put_nowait)
    running = asyncio.create_task(hands.run_planner())
    try:
        for now_s in (1.0, 2.0, 3.0):
            hands.perform([wanted(now_s)], 0)
            async with asyncio.timeout(WAIT_S):
                told = await made.get()
            assert isinstance(told, ev.Planned if now_s == 3 else ev.PlanFailed)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
