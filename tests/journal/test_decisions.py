"""Ticks in the journal: all that went into a plan is there again, within a bound, for readers at
any time."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from agents.base.errors import JournalError
from agents.core.model.plan import Lane, Moment
from agents.core.operators.history import Search
from agents.core.planning.recording import frame_to_json, moment_to_json, plan_to_json
from agents.journal import store
from agents.journal.decisions import TickRow, decompress_blob, open_ticks
from agents.journal.store import Journal
from agents.settings.calm import Calm
from tests.core.planning.support import FRAME, decided


@asynccontextmanager
async def writing(one: Journal) -> AsyncIterator[None]:
    """The journal's task beside us."""
    task = asyncio.create_task(one.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def read(path: Path, from_ms: int = 0, to_ms: int = 2**60) -> list[tuple[TickRow, bytes]]:
    """Each tick with its frame's JSON."""
    with open_ticks(path) as ticks:
        return [(t, ticks.read_frame_json(t.frame_id)) for t in ticks.read_between(from_ms, to_ms)]


async def stored(path: Path, from_ms: int = 0, to_ms: int = 2**60) -> list[TickRow]:
    return [tick for tick, _ in await asyncio.to_thread(read, path, from_ms, to_ms)]


async def frames(path: Path) -> list[bytes]:
    return [frame for _, frame in await asyncio.to_thread(read, path)]


async def written(path: Path, count: int) -> None:
    async with asyncio.timeout(10):
        while len(await stored(path)) < count:
            await asyncio.sleep(0.01)


async def test_every_plan_is_there_again_with_its_inputs(tmp_path: Path) -> None:
    path = tmp_path / "j"
    ticks = [decided(n, FRAME if n == 0 else None) for n in range(70)]
    async with Journal(path) as one, writing(one):
        for n, tick in enumerate(ticks):
            one.queue_tick(1000 + n, 7, tick)
            await written(path, n - 20)
    rows = await stored(path)
    assert [(r.ms, r.leader_epoch, r.kind, r.numerics) for r in rows] == [
        (1000 + n, 7, "improve", "test") for n in range(70)
    ]
    assert set(await frames(path)) == {frame_to_json(FRAME)}
    assert [decompress_blob(r.moment, "") for r in rows] == [
        moment_to_json(t.moment) for t in ticks
    ]
    assert [decompress_blob(r.plan, "") for r in rows] == [plan_to_json(t.plan) for t in ticks]
    assert [r.sha256 for r in rows] == [sha256(plan_to_json(t.plan)).digest() for t in ticks]


async def test_each_tick_names_the_frame_that_it_was_planned_in(tmp_path: Path) -> None:
    other = replace(FRAME, calm=Calm(windows=5))
    async with Journal(tmp_path / "j") as one:
        for n, frame in enumerate([FRAME, None, other, None]):
            one.queue_tick(n, 1, decided(n, frame))
    async with Journal(tmp_path / "j") as two:
        two.queue_tick(9, 2, decided(9, FRAME))
    assert await frames(tmp_path / "j") == [
        frame_to_json(f) for f in (FRAME, FRAME, other, other, FRAME)
    ]


async def test_span_is_cut_out_of_the_whole(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as one:
        for n in range(10):
            one.queue_tick(n * 10, 1, decided(n, FRAME if n == 0 else None))
    assert [t.ms for t in await stored(tmp_path / "j", 20, 40)] == [20, 30, 40]
    assert await stored(tmp_path / "j", 41, 49) == []


async def test_size_is_bounded_and_the_oldest_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, limit, count = tmp_path / "j", 200_000, 2_000
    monkeypatch.setattr(store, "TICKS_WAITING", count)
    lives = [replace(FRAME, calm=Calm(windows=n)) for n in range(1, 11)]
    async with Journal(path, limit) as one, writing(one):
        for n in range(count):
            one.queue_tick(n, 1, decided(n, lives[n // 200] if n % 200 == 0 else None))
            if n % 50 == 49:
                one.queue_note(n, "fleet", "", "x", {})
                await asyncio.sleep(0)
    rows = await stored(path)
    assert [t.ms for t in rows] == list(range(rows[0].ms, count))
    assert 50 < len(rows) < count / 2
    total, numbers, size = await asyncio.to_thread(sizes, path)
    assert 0.5 * limit < total <= limit
    assert numbers == {t.frame_id for t in rows}
    assert size < 4 * limit  # room that is freed is used again


def sizes(path: Path) -> tuple[int, set[int], int]:
    """Bytes of all ticks and frames as counted, the frames that there are, and bytes of the
    file."""
    with closing(sqlite3.connect(path)) as db:
        (total,) = db.execute(
            "SELECT (SELECT sum(bytes) FROM ticks) + (SELECT sum(bytes) FROM frames)"
        ).fetchone()
        (pages,), (size,) = (
            db.execute(f"PRAGMA {p}").fetchone() for p in ("page_count", "page_size")
        )
        return total, {n for (n,) in db.execute("SELECT id FROM frames")}, pages * size


async def test_newest_tick_stays_though_it_alone_is_over_the_bound(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j", 1) as one:
        for n in range(5):
            one.queue_tick(n, 1, decided(n, FRAME if n == 0 else None))
    async with Journal(tmp_path / "j", 1) as two:
        two.queue_tick(9, 1, decided(9, FRAME))
    assert [t.ms for t in await stored(tmp_path / "j")] == [9]
    assert await frames(tmp_path / "j") == [frame_to_json(FRAME)]


async def test_readers_read_while_it_writes_and_nobody_waits(tmp_path: Path) -> None:
    """A reader stops in the middle; everything is written all the same, and it reads on to the
    end."""
    path, begun, go_on = tmp_path / "j", threading.Event(), threading.Event()

    def slowly() -> int:
        with open_ticks(path) as ticks:
            half = ticks.read_between(0, 2**60)
            assert next(half).ms == 0
            begun.set()
            assert go_on.wait(10)
            list(half)
            return len(list(ticks.read_between(0, 2**60)))

    async with Journal(path) as one, writing(one):
        one.queue_tick(0, 1, decided(0, FRAME))
        await written(path, 1)
        reader = asyncio.create_task(asyncio.to_thread(slowly))
        assert await asyncio.to_thread(begun.wait, 10)
        for n in range(1, 100):
            one.queue_tick(n, 1, decided(n))
            if n % 10 == 0:
                await written(path, n)
        await written(path, 100)
        go_on.set()
        assert await reader == 100
        assert one.ticks_dropped == 0


async def test_ticks_beyond_the_bound_are_dropped_and_counted_and_the_frame_is_kept(
    tmp_path: Path,
) -> None:
    async with Journal(tmp_path / "j") as one:
        for n in range(store.TICKS_WAITING):
            one.queue_tick(n, 1, decided(n, FRAME if n == 0 else None))
        other = replace(FRAME, calm=Calm(windows=5))
        one.queue_tick(500, 1, decided(500, other))
        assert one.ticks_dropped == 1
        async with writing(one):
            await written(tmp_path / "j", store.TICKS_WAITING)
        one.queue_tick(501, 1, decided(501))
    assert (await stored(tmp_path / "j"))[-1].ms == 501
    assert (await frames(tmp_path / "j"))[-1] == frame_to_json(other)


async def test_tick_without_a_frame_or_not_to_be_written_stops_nothing(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as one:
        one.queue_tick(1, 1, decided(1))
        odd = replace(decided(2, FRAME), moment=Moment(0.0, (Lane("seven", 1.0),), ()))  # type: ignore[arg-type]  # the point
        one.queue_tick(2, 1, odd)
        one.queue_tick(3, 1, decided(3))
        one.queue_note(4, "action", "", "still here", {})
    assert one.ticks_dropped == 2
    assert [t.ms for t in await stored(tmp_path / "j")] == [3]
    async with Journal(tmp_path / "j") as two:
        assert [r.text for r in (await two.search_entries(Search(1, 5))).rows] == ["still here"]


async def test_notes_of_an_older_journal_stay_and_ticks_begin(tmp_path: Path) -> None:
    def old() -> None:
        with closing(sqlite3.connect(tmp_path / "j")) as db:
            db.executescript(
                store._SCHEMA + "INSERT INTO notes VALUES (1, 1, 'action', '', 'old', '{}');"
            )

    await asyncio.to_thread(old)
    with pytest.raises(JournalError, match="without ticks, of an older geolane"):
        await stored(tmp_path / "j")
    async with Journal(tmp_path / "j") as one:
        one.queue_tick(1, 1, decided(1, FRAME))
        assert [r.text for r in (await one.search_entries(Search(1, 5))).rows] == ["old"]
    assert len(await stored(tmp_path / "j")) == 1


def test_reading_what_is_no_journal_says_so(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no such file"), open_ticks(tmp_path / "none"):
        pass
    (tmp_path / "text").write_text("not a database " * 100)
    with pytest.raises(JournalError, match="cannot be read"), open_ticks(tmp_path / "text"):
        pass
    with pytest.raises(JournalError, match="tick 3 is damaged"):
        decompress_blob(b"\x00\x01", "tick 3")
