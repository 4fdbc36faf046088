"""The key that ends a live view, on a real terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
import termios

import pytest

from agents.observe.dashboard.keys import wait_for_quit


async def test_q_ends_it_other_keys_do_not_and_the_terminal_is_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        before = termios.tcgetattr(terminal)
        waiting = asyncio.create_task(wait_for_quit())
        async with asyncio.timeout(30):
            while termios.tcgetattr(terminal) == before:
                await asyncio.sleep(0.01)
            os.write(ours, b"x\n")
            await asyncio.sleep(0.05)
            assert not waiting.done()
            os.write(ours, b"q")
            await waiting
        assert termios.tcgetattr(terminal) == before
    os.close(ours)


async def test_without_a_terminal_nothing_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nothing:  # noqa: ASYNC230 - a device that never blocks
        monkeypatch.setattr(sys, "stdin", nothing)
        waiting = asyncio.create_task(wait_for_quit())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
