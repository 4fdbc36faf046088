"""What the benchmarks' pages share: the machine in words, a spread, a row of results.csv."""

from __future__ import annotations

import csv
import os
import platform
import statistics
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "benchmarks" / "results.csv"
COLUMNS = ["time", "contestant", "events", "seconds", "cpu_s", "rss_mb", "load1", "cores"]
VECTORS = (
    ("avx512f", "AVX-512, 16 float32 wide"),
    ("avx2", "AVX2, 8 float32 wide"),
    ("asimd", "NEON, 4 float32 wide"),
)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _cpuinfo(*keys: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() in keys), ""
    )


def vector() -> str:
    """The widest vectors of this machine."""
    flags = _cpuinfo("flags", "Features").split()
    return next((name for flag, name in VECTORS if flag in flags), "no vectors known")


def machine() -> str:
    model = _cpuinfo("model name") or platform.machine()
    return (
        f"{os.cpu_count()} cores ({model}, {vector()}), Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f} at the end"
    )


def spread(values: Iterable[float], form: str = ",.2f") -> str:
    """Median (lowest to highest)."""
    found = list(values)
    middle = format(statistics.median(found), form)
    return middle if len(found) == 1 else f"{middle} ({min(found):{form}} to {max(found):{form}})"


def append(rows: Iterable[tuple[str, int, float, float, float]]) -> None:
    """Appends rows to results.csv, each (contestant, events or whatever it counts, seconds, CPU
    seconds, peak memory in MB)."""
    is_new = not ROWS.exists()
    with ROWS.open("a", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        if is_new:
            out.writerow(COLUMNS)
        for name, count, seconds, cpu_s, rss_mb in rows:
            figures = [
                f"{seconds:.6g}",
                f"{cpu_s:.6g}",
                f"{rss_mb:.0f}",
                f"{os.getloadavg()[0]:.1f}",
                os.cpu_count(),
            ]
            out.writerow([now(), name, count, *figures])
