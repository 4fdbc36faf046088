"""The budget of Apple's calls: never more than its number in 24 hours, the urgent ones first,
across restarts and processes."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from agents.base.errors import ProviderUnavailable, SettingsError
from agents.geo.apple.budget import AGAIN_S, DAY_S, CallBudget, CallPriority

MIDNIGHT = 20_000 * DAY_S


class Clock:
    """Epoch seconds that a test sets."""

    def __init__(self, now: float = MIDNIGHT + 3600.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def budget(tmp_path: Path, clock: Clock) -> CallBudget:
    return CallBudget(tmp_path / "budget.json", 800, clock)


async def take_all(budget: CallBudget, priority: CallPriority, at_most: int = 10_000) -> int:
    """How many calls are allowed now."""
    for taken in range(at_most):
        try:
            await budget.count_call(priority)
        except ProviderUnavailable:
            return taken
    return at_most


async def test_each_priority_leaves_a_part_to_those_before_it(budget: CallBudget) -> None:
    taken = [
        await take_all(budget, p)
        for p in (CallPriority.NAME, CallPriority.EVENT, CallPriority.TRAFFIC, CallPriority.TOKEN)
    ]
    assert taken == [40, 20, 30, 10]  # of a full bucket of 100: 40 %, 60 %, 90 %, all
    assert budget.refused == 4


async def test_people_have_a_share_and_events_go_on(budget: CallBudget, clock: Clock) -> None:
    """Somebody who asks without end: a quarter of 800 in 24 hours, 25 of it at once."""
    asked = 0
    for _ in range(24 * 60):
        asked += await take_all(budget, CallPriority.PERSON)
        clock.now += 60
    assert 195 <= asked <= 200
    assert await take_all(budget, CallPriority.EVENT) == 60
    await take_all(budget, CallPriority.PERSON)
    with pytest.raises(ProviderUnavailable, match="people have used what is theirs") as refused:
        await budget.count_call(CallPriority.PERSON)
    assert 60 < refused.value.retry_s < 600
    again = CallBudget(budget.file, budget.daily_calls, clock)
    assert await take_all(again, CallPriority.PERSON) == 0, "a restart forgets none of theirs"


async def test_a_person_leaves_the_last_calls_to_the_access_token(budget: CallBudget) -> None:
    await take_all(budget, CallPriority.TOKEN, 98)
    assert await take_all(budget, CallPriority.PERSON) == 0
    assert await take_all(budget, CallPriority.TOKEN) == 2


async def test_a_file_of_the_version_before_is_read(budget: CallBudget, clock: Clock) -> None:
    budget.file.write_text(f'{{"tokens":40,"refilled_at":{clock.now},"calls":60,"day":20000}}')
    assert await take_all(budget, CallPriority.PERSON) == 25
    assert budget.read_left().calls == 85


async def test_the_rest_of_the_day_flows_in_evenly(budget: CallBudget, clock: Clock) -> None:
    await take_all(budget, CallPriority.TOKEN)
    clock.now += 6 * 3600
    assert await take_all(budget, CallPriority.TOKEN, 50) == 50
    assert budget.read_left().calls_left == 50  # full again: 175 had flowed in


async def test_a_refusal_says_when_the_call_would_be_allowed(
    budget: CallBudget, clock: Clock
) -> None:
    for priority in CallPriority:
        await take_all(budget, priority)
        with pytest.raises(ProviderUnavailable) as refused:
            await budget.count_call(priority)
        clock.now += refused.value.retry_s + 0.001
        await budget.count_call(priority)


async def test_a_restart_forgets_no_call(budget: CallBudget, clock: Clock) -> None:
    await take_all(budget, CallPriority.TRAFFIC)
    again = CallBudget(budget.file, budget.daily_calls, clock)
    assert await take_all(again, CallPriority.TOKEN) == 10
    assert again.read_left().calls == 100


async def test_processes_of_one_machine_share_it(budget: CallBudget, clock: Clock) -> None:
    others = [CallBudget(budget.file, budget.daily_calls, clock) for _ in range(3)]
    taken = await asyncio.gather(*(take_all(b, CallPriority.TOKEN) for b in (budget, *others)))
    assert sum(taken) == 100


async def test_a_429_ends_the_day_until_midnight(budget: CallBudget, clock: Clock) -> None:
    await budget.count_call(CallPriority.TOKEN)
    await budget.end_day()
    await budget.note_success()  # of a call that was sent before
    assert await take_all(budget, CallPriority.TOKEN) == 0
    clock.now = MIDNIGHT + DAY_S - 1
    again = CallBudget(budget.file, budget.daily_calls, clock)
    with pytest.raises(ProviderUnavailable, match="quota is used up") as refused:
        await again.count_call(CallPriority.TOKEN)
    assert refused.value.retry_s == 1.0
    clock.now += 1
    await again.count_call(CallPriority.TOKEN)


async def test_if_apples_day_begins_later_it_is_asked_again_each_hour(
    budget: CallBudget, clock: Clock
) -> None:
    await budget.end_day()
    clock.now = MIDNIGHT + DAY_S
    for _ in range(3):
        await budget.count_call(CallPriority.TOKEN)
        await budget.end_day()
        assert budget.read_left().ended_for_s == AGAIN_S
        clock.now += AGAIN_S
    await budget.count_call(CallPriority.TOKEN)
    await budget.note_success()
    await budget.end_day()  # the next day's end is a whole one again
    assert budget.read_left().ended_for_s == DAY_S - 3 * AGAIN_S


async def test_a_clock_that_is_set_back_gives_nothing_and_takes_nothing(
    budget: CallBudget, clock: Clock
) -> None:
    await take_all(budget, CallPriority.TOKEN, 60)
    clock.now -= 30 * DAY_S
    assert budget.read_left().calls_left == 40
    await budget.end_day()
    clock.now -= 30 * DAY_S
    assert budget.read_left().ended_for_s == 0, "Apple is asked: it knows"


async def test_after_a_clock_was_set_back_calls_flow_in_as_ever(
    budget: CallBudget, clock: Clock
) -> None:
    """As it was used up when the clock was an hour ahead."""
    await take_all(budget, CallPriority.TOKEN, 100)
    clock.now -= 3600
    with pytest.raises(ProviderUnavailable) as refused:
        await budget.count_call(CallPriority.TOKEN)
    clock.now += refused.value.retry_s + 0.001
    await budget.count_call(CallPriority.TOKEN)


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", '{"tokens":"many"}', "x" * 100_000),
        '{"tokens":5,"refilled_at":5,"calls":-1}',
    ],
)
async def test_a_damaged_file_stops_calls_and_is_named(budget: CallBudget, content: str) -> None:
    budget.file.write_text(content)
    with pytest.raises(SettingsError, match=str(budget.file)):
        budget.check()
    with pytest.raises(ProviderUnavailable, match="cannot be counted"):
        await budget.count_call(CallPriority.TOKEN)


async def test_on_a_full_disk_nothing_is_sent_and_nothing_is_lost(budget: CallBudget) -> None:
    await take_all(budget, CallPriority.TOKEN, 10)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))  # as a disk with room for one byte
    try:
        with pytest.raises(ProviderUnavailable, match="cannot be written") as refused:
            await budget.count_call(CallPriority.TOKEN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert refused.value.retry_s == 60
    assert os.listdir(budget.file.parent) == [budget.file.name]
    assert await take_all(budget, CallPriority.TOKEN) == 90


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path, clock: Clock) -> None:
    budget = CallBudget(tmp_path / "missing" / "budget.json", 800, clock)
    with pytest.raises(SettingsError, match="missing"):
        budget.check()


DAYS = st.lists(
    st.tuples(st.floats(0, 2 * DAY_S), st.integers(0, 30), st.sampled_from(CallPriority)),
    max_size=20,
)


@pytest.fixture
def counter() -> Iterator[int]:
    return itertools.count()


@given(daily_calls=st.integers(1, 200), steps=DAYS)
@examples(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_24_hours_have_more_calls_than_the_budget(
    daily_calls: int,
    steps: list[tuple[float, int, CallPriority]],
    tmp_path: Path,
    counter: Iterator[int],
) -> None:
    clock = Clock()
    budget = CallBudget(tmp_path / f"{next(counter)}.json", daily_calls, clock)
    sent: list[float] = []
    for pause_s, wanted, priority in steps:
        clock.now += pause_s
        for _ in range(wanted):
            if budget._count_call(priority) is not None:
                break
            sent.append(clock.now)
    for begin in sent:
        assert sum(begin <= at < begin + DAY_S for at in sent) <= daily_calls


@given(daily_calls=st.integers(1, 25_000))
def test_every_priority_gets_through_one_day(daily_calls: int) -> None:
    budget = CallBudget(Path("unused"), daily_calls)
    for priority in CallPriority:
        assert 1 + priority.value * (budget.burst - 1) <= budget.burst
    assert budget.per_s > 0
