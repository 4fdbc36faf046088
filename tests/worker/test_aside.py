"""A lane that its pipeline holds up is worked aside: the others go on, its lag is told, it can be
given back at once."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from agents.core.lanes.records import Record
from agents.node import part, stage
from agents.node.runner import Pipelines
from agents.node.stage import NodeStage
from agents.worker import engine
from tests.fixtures.kafka import KafkaServer
from tests.worker.support import Here, Rig, Running, rig, until
from tests.worker.test_engine import LIMIT, done

PIPELINE = """
import os, pathlib, time
GO = pathlib.Path({go!r})
def pipeline(records):
    for r in records:
        if r.src.startswith("raw/0/"):
            {act}
    return records
"""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "ASIDE_AFTER_S", 0.3)
    monkeypatch.setattr(part, "TOLD_AFTER_S", 0.5)


@asynccontextmanager
async def stages(
    tmp_path: Path, r: Rig, act: str, timeout_s: float
) -> AsyncIterator[Callable[[], NodeStage]]:
    (tmp_path / "held.py").write_text(PIPELINE.format(go=str(tmp_path / "go"), act=act))
    made: list[Pipelines] = []

    def one() -> NodeStage:
        made.append(Pipelines("held:pipeline", 0, path=str(tmp_path)))
        return NodeStage(made[-1], LIMIT, r.topics, timeout_s=timeout_s)

    try:
        yield one
    finally:
        for pipelines in made:
            await asyncio.to_thread(pipelines.close)


def _has_done(w: Running, count: int) -> bool:
    return done(w) == count


HOLD = "while not GO.exists(): time.sleep(0.05)"


async def test_the_others_go_on_and_its_lag_is_told(
    kafka_server: KafkaServer, tmp_path: Path
) -> None:
    async with rig(kafka_server, lanes=2) as r, stages(tmp_path, r, HOLD, 60) as one:
        await r.fill_lane(0, 0, 50)
        w = await r.engine(one())
        await w.assign((0, 1, 0), (1, 1, 0))
        await until(lambda: w.engine._aside)
        await r.fill_lane(0, 50, 250)
        for i in range(3):
            await r.fill_lane(1, 100 * i, 100)
            await until(partial(_has_done, w, 100 * (i + 1)))
        await until(lambda: w.engine.take_load()[0][0].lag_events >= 300)
        await until(lambda: "the pipeline has worked on" in w.engine.take_load()[0][0].fault)
        assert w.engine.take_load()[0][1].fault == ""
        (tmp_path / "go").touch()
        await until(lambda: done(w) == 600)
        sources = await r.sources(r.topics.clean, 600)
        assert len(sources) == len(set(sources)) == 600
        await until(
            lambda: (
                (w.engine.take_load()[0][0].lag_events, w.engine.take_load()[0][0].fault) == (0, "")
            )
        )


async def test_it_is_given_back_at_once_and_its_next_owner_begins_anew(
    kafka_server: KafkaServer, tmp_path: Path
) -> None:
    async with rig(kafka_server, lanes=2) as r, stages(tmp_path, r, HOLD, 60) as one:
        await r.fill_lane(0, 0, 50)
        a = await r.engine(one(), "a")
        await a.assign((0, 1, 0), (1, 1, 0))
        await until(lambda: a.engine._aside)
        async with asyncio.timeout(5):
            answer = await a.release((0, 1))
        assert answer.lanes[0].offset == 0
        await r.fill_lane(1, 0, 100)
        await until(lambda: done(a) == 100)
        (tmp_path / "go").touch()
        b = await r.engine(one(), "b")
        await b.assign((0, 2, 0))
        await until(lambda: done(b) == 50)
        assert len(await r.sources(r.topics.clean, 150)) == 150


@pytest.mark.parametrize("act", ["os._exit(1)", "time.sleep(60)"])
async def test_what_always_ends_or_hangs_stops_its_lane_and_no_other(
    kafka_server: KafkaServer, tmp_path: Path, act: str
) -> None:
    async with rig(kafka_server, lanes=2) as r, stages(tmp_path, r, act, 0.5) as one:
        await r.fill_lane(0, 0, 200)
        await r.fill_lane(1, 0, 100)
        w = await r.engine(one())
        await w.assign((0, 1, 0), (1, 1, 0))
        await until(lambda: done(w) == 100)
        await until(
            lambda: re.search(r"failed \d+ times in a row", w.engine.take_load()[0][0].fault), 60
        )
        assert await r.read(r.topics.dead) == []
        assert await r.committed(r.topics.lanes, 0, r.topics.node_group) is None
        assert (await w.release((0, 1))).lanes[0].offset == 0
        await r.fill_lane(1, 100, 100)
        await until(lambda: done(w) == 200)


async def test_a_batch_that_takes_long_is_told_of_and_so_is_the_lag(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever holds up the worker itself: here, a stage that has no process to end."""
    monkeypatch.setattr(engine, "TOLD_AFTER_S", 1.5)
    go = threading.Event()

    def stuck(batch: list[Record]) -> list[Record | None]:
        go.wait(60)
        return list(batch)

    async with rig(kafka_server, lanes=1) as r:
        await r.fill_lane(0, 0, 10)
        w = await r.engine(NodeStage(Here(stuck), LIMIT, r.topics))
        await w.assign((0, 1, 0))
        await until(lambda: w.engine._time_in_stage_s() > 0)
        await r.fill_lane(0, 10, 300)
        await until(lambda: w.engine.take_load()[0][0].lag_events >= 310)
        await until(lambda: "a batch is not done after" in w.engine.take_load()[0][0].fault)
        go.set()
        await until(lambda: done(w) == 310)
        await until(
            lambda: (
                (w.engine.take_load()[0][0].lag_events, w.engine.take_load()[0][0].fault) == (0, "")
            )
        )


async def test_three_lanes_in_trouble_at_once_wait_for_one_another(
    kafka_server: KafkaServer, tmp_path: Path
) -> None:
    act = "pass"
    async with rig(kafka_server, lanes=4) as r, stages(tmp_path, r, act, 60) as one:
        (tmp_path / "held.py").write_text(
            "import time\ndef pipeline(records):\n"
            "    time.sleep(0 if records[0].src.startswith('raw/3/') else 1)\n    return records\n"
        )
        for n in range(4):
            await r.fill_lane(n, 0, 50)
        w = await r.engine(one())
        await w.assign(*((n, 1, 0) for n in range(4)))
        await until(lambda: done(w) == 200)
        sources = await r.sources(r.topics.clean, 200)
        assert len(sources) == len(set(sources)) == 200
        assert len(w.engine.pids) <= 4
