"""The ticks in the journal's file: every plan with its inputs, compressed. This file has the schema
and the reader, which also works while a coordinator writes; store.py writes, over its own
connection.

A frame is stored once, and the ticks that were planned in it name its row. The compressed JSON is
that of core/planning/recording.py."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from agents.base.errors import JournalError
from agents.core.model.plan import Decided, PlanningFrame
from agents.core.planning.recording import frame_to_json, moment_to_json, plan_to_json

LEVEL = 1  # of zlib: level 6 takes five times as long at 10,000 lanes and saves 5 %
ROW_BYTES = 128  # about the size of a row without its blobs
BATCH = 32
BUSY_S = 5.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS frames (
  id INTEGER PRIMARY KEY, ms INTEGER NOT NULL, leader_epoch INTEGER NOT NULL,
  bytes INTEGER NOT NULL, frame BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS ticks (
  id INTEGER PRIMARY KEY, ms INTEGER NOT NULL, frame_id INTEGER NOT NULL,
  leader_epoch INTEGER NOT NULL,
  kind TEXT NOT NULL, numerics TEXT NOT NULL, bytes INTEGER NOT NULL, sha256 BLOB NOT NULL,
  moment BLOB NOT NULL, plan BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS ticks_by_ms ON ticks (ms, bytes);
"""
INSERT_FRAME = "INSERT INTO frames (ms, leader_epoch, bytes, frame) VALUES (?, ?, ?, ?)"
INSERT_TICK = """INSERT INTO ticks
  (ms, frame_id, leader_epoch, kind, numerics, bytes, sha256, moment, plan)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
TOTAL_BYTES = "SELECT (SELECT total(bytes) FROM ticks) + (SELECT total(bytes) FROM frames)"
OLDEST = "SELECT id, bytes FROM ticks WHERE id < (SELECT max(id) FROM ticks) ORDER BY id LIMIT 1000"
DELETE_TICKS = "DELETE FROM ticks WHERE id <= ?"
DELETE_FRAMES = """DELETE FROM frames WHERE id < (SELECT max(id) FROM frames)
AND id < (SELECT frame_id FROM ticks ORDER BY id LIMIT 1)"""  # the oldest tick has the oldest frame

_READ = """SELECT id, ms, frame_id, leader_epoch, kind, numerics, sha256, moment, plan FROM ticks
WHERE id > ? AND id <= ? AND +ms BETWEEN ? AND ? ORDER BY id LIMIT ?"""


class Packed(NamedTuple):
    """A row to insert, and the bytes that it counts for."""

    row: tuple[object, ...]
    bytes: int


def pack_frame(ms: int, leader_epoch: int, frame: PlanningFrame) -> Packed:
    """Takes some ms at 10,000 lanes, so do not call it on an event loop. Raises JournalError, as
    `pack_tick` does."""
    blob = zlib.compress(frame_to_json(frame), LEVEL)
    size = len(blob) + ROW_BYTES
    return Packed((ms, leader_epoch, size, blob), size)


def pack_tick(ms: int, frame_id: int, leader_epoch: int, decided: Decided) -> Packed:
    """The row of one plan, at `ms` (epoch), with its inputs. `frame_id`: the row of its frame.
    Raises JournalError."""
    plan = plan_to_json(decided.plan)
    moment_blob, plan_blob = (
        zlib.compress(moment_to_json(decided.moment), LEVEL),
        zlib.compress(plan, LEVEL),
    )
    size = len(moment_blob) + len(plan_blob) + ROW_BYTES
    return Packed(
        (
            ms,
            frame_id,
            leader_epoch,
            decided.kind,
            decided.numerics,
            size,
            sha256(plan).digest(),
            moment_blob,
            plan_blob,
        ),
        size,
    )


class TickRow(NamedTuple):
    """A row of the table `ticks`. `moment` and `plan` are compressed; `sha256` is the digest of the
    plan's JSON."""

    id: int
    ms: int
    frame_id: int
    leader_epoch: int
    kind: str
    numerics: str
    sha256: bytes
    moment: bytes
    plan: bytes


class Ticks:
    """Reads the ticks of one journal file. Each read is short, so that it never delays the
    checkpoint of the writer's log. Ticks that are pruned meanwhile are skipped."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db, self._path = db, path

    def read_span(self) -> tuple[int, int, int] | None:
        """The times of the first and last tick (epoch ms) and the number of ticks; None if there
        are none."""
        first, last, count = self._select_rows("SELECT min(ms), max(ms), count(*) FROM ticks")[0]
        return (int(first), int(last), int(count)) if count else None

    def count_ticks(self, from_ms: int, to_ms: int) -> int:
        query = "SELECT count(*) FROM ticks WHERE ms BETWEEN ? AND ?"
        return int(self._select_rows(query, from_ms, to_ms)[0][0])

    def read_between(self, from_ms: int, to_ms: int) -> Iterator[TickRow]:
        """The ticks of this span, both ends included, in the order in which they were made."""
        low, high = self._select_rows(
            "SELECT min(id), max(id) FROM ticks WHERE ms BETWEEN ? AND ?", from_ms, to_ms
        )[0]
        at = -1 if low is None else int(low) - 1
        while rows := self._select_rows(_READ, at, high, from_ms, to_ms, BATCH):
            yield from (TickRow(*row) for row in rows)
            at = int(rows[-1][0])

    def read_frame_json(self, number: int) -> bytes:
        """The JSON of a frame. Raises JournalError if it is missing or damaged."""
        rows = self._select_rows("SELECT frame FROM frames WHERE id = ?", number)
        if not rows:
            raise JournalError(f"{self._path}: frame {number} is not there (pruned meanwhile?)")
        return decompress_blob(rows[0][0], f"{self._path}: frame {number}")

    def _select_rows(self, query: str, *values: int) -> list[tuple[Any, ...]]:  # Any: SQL's columns
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as e:
            if "no such table" in str(e):
                raise JournalError(
                    f"{self._path}: a journal without ticks, of an older geolane"
                ) from e
            raise JournalError(f"{self._path}: cannot be read: {e}") from e


def decompress_blob(blob: bytes, what: str) -> bytes:
    """Decompress a blob. Raises JournalError, which names `what`, if it is damaged."""
    try:
        return zlib.decompress(blob)
    except zlib.error as e:
        raise JournalError(f"{what} is damaged: {e}") from e


@contextmanager
def open_ticks(path: Path) -> Iterator[Ticks]:
    """Open a journal for reading only. Raises JournalError if there is no such file or it is not a
    database."""
    if not path.is_file():
        raise JournalError(f"{path}: no such file; name the journal with --journal")
    try:
        db = _connect_read_only(path)
    except sqlite3.Error as e:
        raise JournalError(f"{path}: cannot be read: {e}") from e
    with closing(db):
        yield Ticks(db, path)


def _connect_read_only(path: Path) -> sqlite3.Connection:
    """Connect read-only. If we may not create the files that SQLite's shared log needs, and there
    is no log, nobody writes: then the file alone is complete and is opened as immutable."""
    uri = path.resolve().as_uri()
    db = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=BUSY_S)
    try:
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError:
        db.close()
        if path.with_name(path.name + "-wal").exists():
            raise
        db = sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True)
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error:
        db.close()
        raise
    return db
