"""All tests: `python -m tests`. Those that start servers of their own and wait more than they
compute run beside all others, each in a pytest of its own; what they said comes when the others are
done."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PYTEST = (sys.executable, "-m", "pytest", "--durations=10")

ROOT = Path(__file__).parents[1]
OURS = ("agents", "plugins", "kernels", "ejabberd", "tests", "benchmarks")
LONG_LINES = 600


def long_files() -> Iterator[str]:
    """Files of more than LONG_LINES lines. They are reported, not forbidden."""
    for path in sorted(path for top in OURS for path in (ROOT / top).rglob("*.py")):
        lines = path.read_text("utf-8").count("\n")
        if lines > LONG_LINES:
            yield f"{path.relative_to(ROOT)} ({lines})"


def main() -> int:
    print(f"More than {LONG_LINES} lines: {', '.join(long_files()) or 'no file'}", flush=True)
    with tempfile.TemporaryFile() as said:
        stacks = subprocess.Popen([*PYTEST, "-m", "stack"], stdout=said, stderr=subprocess.STDOUT)
        try:
            others = subprocess.run([*PYTEST, "-m", "not stack"], check=False).returncode
            print("Those with servers of their own:", flush=True)
            code = stacks.wait()
        finally:  # Ctrl-C comes to both; it ends its servers itself
            stacks.wait()
            said.seek(0)
            sys.stdout.buffer.write(said.read())
    return others or code


if __name__ == "__main__":
    sys.exit(main())
