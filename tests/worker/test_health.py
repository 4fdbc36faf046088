"""Presence is health (PROTOCOL 4): when a worker takes lanes, keeps them, or should lose them."""

from __future__ import annotations

import asyncio
import threading

import pytest

from agents.base.worker_thread import WorkThread
from agents.core.model.messages import Health
from agents.worker.health import FULL_FOR, STARTING, Probe, Vitals, WorkerHealth, judge_health

CALM, BUSY, NARROW = Vitals(0.2, 60, 0.5), Vitals(0.99, 60, 0.5), Vitals(0.2, 60, 0.02)


def look(
    before: WorkerHealth,
    vitals: Vitals,
    *,
    leased: bool = True,
    draining: bool = False,
    lanes: int = 3,
    faults: int = 0,
) -> WorkerHealth:
    return judge_health(
        before, vitals, leased=leased, draining=draining, lanes=lanes, faults=faults
    )


READY = look(STARTING, CALM)


def test_ready_once_leased() -> None:
    assert look(STARTING, CALM, leased=False) == STARTING
    assert (READY.health, READY.state) == (Health.AVAILABLE, "ready")
    assert "1 stopped" in look(READY, CALM, faults=1).status


def test_without_kafka_it_takes_no_lanes() -> None:
    now = judge_health(
        *(STARTING, CALM),
        leased=True,
        draining=False,
        lanes=0,
        faults=0,
        unready="cannot use Kafka",
    )
    assert now == WorkerHealth(Health.DND, "starting", "cannot use Kafka")


def test_draining_says_what_is_left() -> None:
    assert look(READY, CALM, draining=True) == WorkerHealth(
        Health.DND, "draining", "draining: 3 lanes left"
    )
    assert look(READY, CALM, draining=True, lanes=0).status == "drained"


def test_full_only_after_a_while_and_until_it_is_calm() -> None:
    now = READY
    for _ in range(FULL_FOR - 1):
        now = look(now, BUSY)
        assert now.health is Health.AVAILABLE
    now = look(now, BUSY)
    assert (now.health, now.state) == (Health.DND, "full")
    now = look(now, Vitals(0.9, 60, 0.5))
    assert now.state == "full"
    assert look(now, CALM).state == "ready"


def test_a_machine_without_memory_should_lose_its_lanes() -> None:
    now = look(READY, NARROW, draining=True)
    assert now.health is Health.XA
    assert look(now, Vitals(0.1, 60, 0.05)).health is Health.XA
    assert look(now, CALM).health is Health.AVAILABLE


def test_the_probe_sees_this_process() -> None:
    vitals = Probe().read_vitals()
    assert vitals.mem_mb > 10
    assert 0 < vitals.free < 1


async def test_the_thread_answers_in_order_and_hands_on_errors() -> None:
    thread = WorkThread("test")
    jobs = [
        asyncio.create_task(thread.run(lambda i=i: (i, threading.current_thread().name)))  # type: ignore[misc]
        for i in range(5)
    ]
    assert await asyncio.gather(*jobs) == [(i, "test") for i in range(5)]
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 / 0)
    thread.stop()


async def test_a_job_nobody_waits_for_disturbs_nobody() -> None:
    thread, go = WorkThread("test"), threading.Event()
    waiting = asyncio.create_task(thread.run(lambda: go.wait(10)))
    await asyncio.wait([waiting], timeout=0.01)
    waiting.cancel()
    go.set()
    assert await thread.run(lambda: 7) == 7
    thread.stop()
