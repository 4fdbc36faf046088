"""The coordinator's local journal in SQLite: decisions with their inputs, operator actions, alerts,
and samples of the fleet for plots.

The topic `placement` holds the truth, not the journal. Losing the journal loses only history, so a
fault in it never stops the coordinator."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import aiosqlite

from agents.base import log
from agents.base.errors import JournalError
from agents.core.model.charts import Line, Sample
from agents.core.model.plan import Decided, PlanningFrame
from agents.core.operators.command import Remembered
from agents.core.operators.history import KINDS, Entries, Search
from agents.journal.decisions import (
    DELETE_FRAMES,
    DELETE_TICKS,
    INSERT_FRAME,
    INSERT_TICK,
    OLDEST,
    SCHEMA,
    TOTAL_BYTES,
    pack_frame,
    pack_tick,
)

QUEUE_AT_MOST = 5_000
TICKS_WAITING = 30
TICKS_BYTES = 256_000_000
MAX_NOTE_ROWS = 200_000
PRUNE_EVERY = 2_000
FLUSH_S = 1.0
RETRY_S = 1.0
LOG_EVERY_S = 60.0
PRUNE_TO = 0.95

_NO_DATABASE = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)

_log = log.get_logger("journal")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS notes (
  id INTEGER PRIMARY KEY, ms INTEGER NOT NULL, kind TEXT NOT NULL, who TEXT NOT NULL,
  text TEXT NOT NULL, data TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS notes_by_kind ON notes (kind, id);
CREATE TABLE IF NOT EXISTS kept (
  name TEXT PRIMARY KEY, ms INTEGER NOT NULL, data TEXT NOT NULL
) STRICT;
"""


def _search_conditions(what: Search) -> Iterator[tuple[object, ...]]:
    """SQL conditions, each with the values of its question marks. A row's JSON says what the row is
    about: `lanes`, `nodes`, or one thing as `about`."""
    if what.kind:
        yield "kind = ?", what.kind
    if what.by:
        yield "(who = ? OR who LIKE ? ESCAPE '!')", what.by, _escape_like(what.by) + "@%"
    if what.lane is not None:
        lane = "EXISTS (SELECT 1 FROM json_each(data, '$.lanes') WHERE value = ?)"
        yield f"({lane} OR data ->> '$.about' = ?)", what.lane, what.lane_key
    if what.worker:
        node = "EXISTS (SELECT 1 FROM json_each(data, '$.nodes') WHERE value = ?)"
        yield f"({node} OR data ->> '$.about' = ?)", what.worker, what.worker
    if what.since_ms is not None:
        yield "ms >= ?", what.since_ms


def _escape_like(text: str) -> str:
    """The text with LIKE's special characters escaped."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


_Note: TypeAlias = tuple[int, str, str, str, str]


@dataclass(frozen=True, slots=True)
class _Samples:
    ms: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class _Tick:
    ms: int
    leader_epoch: int
    frame_ms: int
    frame: PlanningFrame
    decided: Decided


class Journal:
    """Rows are queued, and one task writes them. If the queue is full, a new row is dropped and
    counted.

    A file that is not a database is renamed to FILE.broken, and a new one is created. A file that
    cannot be opened or written (a full disk, a missing right) is tried again; `fault` says why,
    empty if all is well, and what is queued meanwhile is lost and counted. Ticks
    (decisions.py) and their frames take up to about `ticks_bytes`; the oldest are removed
    first."""

    def __init__(self, path: Path, ticks_bytes: int = TICKS_BYTES) -> None:
        self._path = path
        self._queue: asyncio.Queue[_Note | _Tick | _Samples] = asyncio.Queue(QUEUE_AT_MOST)
        self._db: aiosqlite.Connection | None = None
        self.fault = ""
        self._logged, self._logged_at = False, float("-inf")
        self.dropped = 0
        self.ticks_dropped = 0
        self._writing: asyncio.Future[None] | None = None
        self._nothing_waits = asyncio.Event()
        self._nothing_waits.set()
        self._ticks_bytes = ticks_bytes
        self._ticks_waiting = 0
        self._ticks_written = 0  # bytes of all ticks and frames in the file
        self._frame: tuple[int, PlanningFrame] | None = None
        self._frame_written: tuple[PlanningFrame, int] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._open_or_replace()
        except (sqlite3.Error, OSError) as e:
            self._note_fault(e)
        return self

    def _note_fault(self, e: Exception) -> None:
        fault = f"{self._path}: {getattr(e, 'strerror', None) or e}"
        # A disk that is nearly full takes small rows and refuses large ones.
        if not self.fault and time.monotonic() - self._logged_at >= LOG_EVERY_S:
            _log.error("journal_write_failed", error=fault)
            self._logged, self._logged_at = True, time.monotonic()
        self.fault = fault

    def _note_written(self) -> None:
        if self.fault and self._logged:
            _log.info("journal_written_again", dropped=self.dropped)
            self._logged = False
        self.fault = ""

    async def _open_or_replace(self) -> None:
        """Raises sqlite3.Error, OSError; nothing is open then."""
        try:
            await self._open_database()
        except sqlite3.DatabaseError as e:
            if e.sqlite_errorcode & 0xFF not in _NO_DATABASE:
                raise
            broken = self._path.with_name(self._path.name + ".broken")
            _log.error(
                "journal_unreadable", path=str(self._path), set_aside=str(broken), error=str(e)
            )
            self._path.rename(broken)
            await self._open_database()

    async def _open_database(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(PermissionError):  # another user's file; the statements below will tell
            self._path.touch(mode=0o600)
            self._path.chmod(
                0o600
            )  # it has people's actions, plans and sites; SQLite's -wal file gets the same mode
        db = await aiosqlite.connect(self._path)
        try:
            await db.execute("PRAGMA journal_mode=WAL")
            await db.execute("PRAGMA synchronous=NORMAL")
            await db.executescript(_SCHEMA + SCHEMA + SAMPLES_SCHEMA)
            await db.commit()
            self._ticks_written = await self._total_bytes(db)
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                await db.close()
            raise
        self._db, self._frame_written = db, None

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._db is not None:
            try:
                async with asyncio.timeout(3):
                    if self._writing is not None and not self._writing.done():
                        await self._writing
                    while not self._queue.empty():
                        await self._write_queued()
            except (TimeoutError, sqlite3.Error) as e:
                _log.warning("journal_not_flushed", rows=self._queue.qsize(), error=repr(e))
            await self._db.close()
            self._db = None

    # Queueing

    def queue_note(
        self, ms: int, kind: str, who: str, text: str, data: Mapping[str, object]
    ) -> None:
        """Queue one row; never waits."""
        self._queue_row((ms, kind, who, text, json.dumps(data, default=str)))

    def queue_samples(self, ms: int, found: tuple[Sample, ...]) -> None:
        """Queue one sample of the fleet; never waits."""
        self._queue_row(_Samples(ms, found))

    def _queue_row(self, row: _Note | _Samples) -> None:
        try:
            self._queue.put_nowait(row)
            self._nothing_waits.clear()
        except asyncio.QueueFull:
            self.dropped += 1
            if self.dropped in (1, 100, 10_000):
                _log.warning("journal_full", dropped=self.dropped)

    def queue_tick(self, ms: int, leader_epoch: int, decided: Decided) -> None:
        """Queue one tick; never waits. It is dropped and counted if TICKS_WAITING ticks wait, the
        queue is full, or there was no frame yet."""
        if decided.frame is not None:
            self._frame = (ms, decided.frame)
        if self._frame is None:
            self._drop_tick("no frame was ever given")
        elif self._ticks_waiting >= TICKS_WAITING or self._queue.full():
            self._drop_tick(f"{self._ticks_waiting} ticks and {self._queue.qsize()} rows wait")
        else:
            self._ticks_waiting += 1
            self._queue.put_nowait(_Tick(ms, leader_epoch, *self._frame, decided))

    def _drop_tick(self, why: str) -> None:
        self.ticks_dropped += 1
        if self.ticks_dropped == 1:
            _log.warning("tick_not_journaled", why=why)

    # Writing and reading

    async def run(self) -> None:
        """Write queued rows until cancelled."""
        written = 0
        while True:
            try:
                if self._db is None:
                    await self._open_or_replace()
                written += await self._write_queued()
                self._note_written()
                if written >= PRUNE_EVERY:
                    written = 0
                    await self._prune_rows()
            except (sqlite3.Error, OSError) as e:
                self._note_fault(e)
                if self._db is None:
                    self._drop_queued()
                await asyncio.sleep(RETRY_S)
            except (
                ValueError,
                OverflowError,
            ) as e:  # a number or text that SQLite cannot store: these rows are lost
                _log.error("journal_rows_refused", error=repr(e)[:300])

    def _drop_queued(self) -> None:
        """Nothing can be written: what waits is lost, so that nobody waits for it."""
        while not self._queue.empty():
            if isinstance(self._queue.get_nowait(), _Tick):
                self._ticks_waiting -= 1
                self.ticks_dropped += 1
            else:
                self.dropped += 1
        self._nothing_waits.set()

    async def _write_queued(self) -> int:
        rows = [await self._queue.get()]
        while not self._queue.empty() and len(rows) < 500:
            rows.append(self._queue.get_nowait())
        self._writing = asyncio.ensure_future(self._write_rows(rows))
        await asyncio.shield(
            self._writing
        )  # a cancellation of `run` loses no rows: __aexit__ waits for this write
        if self._queue.empty():
            self._nothing_waits.set()
        return sum(len(r.samples) if isinstance(r, _Samples) else 1 for r in rows)

    async def _write_rows(self, rows: Sequence[_Note | _Tick | _Samples]) -> None:
        db = self._db
        if db is None:
            raise sqlite3.ProgrammingError("the journal is not open")
        ticks = [r for r in rows if isinstance(r, _Tick)]
        notes = [r for r in rows if isinstance(r, tuple)]
        moments = [
            row
            for r in rows
            if isinstance(r, _Samples)
            for row in rows_from_samples(r.ms, r.samples)
        ]
        self._ticks_waiting -= len(ticks)
        try:
            await db.executemany(
                "INSERT INTO notes (ms, kind, who, text, data) VALUES (?, ?, ?, ?, ?)", notes
            )
            await db.executemany(INSERT_SAMPLE, moments)
            await self._write_ticks(db, ticks)
            await db.commit()
        except (sqlite3.Error, ValueError, OverflowError):
            await db.rollback()
            self.dropped += len(rows) - len(ticks)
            self.ticks_dropped += len(ticks)
            self._frame_written = None
            raise
        if self._ticks_written > self._ticks_bytes:
            await self._prune_ticks(db)

    async def _write_ticks(self, db: aiosqlite.Connection, ticks: Sequence[_Tick]) -> None:
        for tick in ticks:
            try:
                if self._frame_written is None or self._frame_written[0] is not tick.frame:
                    packed = await asyncio.to_thread(
                        pack_frame, tick.frame_ms, tick.leader_epoch, tick.frame
                    )
                    number = (await db.execute(INSERT_FRAME, packed.row)).lastrowid or 0
                    self._ticks_written += packed.bytes
                    self._frame_written = (tick.frame, number)
                number = self._frame_written[1]
                packed = await asyncio.to_thread(
                    pack_tick, tick.ms, number, tick.leader_epoch, tick.decided
                )
            except JournalError as e:
                self._drop_tick(str(e))
            else:
                await db.execute(INSERT_TICK, packed.row)
                self._ticks_written += packed.bytes

    async def _prune_rows(self) -> None:
        if self._db is not None:
            await self._db.execute(
                "DELETE FROM notes WHERE id <= (SELECT max(id) FROM notes) - ?", (MAX_NOTE_ROWS,)
            )
            await self._db.execute(PRUNE_SAMPLES, (MAX_SAMPLE_ROWS,))
            await self._db.commit()

    async def _prune_ticks(self, db: aiosqlite.Connection) -> None:
        """Delete the oldest ticks, down to PRUNE_TO of the limit, and frames that no tick names.
        The newest of both stay."""
        excess = self._ticks_written - PRUNE_TO * self._ticks_bytes
        while excess > 0 and (rows := list(await db.execute_fetchall(OLDEST))):
            sizes = accumulate(size for _, size in rows)
            upto = next(
                (number for (number, _), size in zip(rows, sizes, strict=True) if size >= excess),
                rows[-1][0],
            )
            excess -= sum(size for number, size in rows if number <= upto)
            await db.execute(DELETE_TICKS, (upto,))
            await db.execute(DELETE_FRAMES)
            await db.commit()
        self._ticks_written = await self._total_bytes(db)

    async def _total_bytes(self, db: aiosqlite.Connection) -> int:
        ((total,),) = await db.execute_fetchall(TOTAL_BYTES)
        return int(total)

    async def store_value(self, name: str, ms: int, data: Mapping[str, object]) -> None:
        """Store `data` under `name` for the next process, in place of the previous value. A failure
        is logged."""
        try:
            if self._db is not None:
                row = name, ms, json.dumps(data)
                await self._db.execute(
                    "INSERT OR REPLACE INTO kept (name, ms, data) VALUES (?, ?, ?)", row
                )
                await self._db.commit()
        except sqlite3.Error as e:
            self._note_fault(e)

    async def read_value(self, name: str) -> dict[str, Any]:
        """The value stored last under `name`; empty if there is none or it cannot be read."""
        try:
            rows = (
                []
                if self._db is None
                else list(
                    await self._db.execute_fetchall("SELECT data FROM kept WHERE name = ?", (name,))
                )
            )
            found = json.loads(rows[0][0]) if rows else {}
        except (sqlite3.Error, ValueError) as e:
            _log.error("journal_unread", what=name, error=str(e))
            return {}
        return found if isinstance(found, dict) else {}

    async def search_entries(self, what: Search) -> Entries:
        """One page of entries, newest first, with those that were queued just now. Raises
        JournalError."""
        if self._db is None:
            raise JournalError(f"{self._path}: the journal is not open")
        tests, values = [f"kind IN ({', '.join('?' * len(KINDS))})"], list[object](KINDS)
        for test, *given in _search_conditions(what):
            tests.append(str(test))
            values += given
        where = " AND ".join(tests)
        try:
            await self._wait_until_written()
            ((total,),) = await self._db.execute_fetchall(
                f"SELECT count(*) FROM notes WHERE {where}", values
            )
            pages = max(1, -(-int(total) // what.rows))
            query = (
                f"SELECT ms, kind, who, text FROM notes WHERE {where} "
                "ORDER BY id DESC LIMIT ? OFFSET ?"
            )
            rows = await self._db.execute_fetchall(
                query, [*values, what.rows, (what.page - 1) * what.rows]
            )
        except sqlite3.Error as e:
            raise JournalError(f"{self._path}: the journal cannot be read: {e}") from e
        return Entries(
            int(total),
            what.page,
            pages,
            tuple(Remembered(int(ms), str(w), str(text), str(k)) for ms, k, w, text in rows),
        )

    async def _wait_until_written(self) -> None:
        """Wait until all queued rows are written, but at most FLUSH_S."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await self._nothing_waits.wait()

    async def read_lines(
        self, column: str, names: Sequence[str], since_ms: int, until_ms: int
    ) -> list[Line]:
        """The samples of each name, oldest first. `column`: a column of Sample. Raises
        JournalError."""
        try:
            read = READ.format(column=column)
            return [
                line_from_points(name, await self._select_rows(read, (name, since_ms, until_ms)))
                for name in names
            ]
        except sqlite3.Error as e:
            raise JournalError(f"the journal cannot be read: {e}") from e

    async def worst_lanes(self, column: str, count: int, since_ms: int, until_ms: int) -> list[str]:
        """The `count` lanes (`lane/12`) with the highest value in `column`. Raises JournalError."""
        try:
            found = await self._select_rows(
                WORST.format(column=column), (since_ms, until_ms, count)
            )
        except sqlite3.Error as e:
            raise JournalError(f"the journal cannot be read: {e}") from e
        return [str(name) for (name,) in found]

    async def _select_rows(self, query: str, arguments: tuple[object, ...]) -> list[Any]:
        return [] if self._db is None else list(await self._db.execute_fetchall(query, arguments))


# Samples of the fleet over time, which `plot` draws. The newest MAX_SAMPLE_ROWS are kept: with 32
# lanes, 10 nodes and a sample every 10 s, that is two and a half days.

MAX_SAMPLE_ROWS = 1_000_000
POINTS_AT_MOST = 720  # the most points of a line in a plot

SAMPLES_SCHEMA = """
CREATE TABLE IF NOT EXISTS samples (
  name TEXT NOT NULL, ms INTEGER NOT NULL, rate_eps REAL NOT NULL,
  lag_events INTEGER NOT NULL, p50_ms REAL NOT NULL,
  p99_ms REAL NOT NULL, PRIMARY KEY (name, ms)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS samples_by_ms ON samples (ms);
"""
INSERT_SAMPLE = (
    "INSERT OR REPLACE INTO samples (name, ms, rate_eps, lag_events, p50_ms, p99_ms) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)
PRUNE_SAMPLES = (
    "DELETE FROM samples WHERE ms < (SELECT ms FROM samples ORDER BY ms DESC LIMIT 1 OFFSET ?)"
)
WORST = """SELECT name FROM samples WHERE name GLOB 'lane/*' AND ms BETWEEN ? AND ?
GROUP BY name ORDER BY max({column}) DESC, CAST(substr(name, 6) AS INTEGER) LIMIT ?"""
READ = "SELECT ms, {column} FROM samples WHERE name = ? AND ms BETWEEN ? AND ? ORDER BY ms"


def rows_from_samples(
    ms: int, samples: Iterable[Sample]
) -> list[tuple[str, int, float, int, float, float]]:
    return [(s.name, ms, s.rate_eps, s.lag_events, s.p50_ms, s.p99_ms) for s in samples]


def line_from_points(name: str, found: list[tuple[int, float]]) -> Line:
    """A line for a plot. If there are too many points, each group of neighbours keeps its highest,
    so that peaks stay visible; the last point, which is told as the present one, is kept too."""
    every = -(-len(found) // (POINTS_AT_MOST - 1)) or 1
    kept = [
        max(found[i : i + every], key=lambda point: point[1]) for i in range(0, len(found), every)
    ]
    if kept and kept[-1] != found[-1]:
        kept.append(found[-1])
    return Line(name, tuple(int(ms) for ms, _ in kept), tuple(float(value) for _, value in kept))
