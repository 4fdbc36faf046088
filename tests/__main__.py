"""All tests: `python -m tests`. They run in parts, three at a time, since much of their time is
waiting: the long ones first, those that only compute where one has ended. Of the parts that run,
the first is shown as it goes.

A test that fails is tried once more, since so many beside each other on a slow machine are late at
times; the summary names it (RERUN). Records that are missing or there twice (NotOnceError) are no
question of speed: such a test has failed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.once import NotOnceError

NEVER_AGAIN = f"^{NotOnceError.__name__}: "
AGAIN = ("--reruns=1", f"--rerun-except={NEVER_AGAIN}", "-rfER")
PYTEST = (sys.executable, "-m", "pytest", "--durations=10", *AGAIN)
AT_ONCE = 3

STACKS, SHARED, ANALYTICS = "tests/stack", "tests/stack/shared", "tests/analytics"
APART = (f"{STACKS}/test_flink.py", f"{STACKS}/test_existing_servers.py")
"""Stacks that run with Flink, which one of them needs."""
CORE = "tests/core"
COMPUTING = (
    CORE,
    "tests/base",
    "tests/benchmarks",
    "tests/geodata",
    "tests/handover_model",
    "tests/kernels",
    "tests/plugins",
)
"""Folders whose tests start no server."""


def without(*paths: str) -> tuple[str, ...]:
    return tuple(f"--ignore={path}" for path in paths)


PARTS = {
    "With servers that all share": (
        *(*PYTEST, "-m", "not stack"),
        *without(STACKS, ANALYTICS, *COMPUTING),
    ),
    "With stacks of their own": (
        *(*PYTEST, "-vv", "--maxfail=10", STACKS),
        *without(SHARED, *APART),
    ),
    "With Flink": (*PYTEST, "-vv", ANALYTICS, *APART),
    "With servers of their own": (
        *(*PYTEST, "-vv", "-m", "stack"),
        *without(STACKS, ANALYTICS, *COMPUTING),
    ),
    "With a stack that they share": (*PYTEST, "-vv", "--maxfail=10", SHARED),
    "Without a server, the core": (*PYTEST, CORE),
    "Without a server": (*PYTEST, *COMPUTING[1:]),
}
"""Title, and command."""

ROOT = Path(__file__).parents[1]
OURS = ("agents", "plugins", "kernels", "ejabberd", "tests", "benchmarks")
LONG_LINES = 600
LONGEST_S = 45 * 60.0
ENDING_S = 60.0  # after Ctrl-C, which a test may swallow


def long_files() -> Iterator[str]:
    """Files of more than LONG_LINES lines. They are reported, not forbidden."""
    for path in sorted(path for top in OURS for path in (ROOT / top).rglob("*.py")):
        lines = path.read_text("utf-8").count("\n")
        if lines > LONG_LINES:
            yield f"{path.relative_to(ROOT)} ({lines})"


class Part:
    """A command that runs beside others. `code`: its exit status, once it is over."""

    def __init__(self, title: str, command: Sequence[str]) -> None:
        self._title = title
        self._out = tempfile.TemporaryFile()  # noqa: SIM115  closed when we end
        self._shown = 0
        self._process = subprocess.Popen(command, stdout=self._out, stderr=subprocess.STDOUT)

    @property
    def is_over(self) -> bool:
        return self._process.poll() is not None

    @property
    def code(self) -> int:
        return self._process.returncode

    def show(self) -> None:
        """What is new of its output goes to standard output."""
        if self._title:
            print(f"{self._title}:", flush=True)
            self._title = ""
        while new := os.pread(self._out.fileno(), 1 << 16, self._shown):
            self._shown += len(new)
            sys.stdout.buffer.write(new)
        sys.stdout.flush()

    def abort(self) -> None:
        """Pytest's faulthandler prints the stacks of all threads."""
        self._process.send_signal(signal.SIGABRT)


def run_parts(waiting: dict[str, Sequence[str]], started: list[Part], until: float) -> int:
    """Start what waits, and show each part, until all are over. At the time `until` they are told
    to end. Returns the worst exit status."""
    shown, told = 0, False
    while waiting or shown < len(started):
        running = [part for part in started if not part.is_over]
        free = AT_ONCE - len(running)
        started += [Part(title, waiting.pop(title)) for title in list(waiting)[:free]]
        if time.monotonic() > until and not told:
            print("The tests have not ended in time; they end now:", flush=True)
            waiting.clear()
            for part in running:
                part.abort()
            told = True
        while shown < len(started):
            over = started[shown].is_over
            started[shown].show()
            if not over:
                break
            shown += 1
        time.sleep(0.2)
    return max((abs(part.code) for part in started), default=0)


def main() -> int:
    print(f"More than {LONG_LINES} lines: {', '.join(long_files()) or 'no file'}", flush=True)
    waiting: dict[str, Sequence[str]] = dict(PARTS)
    started: list[Part] = []
    try:
        return run_parts(waiting, started, time.monotonic() + LONGEST_S)
    except KeyboardInterrupt:  # it came to all of them, and each ends its servers itself
        waiting.clear()
        return run_parts(waiting, started, time.monotonic() + ENDING_S)


if __name__ == "__main__":
    sys.exit(main())
