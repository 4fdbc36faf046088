"""All tests: `python -m tests`. Those that start servers of their own and wait more than they
compute run beside all others, in a pytest of their own; what it says comes when the others are
done."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PYTEST = (sys.executable, "-m", "pytest", "--durations=10")
OTHERS = (*PYTEST, "-m", "not stack")
STACKS = (*PYTEST, "-vv", "--maxfail=10", "-m", "stack")

ROOT = Path(__file__).parents[1]
OURS = ("agents", "plugins", "kernels", "ejabberd", "tests", "benchmarks")
LONG_LINES = 600
LONGEST_S = 45 * 60.0  # both together take 15 minutes on two cores
ENDING_S = 60.0  # after Ctrl-C, which a test may swallow


def long_files() -> Iterator[str]:
    """Files of more than LONG_LINES lines. They are reported, not forbidden."""
    for path in sorted(path for top in OURS for path in (ROOT / top).rglob("*.py")):
        lines = path.read_text("utf-8").count("\n")
        if lines > LONG_LINES:
            yield f"{path.relative_to(ROOT)} ({lines})"


def wait_for(pytest: subprocess.Popen[bytes], until: float, said: BinaryIO | None = None) -> int:
    """Copy what it says into `said` to standard output until it ends. At the time `until` it is
    told to end: it then prints what each of its threads does. Returns its exit code."""
    told = False
    while (code := pytest.poll()) is None:
        copy(said)
        if time.monotonic() > until and not told:
            print("The tests have not ended in time; they end now:", flush=True)
            pytest.send_signal(signal.SIGABRT)  # pytest's faulthandler prints all stacks
            told = True
        time.sleep(0.2)
    copy(said)
    return code


def copy(said: BinaryIO | None) -> None:
    """What is new in `said` goes to standard output."""
    if said is not None and (new := said.read()):
        sys.stdout.buffer.write(new)
        sys.stdout.flush()


def main() -> int:
    print(f"More than {LONG_LINES} lines: {', '.join(long_files()) or 'no file'}", flush=True)
    with tempfile.NamedTemporaryFile() as out, Path(out.name).open("rb") as said:
        stacks = subprocess.Popen(STACKS, stdout=out, stderr=subprocess.STDOUT)
        others = subprocess.Popen(OTHERS)

        def wait_for_both(until: float) -> int:
            codes = [wait_for(others, until)]
            print("Those with servers of their own:", flush=True)
            codes.append(wait_for(stacks, until, said))
            return codes[0] or codes[1]

        try:
            return wait_for_both(time.monotonic() + LONGEST_S)
        except KeyboardInterrupt:  # it came to both, and each ends its servers itself
            return wait_for_both(time.monotonic() + ENDING_S)


if __name__ == "__main__":
    sys.exit(main())
