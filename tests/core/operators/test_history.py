"""`history`: how its filters are read, and that the journal finds by them."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from agents.base.errors import JournalError
from agents.core import effects as fx
from agents.core import events as ev
from agents.core.events import QuestionAsked
from agents.core.fleet.placing_inputs import Target
from agents.core.operators.command import Remembered
from agents.core.operators.history import Entries, Search
from agents.journal.store import Journal
from tests.core.world import World

BEN = "ben@d"
_ids = itertools.count()


@pytest.fixture
def w() -> World:
    world = World(nodes=3, lanes=6, now_s=1_000_000.0)
    world.fair(2)
    world.tell(ev.AffiliationsRead({BEN: "member"}))
    return world


def ask(w: World, text: str) -> list[fx.Effect]:
    w.core.desk._asks.clear()
    n = next(_ids)
    return w.core.handle(QuestionAsked(BEN, "ben", f"!{text}", True, f"s{n}", None, f"m{n}"), w.now)


def search(w: World, text: str) -> Search:
    (errand,) = [e for e in ask(w, text) if isinstance(e, fx.Errand)]
    assert isinstance(errand.what, Search)
    return errand.what


def said(effects: list[fx.Effect]) -> str:
    return "\n".join(e.text for e in effects if isinstance(e, fx.Say))


def test_filters_are_read_in_any_order(w: World) -> None:
    assert search(w, "history") == Search(1, 8)
    assert search(w, "history lane=3 2 kind=alert by=ana") == Search(
        2, 8, "alert", "ana", 3, "main/events.lanes/3"
    )
    assert search(w, "history node=1").worker == "node-1"
    assert search(w, "history node=router-1").worker == "router-1"
    assert search(w, "history since=1h").since_ms == w.now.ms - 3_600_000
    assert search(w, "history since=1970-01-12T00:00:00Z").since_ms == 11 * 86_400_000


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("history kind=noise", "kind is one of action, decision, alert"),
        ("history lane=99", "is not a valid lane"),
        ("history node=nowhere", "No node is called"),
        ("history since=yesterday", "is not a valid time"),
        ("history who=ana", "is not a page or a filter"),
        ("history by=ana by=ben", "by= is given twice"),
        ("history 1 2", "Usage: history"),
        ("history 0", "is not a valid page"),
    ],
)
def test_a_filter_that_makes_no_sense_is_told(w: World, text: str, why: str) -> None:
    assert why in said(ask(w, text))


def test_a_page_is_shown_with_its_filters_and_where_more_is(w: World) -> None:
    (errand,) = [e for e in ask(w, "history by=ana") if isinstance(e, fx.Errand)]
    rows = (
        *(Remembered(w.now.ms - n, "ana@d", f"move {n}", "action") for n in range(3)),
        Remembered(w.now.ms, "", "1 is gone", "alert"),
    )
    text = said(w.core.handle(ev.QueryFinished(errand.ref, Entries(9, 1, 3, rows)), w.now))
    assert (
        text.split("\n")[0] == "The newest of 9 entries with by=ana (UTC). More: !history 2 by=ana"
    )
    assert text.split("\n")[1].endswith("ana: move 0")
    assert text.split("\n")[4] == "13:46:42 1 is gone", "nobody asked for it"
    (errand,) = [e for e in ask(w, "history by=eve") if isinstance(e, fx.Errand)]
    assert (
        said(w.core.handle(ev.QueryFinished(errand.ref, Entries(0, 1, 1, ())), w.now))
        == "No entries with by=eve."
    )


async def test_the_journal_finds_by_each_filter_and_by_all(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as journal:
        journal.queue_note(
            1000, "decision", "", "3 placed", {"lanes": [1, 3], "nodes": ["node-a", "node-b"]}
        )
        journal.queue_note(2000, "action", "ana@d", "drain a", {"nodes": ["node-a"]})
        journal.queue_note(
            3000, "alert", "", "lane 3 stands still", {"about": "main/events.lanes/3"}
        )
        journal.queue_note(4000, "alert", "", "a is gone", {"about": "node-a"})
        journal.queue_note(5000, "fleet", "node-a", "not for history", {"lanes": [3]})
        journal.queue_note(6000, "action", "an_@d", "pause", {})
        running = asyncio.create_task(journal.run())

        async def found(what: Search) -> list[str]:
            return [r.text for r in (await journal.search_entries(what)).rows]

        try:
            assert await found(Search(1, 9)) == [
                "pause",
                "a is gone",
                "lane 3 stands still",
                "drain a",
                "3 placed",
            ]
            assert await found(Search(1, 9, kind="alert")) == ["a is gone", "lane 3 stands still"]
            assert (
                await found(Search(1, 9, by="ana"))
                == await found(Search(1, 9, by="ana@d"))
                == ["drain a"]
            )
            assert await found(Search(1, 9, by="an_")) == ["pause"], "no pattern"
            lane = Search(1, 9, lane=3, lane_key="main/events.lanes/3")
            assert await found(lane) == ["lane 3 stands still", "3 placed"]
            assert await found(Search(1, 9, worker="node-a")) == [
                "a is gone",
                "drain a",
                "3 placed",
            ]
            assert await found(Search(1, 9, since_ms=3000, worker="node-a")) == ["a is gone"]
            assert await journal.search_entries(Search(3, 2)) == Entries(
                5, 3, 3, (Remembered(1000, "", "3 placed", "decision"),)
            )
            assert await journal.search_entries(Search(4, 2)) == Entries(5, 4, 3, ())
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_what_was_noted_just_now_is_found(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as journal:
        running = asyncio.create_task(journal.run())
        for n in range(50):
            journal.queue_note(n, "action", "ana@d", f"move {n}", {})
            assert (await journal.search_entries(Search(1, 1))).rows[0].text == f"move {n}"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_journal_that_is_closed_says_so(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="not open"):
        await Journal(tmp_path / "j").search_entries(Search(1, 1))


def answer(w: World, text: str, entries: Entries) -> str:
    (errand,) = [e for e in ask(w, text) if isinstance(e, fx.Errand)]
    return said(w.core.handle(ev.QueryFinished(errand.ref, entries), w.now))


def test_a_page_past_the_end_is_told_as_such(w: World) -> None:
    assert answer(w, "history 9", Entries(12, 9, 3, ())) == "There is no page 9: the last one is 3."
    for command in ("nodes", "lanes"):
        assert "There is no page 9" in said(ask(w, f"{command} 9"))


def test_a_long_entry_ends_with_a_whole_word(w: World) -> None:
    moves = "12 placed: latency (" + ", ".join(f"{n}: fra-1 to iad-1" for n in range(12)) + ")"
    entries = Entries(1, 1, 1, (Remembered(w.now.ms, "", moves, "decision"),))
    line = answer(w, "history", entries).split("\n")[1]
    assert len(line) <= 90
    assert line.endswith(" ...")
    assert line.removesuffix(" ...") in f"{line[:8]} {moves}"
    assert line.removesuffix(" ...").rsplit(" ", 1)[1] in ("fra-1", "to", "iad-1")


async def test_a_node_is_found_by_the_moves_away_from_it_too(tmp_path: Path) -> None:
    """Those that a person asks for, and those after it has gone."""
    w = World(nodes=3, lanes=6)
    w.fair(2)
    lane = next(p for p, s in w.partitions.items() if s.worker == "node-0")
    target = Target("node-1", "asked by ana", "ana@d")
    for effect in w.core.placing.begin_moves({lane: target}, w.now.ms):
        w._perform(effect)
    w.fair(5)
    w.crash("node-2")
    w.fair(60)
    async with Journal(tmp_path / "j") as journal:
        for note in w.noted:
            journal.queue_note(w.now.ms, note.kind, note.who, note.text, note.data)
        running = asyncio.create_task(journal.run())
        try:
            found = {
                node: [
                    r.text
                    for r in (await journal.search_entries(Search(1, 99, worker=node))).rows
                    if r.kind == "decision"
                ]
                for node in ("node-0", "node-2")
            }
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    assert f"1 placed: asked by ana ({lane.n}: 0 to 1)" in found["node-0"]
    assert any(f": 2 to {to}" in text for text in found["node-2"] for to in "01")
