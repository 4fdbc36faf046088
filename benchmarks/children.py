"""A measurement in a process of its own, which prints its figures as JSON in its last line."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TypeVar

import msgspec

from benchmarks.tables import ROOT

T = TypeVar("T")


async def run_child(module: str, arguments: list[str], figures: type[T], timeout_s: float) -> T:
    """Run `python -m MODULE` and return its figures. Raises CalledProcessError,
    TimeoutExpired."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", module, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        timeout=timeout_s,
    )
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=figures)
