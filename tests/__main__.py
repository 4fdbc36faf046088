"""All tests: `python -m tests`. Those that start servers of their own and wait more than they
compute run beside all others, each in a pytest of its own; what they said comes when the others are
done."""

from __future__ import annotations

import subprocess
import sys
import tempfile

PYTEST = (sys.executable, "-m", "pytest", "--durations=10")


def main() -> int:
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
