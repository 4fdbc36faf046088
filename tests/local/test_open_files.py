"""A shell that lets a process open too few files is told so before any server starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from agents.local.up import MIN_FILES


def limited(limit: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = ["sh", "-c", f'ulimit {limit} && exec "$@"', "sh", sys.executable, *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def test_too_few_open_files_are_told_before_anything_starts(tmp_path: Path) -> None:
    done = limited("-n 64", "-m", "agents", "up", "--folder", str(tmp_path / "run"))
    assert done.returncode == 2, done.stderr
    assert (
        f"may open 64 files here, but `geolane up` needs at least {MIN_FILES:,}: first run "
        "`ulimit -n 4096`" in done.stderr
    )
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_soft_limit_that_is_too_low_is_raised() -> None:
    code = """
import resource
from agents.local.up import require_open_files
require_open_files()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    for soft, then in ((64, MIN_FILES), (MIN_FILES + 1, MIN_FILES + 1)):
        done = limited(f"-Sn {soft}", "-c", code)
        assert done.stdout.strip() == str(then), done.stderr
