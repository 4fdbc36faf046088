"""The engine on a real broker: every rise of the definition, each once, whatever happens to it."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from agents.analytics import engine as engine_module
from agents.analytics.engine import HotspotEngine
from agents.core.hotspots.areas import area_of
from tests.analytics.support import (
    NEW_YORK,
    TOKYO,
    Event,
    Parameters,
    closing,
    expected_rises,
    made_stream,
    rig,
    until,
)
from tests.fixtures.kafka import KafkaServer
from tests.kafka.support import delete_group


async def test_it_finds_the_rises_of_the_definition_and_their_hotspots(
    kafka_server: KafkaServer,
) -> None:
    stream = made_stream(1)
    async with rig(kafka_server) as r:
        await r.send(stream)
        w = await r.engine(Parameters(idle_s=60))
        await w.assign(1, 0)
        await r.wait_until_counted(len(stream))
        assert [path.broker for path in w.engine.path_reports()] == [1]
        await r.send(closing(stream))
        await r.wait_until_counted(len(stream) + 3)
        rises, hotspots = await r.rises(), await r.hotspots()
        assert len(rises) == len(set(rises)) > 5
        assert set(rises) == expected_rises(stream)
        assert {h.areas[0] for h in hotspots} <= {area_of(NEW_YORK), area_of(TOKYO)}
        assert Counter(h.id for h in hotspots if h.state == "open") == Counter(
            {h.id: 1 for h in hotspots}
        )
        assert {h.id for h in hotspots if h.state == "ended"} == {h.id for h in hotspots}


async def test_rises_and_hotspots_have_the_names_of_geo_context(kafka_server: KafkaServer) -> None:
    stream = made_stream(1)
    async with rig(kafka_server) as r:
        await r.name_cells({NEW_YORK: "New York, US", area_of(TOKYO): "Tokyo, JP"})
        w = await r.engine(Parameters(idle_s=60))
        assert isinstance(w.engine, HotspotEngine)
        names = w.engine._names
        await until(lambda: names.name_of(area_of(TOKYO), time.time()).name == "Tokyo, JP")
        await w.assign(1, 0)
        await r.send([*stream, *closing(stream)])
        await r.wait_until_counted(len(stream) + 3)
        rises, hotspots = await r.rises(), await r.hotspots()
        assert {replace(x, name="", named_by="") for x in rises} == expected_rises(stream)
        known = {NEW_YORK: "New York, US", area_of(TOKYO): "Tokyo, JP"}
        assert all(x.name == known.get(x.cell, "") for x in rises)
        assert {x.named_by for x in rises} == {"", "offline"}
        assert {h.name for h in hotspots if h.peak == NEW_YORK} <= {"New York, US"}
        assert any(h.name for h in hotspots)


async def test_a_killed_engine_loses_no_rise_and_tells_none_twice(
    kafka_server: KafkaServer,
) -> None:
    stream, rng = made_stream(2, minutes=90, bursts=6), random.Random(2)
    async with rig(kafka_server) as r:
        sent, epoch = 0, 0
        while sent < len(stream):
            epoch += 1
            w = await r.engine(Parameters(idle_s=60), snapshot_s=rng.choice((0.0, 0.3, 100.0)))
            await w.assign(epoch, (await r.committed())[0])
            for _ in range(2):
                part = stream[sent : sent + 1500]
                sent += len(part)
                await r.send(part)
                await asyncio.sleep(rng.uniform(0, 0.5))
            await w.kill()
        w = await r.engine(Parameters(idle_s=60))
        await w.assign(epoch + 1, (await r.committed())[0])
        await r.send(closing(stream))
        deadline = asyncio.get_running_loop().time() + 40
        while w.engine.owned_partitions()[0].behind or not any(
            h.state == "ended" for h in (await r.hotspots())[-1:]
        ):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.2)
        rises, hotspots = await r.rises(), await r.hotspots()
        assert epoch > 3
        assert len(rises) == len(set(rises)) > 10
        assert set(rises) == expected_rises(stream)
        opened = [h.id for h in hotspots if h.state == "open"]
        assert len(opened) == len(set(opened))
        assert sorted(opened) == sorted(h.id for h in hotspots if h.state == "ended")


async def test_it_hands_over_between_two_workers(kafka_server: KafkaServer) -> None:
    stream = made_stream(3)
    async with rig(kafka_server) as r:
        a = await r.engine(Parameters(idle_s=60), snapshot_s=100.0)
        await a.assign(1, 0)
        half = len(stream) // 2
        await r.send(stream[:half])
        await r.wait_until_counted(half)
        offset = await a.release(1)
        assert offset == (await r.committed())[0] > 0
        b = await r.engine(Parameters(idle_s=60))
        await b.assign(2, offset)
        await r.send([*stream[half:], *closing(stream)])
        await r.wait_until_counted(len(stream) + 3)
        rises = await r.rises()
        assert len(rises) == len(set(rises))
        assert set(rises) == expected_rises(stream)


async def test_a_release_is_answered_though_the_groups_offsets_are_deleted(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, commits = HotspotEngine._commit, 0

    async def commit_then_lose_it(
        engine: HotspotEngine, *given: Any, snapshot: bool = False
    ) -> None:
        nonlocal commits
        await commit(engine, *given, snapshot=snapshot)
        if engine.tenure.is_asked_back(0):
            commits += 1
            if commits == 1:
                await delete_group(kafka_server.kafka, r.topics.group)

    monkeypatch.setattr(HotspotEngine, "_commit", commit_then_lose_it)
    async with rig(kafka_server) as r:
        w = await r.engine(Parameters())
        await w.assign(1, 0)
        await until(lambda: w.engine.owned_partitions()[0].committed > 0)
        offset = await w.release(1)
        assert commits >= 2
        assert offset <= (await r.committed())[0]


async def test_rubbish_late_early_and_idle(kafka_server: KafkaServer) -> None:
    """What is no event is skipped, what is late is dropped, a clock that runs ahead moves nothing,
    and a partition from which nothing comes does not hold the others back."""
    stream = made_stream(4, partitions=2)
    rubbish = [Event(0, e.ms, cell) for e in stream[:20] for cell in ("", "84", "8f" * 8, "zz")]
    late = [Event(e.partition, e.ms - 60_000, NEW_YORK) for e in stream[3000:3100]]
    async with rig(kafka_server, lanes=3) as r:
        await r.send([*rubbish, *stream[:3100], *late, *stream[3100:]])
        # of the year 2100: counts as now, which ends everything before
        await r.send([Event(p, 4_102_444_800_000, TOKYO) for p in (0, 1)])
        w = await r.engine(Parameters(idle_s=1))
        await w.assign(1, 0)
        await r.wait_until_counted(len(rubbish) + len(stream) + len(late) + 2)
        for _ in range(100):
            if set(await r.rises()) == expected_rises(stream):
                break
            await asyncio.sleep(0.2)
        rises = await r.rises()
        assert set(rises) == expected_rises(stream)
        assert len(rises) == len(set(rises))


async def test_it_says_so_if_most_events_are_late(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "LATE_S", 0.5)
    newest = made_stream(4, minutes=20)
    async with rig(kafka_server) as r:
        w = await r.engine(Parameters())
        await w.assign(1, 0)
        await r.send(closing(newest))
        await r.send(newest)
        await until(lambda: "late" in w.engine.owned_partitions()[0].fault)
        fault = w.engine.owned_partitions()[0].fault
        assert fault.startswith("aside: ")
        assert fault.endswith("raise analytics.lateness_s (now 5 s)")
        await r.send([Event(e.partition, e.ms + 6_000_000, e.cell) for e in newest])
        await until(lambda: not w.engine.owned_partitions()[0].fault)


async def test_a_checkpoint_that_is_gone_is_replaced(kafka_server: KafkaServer) -> None:
    """Another program has emptied the topic: it begins with the last hour, and goes on."""
    stream = made_stream(5)
    async with rig(kafka_server) as r:
        a = await r.engine(Parameters(idle_s=60))
        await a.assign(1, 0)
        await r.send(stream[:2000])
        await r.wait_until_counted(2000)
        offset = await a.release(1)
        b = await r.engine(Parameters(idle_s=60))
        b.engine._topics = type(r.topics)(
            *(x if x != r.topics.state else f"{x}-other" for x in _names(r.topics))
        )
        from agents.kafka.topics import Topic, ensure_topics

        await ensure_topics(
            kafka_server.kafka,
            (Topic(b.engine._topics.state, 1, 64, {"cleanup.policy": "compact"}),),
            embedded=True,
        )
        await b.assign(2, offset)
        await until(lambda: bool(b.engine.owned_partitions()[0].fault), 20)
        said = b.engine.owned_partitions()[0].fault
        assert said.startswith("aside: it began anew with the last hour, of which hotspots may be ")
        assert said.endswith("hotspots.state only has transaction 0: was the topic deleted?")
        await r.send([*stream[2000:], *closing(stream)])
        # all of it again, since it was appended within the last hour
        await r.wait_until_counted(2000 + len(stream) + 3)
        assert set(await r.rises()) == expected_rises(stream)


def _names(topics: object) -> list[str]:
    return [getattr(topics, name) for name in ("lanes", "hotspots", "rises", "state", "group")]
