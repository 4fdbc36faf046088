"""The user's pipeline under the protocol of PROTOCOL 3.6, in a real node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from agents.base.errors import PipelineError
from agents.core.lanes.records import Record
from agents.node import flights
from agents.node.contract import POISONED_AT, call_pipeline, columns_from_records, load_pipeline
from agents.node.stage import NodeStage
from agents.settings import Worker
from tests.fixtures.kafka import KafkaServer
from tests.worker.support import Here, Rig, Running, event, rig, until
from tests.worker.test_engine import LIMIT, done


async def work(r: Rig, pipeline: Callable[[list[Record]], Any], count: int) -> Running:
    await r.fill_lane(0, 0, count)
    w = await r.engine(NodeStage(Here(pipeline), LIMIT, r.topics))
    await w.assign((0, 1, 0))
    return w


def number(record: Record) -> int:
    return int(orjson.loads(record.value)["id"][1:])


async def counts(r: Rig, w: Running) -> dict[str, int]:
    await w.release((0, 1))
    found = await r.committed(r.topics.lanes, 0, r.topics.node_group)
    assert found is not None
    counted: dict[str, int] = orjson.loads(found[1])
    return counted


async def test_culprits_are_dead_lettered_and_the_others_pass(kafka_server: KafkaServer) -> None:
    def picky(batch: list[Record]) -> list[Record | None]:
        if any(number(record) % 10 == 3 for record in batch):
            raise ValueError("three")
        return list(batch)

    async with rig(kafka_server, lanes=1) as r:
        w = await work(r, picky, 100)
        dead = await r.read(r.topics.dead, 10)
        assert [m.value for m in dead] == [event(i) for i in range(3, 100, 10)]
        headers = dict(dead[0].headers)
        assert headers["geolane-reason"] == b"pipeline_error"
        assert headers["geolane-detail"] == b"ValueError: three"
        assert headers["geolane-src"] == b"raw/0/3"
        assert dead[0].key == b"k3"
        assert len(await r.read(r.topics.clean, 90)) == 90
        assert await counts(r, w) == {"in": 100, "out": 90, "filtered": 0, "dead": 10}


async def test_a_broken_pipeline_stops_its_lane_and_no_other(kafka_server: KafkaServer) -> None:
    def broken(batch: list[Record]) -> list[Record | None]:
        if any(record.src.startswith("raw/0/") for record in batch):
            raise RuntimeError("no database")
        return list(batch)

    async with rig(kafka_server, lanes=2) as r:
        await r.fill_lane(1, 0, 50)
        await r.fill_lane(0, 0, 3 * POISONED_AT)
        w = await r.engine(NodeStage(Here(broken), LIMIT, r.topics))
        await w.assign((0, 1, 0), (1, 1, 0))
        await until(lambda: any("no database" in load.fault for load in w.engine.take_load()[0]))
        assert len(await r.sources(r.topics.clean, 50)) == 50
        assert len(await r.read(r.topics.dead)) < POISONED_AT
        faults = {load.n: load.fault for load in w.engine.take_load()[0]}
        assert faults[1] == ""
        answer = await w.release((0, 1))
        healed = await r.engine(NodeStage(Here(list), LIMIT, r.topics), "healed")
        await healed.assign((0, 2, answer.lanes[0].offset))
        await until(lambda: done(healed) == 3 * POISONED_AT)


async def test_none_filters_and_a_list_is_several(kafka_server: KafkaServer) -> None:
    def several(batch: list[Record]) -> list[Record | list[Record] | None]:
        return [[[], [r, r.with_value(b"{}")], None, r][number(r) % 4] for r in batch]

    async with rig(kafka_server, lanes=1) as r:
        w = await work(r, several, 8)
        sources = await r.sources(r.topics.clean, 6)
        assert sources == [
            "raw/0/1 0/2",
            "raw/0/1 1/2",
            "raw/0/3",
            "raw/0/5 0/2",
            "raw/0/5 1/2",
            "raw/0/7",
        ]
        assert await counts(r, w) == {"in": 8, "out": 4, "filtered": 4, "dead": 0}


async def test_what_grows_too_large_is_dead_lettered_before_it_is_sent(
    kafka_server: KafkaServer,
) -> None:
    def grow(batch: list[Record]) -> list[Record | list[Record]]:
        large = b'"' + b"x" * (2 << 20) + b'"'
        return [
            r.with_value(large)
            if number(r) == 1
            else [r, r.with_value(large)]
            if number(r) == 2
            else r
            for r in batch
        ]

    async with rig(kafka_server, lanes=1) as r:
        w = await work(r, grow, 5)
        dead = await r.read(r.topics.dead, 2)
        assert [m.value for m in dead] == [event(1), event(2)]
        assert dict(dead[0].headers)["geolane-reason"] == b"too_large"
        assert await r.sources(r.topics.clean, 3) == ["raw/0/0", "raw/0/3", "raw/0/4"]
        assert await counts(r, w) == {"in": 5, "out": 3, "filtered": 0, "dead": 2}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda batch: batch[:-1],
        lambda batch: None,
        lambda batch: [r.value for r in batch],
        lambda batch: [Record(r.key, "text", r.src, r.ts_ms, r.cell) for r in batch],  # type: ignore[arg-type]
        lambda batch: [[r, None] for r in batch],
    ],
)
async def test_what_breaks_the_contract_is_an_error_of_the_pipeline(
    kafka_server: KafkaServer, wrong: Callable[[list[Record]], Any]
) -> None:
    async with rig(kafka_server, lanes=1) as r:
        w = await work(r, lambda batch: wrong(batch) if number(batch[0]) == 0 else list(batch), 3)
        [letter] = await r.read(r.topics.dead, 1)
        assert letter.value == event(0)
        assert await r.sources(r.topics.clean, 2) == ["raw/0/1", "raw/0/2"]
        assert (await counts(r, w))["dead"] == 1


async def test_a_pipeline_sees_where_a_record_comes_from(kafka_server: KafkaServer) -> None:
    seen: list[Record] = []

    def look(batch: list[Record]) -> list[Record]:
        seen.extend(batch)
        return batch

    async with rig(kafka_server, lanes=1) as r:
        await r.fill(r.topics.lanes, 0, [(b"k", event(9))])  # not by a router: no headers
        await work(r, look, 1)
        await until(lambda: len(seen) == 2)
        assert seen[0].src == f"{r.topics.lanes}/0/0"
        assert seen[0].ts_ms > 0
        assert seen[1] == Record(b"k0", event(0), "raw/0/0", 978964500000, "842664dffffffff")


@pytest.mark.parametrize(
    "name",
    ["nothing", "agents.node.flights:nothing", "no_such_module:f", "agents.node.flights:km_"],
)
def test_a_pipeline_that_cannot_be_loaded_is_named(name: str) -> None:
    with pytest.raises(PipelineError, match=r"worker\.pipeline"):
        load_pipeline(name)


def test_without_a_pipeline_in_the_settings_any_event_passes_unchanged() -> None:
    """One's own events are not flights: with the demo's pipeline each became a dead letter."""
    records = [
        Record(b"k", orjson.dumps({"id": "sensor-1", "celsius": 3}), "events.raw/0/1", 1, "cell"),
        Record(None, b'{"id": "other"}', "events.raw/0/2", 1, "cell"),
    ]
    answers = call_pipeline(load_pipeline(Worker().pipeline), columns_from_records(records))
    assert (answers.keys, answers.values) == (
        [b"k", None],
        [records[0].value, records[1].value],
    )


FLIGHT = {
    "id": "f-1",
    "ts": "2001-01-08T14:35:00Z",
    "origin": {"lat": 41.97959, "lon": -87.90446},
    "origin_iata": "ORD",
    "destination": "LGA",
    "dest_lat": 40.77724,
    "dest_lon": -73.87261,
    "delay_min": 12,
    "distance_mi": 733,
}


def flown(**changes: object) -> dict[str, Any] | None:
    record = Record(b"k", orjson.dumps({**FLIGHT, **changes}), "events.raw/0/1", 1, "cell")
    [out] = flights.pipeline([record])
    return None if out is None else orjson.loads(out.value)


def test_flights_are_enriched() -> None:
    out = flown()
    assert out is not None
    assert out["distance_km"] == pytest.approx(733 * flights.KM_PER_MILE, rel=0.01)
    assert (out["delay_class"], out["cell"], out["id"]) == ("on_time", "cell", "f-1")
    by_miles = flown(dest_lat=None)
    assert by_miles is not None
    assert by_miles["distance_km"] == 1179.6


def test_flights_to_nowhere_are_left_out() -> None:
    assert flown(destination="ORD") is None
    assert flown(destination="") is None


@pytest.mark.parametrize(
    ("delay", "named"),
    [
        (-3, "early"),
        (0, "on_time"),
        (14, "on_time"),
        (15, "late"),
        (60, "very_late"),
        (None, "unknown"),
    ],
)
def test_delay_classes(delay: int | None, named: str) -> None:
    out = flown(delay_min=delay)
    assert out is not None
    assert out["delay_class"] == named
