"""What a person sees while work goes on, on a real terminal and elsewhere."""

from __future__ import annotations

import os
import pty
import sys

import pytest

from agents.base.progress import line_of_waiting


def read_until(terminal: int, text: bytes) -> bytes:
    found = b""
    while text not in found:
        found += os.read(terminal, 4096)
    return found


@pytest.mark.timeout(30)
def test_what_is_waited_for_stands_below_the_lines_until_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    running = {"kafka round trips"}
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        with line_of_waiting(lambda: f"checking {running}") as say:
            read_until(ours, b"checking {'kafka round trips'}")
            say("\x1b[32mok\x1b[0m  " + "a" * 200)
            assert b"a" * 200 in read_until(ours, b"checking")
            running.clear()
            read_until(ours, b"checking set()")
        terminal.write("done")
        terminal.flush()
        assert b"checking" not in read_until(ours, b"done").rpartition(b"\x1b[2K")[2]
    os.close(ours)


def test_elsewhere_there_are_only_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with line_of_waiting(lambda: "checking") as say:
        say("ok")
    assert capsys.readouterr().out == "ok\n"
