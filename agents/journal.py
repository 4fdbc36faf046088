"""The coordinator's local journal in SQLite: decisions, operator actions, alerts, and the fleet in numbers for plots (DESIGN 8).

It is a memory, not the truth: that is the topic `placement`. Losing it loses history only, so it never stops the coordinator."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import aiosqlite

from agents import log
from agents.core.operators.commands import Remembered

QUEUE_AT_MOST = 5_000
ROWS_AT_MOST = 200_000
PRUNE_EVERY = 2_000

_log = log.get("journal")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS notes (
  id INTEGER PRIMARY KEY, ms INTEGER NOT NULL, kind TEXT NOT NULL, who TEXT NOT NULL, text TEXT NOT NULL, data TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS notes_by_kind ON notes (kind, id);
"""


class Journal:
    """Rows are queued and written by one task; when the queue is full the newest is dropped and counted.

    A file that is no database is set aside under the name FILE.broken, and a new one begun."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: asyncio.Queue[tuple[int, str, str, str, str]] = asyncio.Queue(QUEUE_AT_MOST)
        self._db: aiosqlite.Connection | None = None
        self.dropped = 0

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except sqlite3.DatabaseError as e:
            broken = self._path.with_name(self._path.name + ".broken")
            _log.error("journal_unreadable", path=str(self._path), set_aside=str(broken), error=str(e))
            if self._db is not None:
                await self._db.close()
            self._path.rename(broken)
            await self._open()
        return self

    async def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._db = await aiosqlite.connect(self._path)
        await self._db.execute("PRAGMA journal_mode=WAL")
        await self._db.execute("PRAGMA synchronous=NORMAL")
        await self._db.executescript(_SCHEMA)
        await self._db.commit()

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._db is not None:
            try:
                async with asyncio.timeout(3):
                    while not self._queue.empty():
                        await self._write_some()
            except (TimeoutError, sqlite3.Error) as e:
                _log.warning("journal_not_flushed", rows=self._queue.qsize(), error=repr(e))
            await self._db.close()
            self._db = None

    def note(self, ms: int, kind: str, who: str, text: str, data: Mapping[str, object]) -> None:
        """Queue one row; never waits."""
        try:
            self._queue.put_nowait((ms, kind, who, text, json.dumps(data, default=str)))
        except asyncio.QueueFull:
            self.dropped += 1
            if self.dropped in (1, 100, 10_000):
                _log.warning("journal_full", dropped=self.dropped)

    async def run(self) -> None:
        """Write what is queued, until cancelled."""
        written = 0
        while True:
            try:
                written += await self._write_some()
                if written >= PRUNE_EVERY:
                    written = 0
                    await self._prune()
            except sqlite3.Error as e:
                _log.error("journal_write_failed", error=str(e))
                await asyncio.sleep(1)

    async def _write_some(self) -> int:
        db = self._db
        if db is None:
            raise sqlite3.ProgrammingError("the journal is not open")
        rows = [await self._queue.get()]
        while not self._queue.empty() and len(rows) < 500:
            rows.append(self._queue.get_nowait())
        await db.executemany("INSERT INTO notes (ms, kind, who, text, data) VALUES (?, ?, ?, ?, ?)", rows)
        await db.commit()
        return len(rows)

    async def _prune(self) -> None:
        if self._db is not None:
            await self._db.execute("DELETE FROM notes WHERE id <= (SELECT max(id) FROM notes) - ?", (ROWS_AT_MOST,))
            await self._db.commit()

    async def recent(self, count: int) -> list[Remembered]:
        """The newest decisions, actions and alerts, oldest first."""
        if self._db is None:
            return []
        query = "SELECT ms, who, text FROM notes WHERE kind IN ('decision', 'action', 'alert') ORDER BY id DESC LIMIT ?"
        rows = await self._db.execute_fetchall(query, (count,))
        return [Remembered(int(ms), str(who), str(text)) for ms, who, text in reversed(list(rows))]
