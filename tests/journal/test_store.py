"""The journal remembers over restarts, survives a broken file, and never makes anybody wait."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from structlog.testing import capture_logs

from agents.core.operators.history import Search
from agents.journal import store
from agents.journal.store import Journal


async def test_what_was_noted_is_there_after_a_restart_newest_first(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.sqlite3"
    async with Journal(path) as one:
        for n in range(5):
            one.queue_note(n, "decision", "", f"plan {n}", {"plan": n})
        one.queue_note(9, "fleet", "node-a", "not for history", {})
        one.queue_note(10, "action", "ana@d", "drain a", {})
        one.queue_note(11, "hotspot", "", "at Dallas", {"lanes": [3]})
    async with Journal(path) as two:
        rows = (await two.search_entries(Search(1, 4))).rows
        found = await two.search_entries(Search(1, 4, kind="hotspot", lane=3))
    assert [r.text for r in found.rows] == ["at Dallas"]
    assert [(r.ms, r.who, r.text) for r in rows] == [
        (11, "", "at Dallas"),
        (10, "ana@d", "drain a"),
        (4, "", "plan 4"),
        (3, "", "plan 3"),
    ]


async def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    path.write_bytes(b"this is not a database, and long enough to be one" * 50)
    async with Journal(path) as one:
        one.queue_note(1, "action", "", "anew", {})
    async with Journal(path) as two:
        assert [r.text for r in (await two.search_entries(Search(1, 9))).rows] == ["anew"]
    assert path.with_name("journal.sqlite3.broken").exists()


async def test_a_full_queue_drops_and_counts_and_never_waits(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as one:
        for n in range(store.QUEUE_AT_MOST + 7):
            one.queue_note(n, "fleet", "", "x", {})
        assert one.dropped == 7


async def test_it_writes_while_it_runs(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as one:
        running = asyncio.create_task(one.run())
        one.queue_note(1, "alert", "", "seen", {"odd": {1, 2}})
        async with asyncio.timeout(10):
            while not (await one.search_entries(Search(1, 1))).rows:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_what_is_kept_replaces_what_was_kept_before(tmp_path: Path) -> None:
    path = tmp_path / "j"
    async with Journal(path) as one:
        await one.store_value("forecast", 1, {"level": [1.5]})
        await one.store_value("forecast", 2, {"level": [2.5]})
    async with Journal(path) as two:
        assert await two.read_value("forecast") == {"level": [2.5]}
        assert await two.read_value("other") == {}


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not done():
            await asyncio.sleep(0.01)


async def written_again(path: Path, failing: Callable[[], None], mend: Callable[[], None]) -> None:
    """The journal is begun while it cannot be written, goes on, and is written once it can."""
    with capture_logs() as logs, ExitStack() as stack:
        stack.callback(mend)
        failing()
        async with Journal(path) as one:
            running = asyncio.create_task(one.run())
            one.queue_note(1, "alert", "", "lost", {})
            await until(lambda: one.dropped == 1)
            assert str(path) in one.fault
            mend()
            one.queue_note(2, "alert", "", "there", {})
            await until(lambda: not one.fault)
            rows = (await one.search_entries(Search(1, 9))).rows
            assert [r.text for r in rows] == ["there"]
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    assert [x["event"] for x in logs] == ["journal_write_failed", "journal_written_again"]


async def test_a_full_disk_at_the_start_costs_history_and_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "j"
    async with Journal(path):
        pass
    path.unlink()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    await written_again(
        path,
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1])),
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before),
    )
    assert not path.with_name("j.broken").exists(), "a full disk breaks no file"


async def test_a_folder_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    there = tmp_path / "folder"
    await written_again(
        there / "j", there.touch, lambda: there.unlink() if there.is_file() else None
    )


async def test_a_disk_that_fills_while_it_runs_is_told_and_tried_again(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with capture_logs():
        async with Journal(tmp_path / "j") as one:
            running = asyncio.create_task(one.run())
            try:
                resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
                for n in range(50):
                    one.queue_note(n, "alert", "", "x" * 5000, {})
                await until(lambda: bool(one.fault))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            one.queue_note(99, "alert", "", "there", {})
            await until(lambda: not one.fault)
            assert (await one.search_entries(Search(1, 1))).rows[0].text == "there"
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
