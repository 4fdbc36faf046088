"""All tests: `python -m tests`. They run in three parts side by side, since much of their time is
waiting: those with whole stacks, those with other servers of their own or Flink, and all others.
What the first two say comes when the others are done.

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
STACKS, ANALYTICS = "tests/stack", "tests/analytics"
OTHERS = (*PYTEST, "-m", "not stack", f"--ignore={ANALYTICS}")
APART = (f"{STACKS}/test_flink.py", f"{STACKS}/test_existing_servers.py")
"""Stacks that run in the third part, so that all three take about as long."""
WITH_STACKS = (*PYTEST, "-vv", "--maxfail=10", STACKS, *(f"--ignore={file}" for file in APART))
WITH_FLINK = (*PYTEST, "-vv", ANALYTICS, *APART)
WITH_SERVERS = (*PYTEST, "-vv", "-m", "stack", f"--ignore={STACKS}", f"--ignore={ANALYTICS}")

ROOT = Path(__file__).parents[1]
OURS = ("agents", "plugins", "kernels", "ejabberd", "tests", "benchmarks")
LONG_LINES = 600
LONGEST_S = 45 * 60.0  # all together take 15 minutes on two cores
ENDING_S = 60.0  # after Ctrl-C, which a test may swallow


def long_files() -> Iterator[str]:
    """Files of more than LONG_LINES lines. They are reported, not forbidden."""
    for path in sorted(path for top in OURS for path in (ROOT / top).rglob("*.py")):
        lines = path.read_text("utf-8").count("\n")
        if lines > LONG_LINES:
            yield f"{path.relative_to(ROOT)} ({lines})"


class Part:
    """Commands that run one after the other, beside other parts. `code`: the worst exit status."""

    def __init__(self, title: str, *commands: Sequence[str]) -> None:
        self._title, self._commands = title, list(commands)
        self._out = tempfile.TemporaryFile()  # noqa: SIM115  closed when we end
        self._shown = self._code = 0
        self._running: subprocess.Popen[bytes] | None = None
        self.is_over()

    def is_over(self) -> bool:
        """Whether all its commands have ended. Starts the next one when one has."""
        if self._running is not None:
            if (code := self._running.poll()) is None:
                return False
            self._code = self._code or code
            self._running = None
        if not self._commands:
            return True
        command = self._commands.pop(0)
        self._running = subprocess.Popen(command, stdout=self._out, stderr=subprocess.STDOUT)
        return False

    @property
    def code(self) -> int:
        return self._code

    def show(self) -> None:
        """What is new of its output goes to standard output."""
        if self._title:
            print(f"{self._title}:", flush=True)
            self._title = ""
        while new := os.pread(self._out.fileno(), 1 << 16, self._shown):
            self._shown += len(new)
            sys.stdout.buffer.write(new)
        sys.stdout.flush()

    def start_no_more(self) -> None:
        """The command that runs is its last."""
        self._commands.clear()

    def abort(self) -> None:
        """Pytest's faulthandler prints the stacks of all threads."""
        self.start_no_more()
        if self._running is not None:
            self._running.send_signal(signal.SIGABRT)


def wait_for(parts: Sequence[Part], until: float) -> int:
    """Show what each says, one part after the other, until all have ended. At the time `until` they
    are told to end. Returns the worst exit status."""
    told = False
    for part in parts:
        while part in (running := [p for p in parts if not p.is_over()]):
            part.show()
            if time.monotonic() > until and not told:
                print("The tests have not ended in time; they end now:", flush=True)
                for p in running:
                    p.abort()
                told = True
            time.sleep(0.2)
        part.show()
    return max((abs(p.code) for p in parts), default=0)


def main() -> int:
    print(f"More than {LONG_LINES} lines: {', '.join(long_files()) or 'no file'}", flush=True)
    parts = [
        Part("All others", OTHERS),
        Part("Those with whole stacks", WITH_STACKS),
        Part("Those with Flink, or servers of their own", WITH_FLINK, WITH_SERVERS),
    ]
    try:
        return wait_for(parts, time.monotonic() + LONGEST_S)
    except KeyboardInterrupt:  # it came to all of them, and each ends its servers itself
        for part in parts:
            part.start_no_more()
        return wait_for(parts, time.monotonic() + ENDING_S)


if __name__ == "__main__":
    sys.exit(main())
