"""What was sampled is there after a restart; the newest stay when there is too much."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.core.model.charts import Sample
from agents.journal import store
from agents.journal.store import Journal


def moment(n: int) -> tuple[Sample, ...]:
    return tuple(
        Sample(name, 1.0, n * (i + 1), 2.0, 3.0)
        for i, name in enumerate(("fleet", "lane/1", "lane/2"))
    )


async def test_lines_are_read_by_name_and_time_and_the_worst_lanes_first(tmp_path: Path) -> None:
    path = tmp_path / "j"
    async with Journal(path) as one:
        for n in range(10):
            one.queue_samples(n * 1000, moment(n))
        one.queue_note(5, "action", "", "between", {})
    async with Journal(path) as two:
        (line,) = await two.read_lines("lag_events", ["lane/2"], 2000, 4000)
        assert (line.ms, line.values) == ((2000, 3000, 4000), (6.0, 9.0, 12.0))
        assert await two.worst_lanes("lag_events", 1, 0, 10_000) == ["lane/2"]
        assert await two.worst_lanes("lag_events", 5, 0, 10_000) == ["lane/2", "lane/1"]
        (none,) = await two.read_lines("lag_events", ["lane/9"], 0, 10_000)
        assert none.ms == ()


async def test_the_oldest_go_when_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_SAMPLE_ROWS", 30)
    async with Journal(tmp_path / "j") as one:
        for n in range(100):
            one.queue_samples(n * 1000, moment(n))
        while not one._queue.empty():
            await one._write_queued()
        await one._prune_rows()
        (line,) = await one.read_lines("rate_eps", ["fleet"], 0, 1_000_000)
    assert line.ms[-1] == 99_000
    assert 10 <= len(line.ms) <= 11


def test_of_many_points_the_highest_stay() -> None:
    found = [(n, 100.0 if n == 4321 else 1.0) for n in range(10_000)]
    line = store.line_from_points("x", found)
    assert len(line.ms) <= store.POINTS_AT_MOST
    assert max(line.values) == 100.0
    now = [*found[:-1], (9_999, 0.5)]
    assert store.line_from_points("x", now).values[-1] == 0.5, "what is told as the present value"


async def test_lanes_that_are_equally_bad_come_by_number(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as one:
        lanes = (11, 2, 10, 1)
        one.queue_samples(1000, tuple(Sample(f"lane/{n}", 0.0, 0, 0.0, 0.0) for n in lanes))
        while not one._queue.empty():
            await one._write_queued()
        worst = await one.worst_lanes("lag_events", 3, 0, 10_000)
    assert worst == ["lane/1", "lane/2", "lane/10"]
