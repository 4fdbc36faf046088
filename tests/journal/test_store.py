"""The journal remembers over restarts, survives a broken file, and never makes anybody wait."""

from __future__ import annotations

import asyncio
from pathlib import Path

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
