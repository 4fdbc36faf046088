"""Children are kept alive, die with us, and end when told."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from agents.local.servers.children import LOG_BYTES, Child, Family, inherited_environment
from agents.local.servers.folder import RunFolder, process_start_time

# A process that waits as ours do: `geolane watch` on a server that is not there would do, but this
# is what is left of it.
_WAITS = (
    "import agents.base.supervisor as s, asyncio; s.die_with_parent(); s.run(lambda: "
    "asyncio.sleep(60))"
)


async def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come"
        await asyncio.sleep(0.01)


async def test_a_child_that_ends_is_started_again_and_its_log_kept(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as folder:
        child = Child(folder, "asks", ["--version"], {})
        family = Family()
        family.start(child)
        await until(lambda: child.starts >= 3)
        await family.stop()
        assert "geolane" in child.log_file.read_text()
        assert not list(folder.pids.iterdir())


async def test_a_log_that_grows_too_long_begins_anew(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as folder:
        child = Child(folder, "talks", [], {})
        child.log_file.write_bytes(b"x" * (LOG_BYTES + 1))
        child.trim_log()
        assert child.log_file.stat().st_size == 0
        assert child.log_file.with_suffix(".log.1").stat().st_size == LOG_BYTES + 1


def test_a_child_dies_with_its_parent_however_that_dies() -> None:
    parent_code = (
        "import os, subprocess, sys, time\n"
        f"c = subprocess.Popen([sys.executable, '-c', {_WAITS!r}], env=os.environ | "
        f"{{'GEOLANE_PARENT': str(os.getpid())}})\n"
        "print(c.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        deadline = time.monotonic() + 20
        # Its handler for SIGTERM shows that it has come past die_with_parent().
        while not int(_status(child, "SigCgt"), 16) & (1 << (signal.SIGTERM - 1)):
            assert time.monotonic() < deadline
        parent.kill()
        parent.wait()
        while process_start_time(child):
            assert time.monotonic() < deadline


def _status(pid: int, field: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return line.partition(":")[2].strip()
    return "0"


def test_the_mark_of_a_parent_that_is_gone_ends_the_child_at_once() -> None:
    env = os.environ | {"GEOLANE_PARENT": "1"}
    done = subprocess.run([sys.executable, "-c", _WAITS], env=env, timeout=20, check=False)
    assert done.returncode == 1


def test_a_child_inherits_everything_but_settings() -> None:
    environ = {
        "PATH": "/bin",
        "GEOLANE_KAFKA__BOOTSTRAP": "elsewhere:1",
        "CREDENTIALS_DIRECTORY": "/run/credentials/x",
    }
    assert set(inherited_environment(environ)) == {"PATH", "CREDENTIALS_DIRECTORY"}
