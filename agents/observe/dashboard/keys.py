"""The key `q` ends a live view, as Ctrl-C does."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty

from agents.base.standard_streams import watch_stdin

END = b"qQ"


async def wait_for_quit() -> None:
    """Return when `q` is pressed; without a terminal on standard input, never. Keys are read one by
    one and not shown until then; Ctrl-C still interrupts."""
    if not sys.stdin.isatty():
        await asyncio.Event().wait()
    fd, loop, pressed = sys.stdin.fileno(), asyncio.get_running_loop(), asyncio.Event()

    def read_keys() -> None:
        keys = os.read(fd, 100)
        if not keys:  # the terminal is gone
            loop.remove_reader(fd)
        elif set(keys) & set(END):
            pressed.set()

    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        watch_stdin(read_keys)
        await pressed.wait()
    finally:
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
