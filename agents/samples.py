"""The fleet in numbers over time, in the journal's file: what `plot` draws. The journal (journal.py) writes; what is here is the shape.

No more than `ROWS_AT_MOST` are kept, the newest: with 32 lanes and 10 nodes a sample each 10 s, that is two and a half days."""

from __future__ import annotations

from collections.abc import Iterable

from agents.core.pictures import Line, Sample

ROWS_AT_MOST = 1_000_000
POINTS_AT_MOST = 720  # of a line that is drawn

SCHEMA = """
CREATE TABLE IF NOT EXISTS samples (
  name TEXT NOT NULL, ms INTEGER NOT NULL, rate_eps REAL NOT NULL, lag_events INTEGER NOT NULL, p50_ms REAL NOT NULL,
  p99_ms REAL NOT NULL, PRIMARY KEY (name, ms)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS samples_by_ms ON samples (ms);
"""
INSERT = "INSERT OR REPLACE INTO samples (name, ms, rate_eps, lag_events, p50_ms, p99_ms) VALUES (?, ?, ?, ?, ?, ?)"
PRUNE = "DELETE FROM samples WHERE ms < (SELECT ms FROM samples ORDER BY ms DESC LIMIT 1 OFFSET ?)"
WORST = """SELECT name FROM samples WHERE name GLOB 'lane/*' AND ms BETWEEN ? AND ?
GROUP BY name ORDER BY max({column}) DESC, name LIMIT ?"""
READ = "SELECT ms, {column} FROM samples WHERE name = ? AND ms BETWEEN ? AND ? ORDER BY ms"


def rows(ms: int, samples: Iterable[Sample]) -> list[tuple[str, int, float, int, float, float]]:
    return [(s.name, ms, s.rate_eps, s.lag_events, s.p50_ms, s.p99_ms) for s in samples]


def line(name: str, found: list[tuple[int, float]]) -> Line:
    """Of too many points the highest of each few is kept: what stood out goes on standing out."""
    every = -(-len(found) // POINTS_AT_MOST) or 1
    kept = [max(found[i : i + every], key=lambda point: point[1]) for i in range(0, len(found), every)]
    return Line(name, tuple(int(ms) for ms, _ in kept), tuple(float(value) for _, value in kept))
