"""What a process says to systemd's socket, and what signals do, without servers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from agents.base.systemd_notify import Service
from tests.admin.systemd.support import Manager

_HEAD = """
import asyncio, os, sys, time
from agents.base import log; from agents.base import supervisor
from agents.base.systemd_notify import Service
log.setup("trial")
service = Service.from_environment(os.environ)
async def main():
    service.notify_ready("works")
"""
_TAIL = """
sys.exit(supervisor.run(main, stop_s=0.5, service=service))
"""


def script(main: str) -> list[str]:
    return [sys.executable, "-c", _HEAD + textwrap.indent(textwrap.dedent(main), "    ") + _TAIL]


async def test_ready_status_and_stopping_are_told_in_order(tmp_path: Path) -> None:
    async with Manager(tmp_path / "notify") as m:
        p = await m.start(
            script(
                "service.notify_status('works'); service.notify_status('busy'); "
                "await asyncio.sleep(60)"
            ),
            tmp_path / "log",
        )
        await m.hear("STATUS=busy")
        p.terminate()
        assert await p.wait() == 0
        await m.hear("STOPPING=1")
        assert m.said == [
            "READY=1",
            "STATUS=works",
            "STATUS=busy",
            "STOPPING=1",
            "EXTEND_TIMEOUT_USEC=500000",
        ]


async def test_a_loop_that_turns_says_so_twice_in_the_time_allowed(tmp_path: Path) -> None:
    async with Manager(tmp_path / "notify", watchdog_s=0.4) as m:
        await m.start(script("await asyncio.sleep(60)"), tmp_path / "log")
        await m.until(lambda: m.beats >= 5, "five signs of life")


async def test_a_loop_that_hangs_says_nothing_more_and_the_watchdogs_signal_shows_where(
    tmp_path: Path,
) -> None:
    async with Manager(tmp_path / "notify", watchdog_s=0.4) as m:
        main = (
            "await asyncio.sleep(1)\nservice.notify_status('hangs')\n"
            "time.sleep(60)  # it hangs here"
        )
        p = await m.start(script(main), tmp_path / "log")
        await m.hear("STATUS=hangs")
        signs = m.beats
        assert signs >= 2
        await asyncio.sleep(3 * m.watchdog_s)
        assert m.beats <= signs + 1
        p.send_signal(signal.SIGABRT)
        assert await p.wait() == -signal.SIGABRT
        assert "in main" in (tmp_path / "log").read_text("utf-8")


async def test_what_is_not_ready_yet_asks_for_more_time_as_long_as_its_loop_turns(
    tmp_path: Path,
) -> None:
    service = Service(str(tmp_path / "notify"), 0.4)
    async with Manager(tmp_path / "notify") as m:
        beat = asyncio.create_task(service.notify_watchdog())
        await m.until(lambda: m.said.count("EXTEND_TIMEOUT_USEC=400000") >= 3, "it asks again")
        service.notify_ready("works")
        asked = m.said.count("EXTEND_TIMEOUT_USEC=400000")
        await m.until(lambda: len(m.said) > 3 * asked + 4, "it is watched")
        beat.cancel()
        assert m.said.count("EXTEND_TIMEOUT_USEC=400000") == asked


async def test_ready_is_told_once_the_socket_is_there(tmp_path: Path) -> None:
    service = Service(str(tmp_path / "notify"), 0.2)
    service.notify_ready("works")
    async with Manager(tmp_path / "notify") as m:
        beat = asyncio.create_task(service.notify_watchdog())
        await m.hear("READY=1")
        beat.cancel()


def test_the_variables_are_taken_and_those_for_another_process_count_for_nothing() -> None:
    env = {
        "NOTIFY_SOCKET": "@x",
        "WATCHDOG_USEC": "2000000",
        "WATCHDOG_PID": str(os.getpid()),
        "PATH": "/bin",
    }
    mine, others = (
        Service.from_environment(dict(env)),
        Service.from_environment(env | {"WATCHDOG_PID": "1"}),
    )
    assert (mine.address, mine.watchdog_s, others.watchdog_s) == ("@x", 2.0, 0.0)
    Service.from_environment(env)
    assert env == {"PATH": "/bin"}


_HANDS_OVER = """
    await service.wait_until_leaving({drain_s})
    service.notify_status("hands over")
    try:
        await asyncio.sleep({takes_s})
        service.notify_status("handed over")
    finally:
        service.notify_status("ends")
"""


@pytest.mark.parametrize(
    ("drain_s", "takes_s", "signals", "said"),
    [
        (30, 0.2, 1, ["hands over", "handed over", "ends"]),
        (0.3, 60, 1, ["hands over", "ends"]),
        (30, 60, 2, ["hands over", "ends"]),
        (0, 60, 1, []),
    ],
    ids=["within its time", "past its time", "a second signal", "no time is given"],
)
async def test_told_to_stop_it_hands_over_first(
    tmp_path: Path, drain_s: float, takes_s: float, signals: int, said: list[str]
) -> None:
    async with Manager(tmp_path / "notify") as m:
        p = await m.start(
            script(_HANDS_OVER.format(drain_s=drain_s, takes_s=takes_s)), tmp_path / "log"
        )
        await m.hear("READY=1")
        for _ in range(signals):
            p.terminate()
            await m.hear("STATUS=hands over" if drain_s else "STOPPING=1")
        async with asyncio.timeout(10):
            assert await p.wait() == 0
        for text in said:
            await m.hear(f"STATUS={text}")
        assert [line for line in m.said if line.startswith("STATUS=")][1:] == [
            f"STATUS={text}" for text in said
        ]


async def test_who_has_nobody_to_hand_over_to_is_given_no_time() -> None:
    service = Service(hands_over=False)
    waits = asyncio.create_task(service.wait_until_leaving(30))
    await asyncio.sleep(0)
    assert service.drain_s == 0
    waits.cancel()
