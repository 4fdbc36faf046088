"""Raw events on their way through a real router: each to exactly one place, byte for byte (PROTOCOL
1)."""

from __future__ import annotations

import time

import h3
import orjson
import pytest

from agents.base.errors import SettingsError
from agents.core.lanes.lane_map import LaneMap, build_lane_map, murmur2
from agents.core.lanes.records import Reason
from agents.kafka.compacted import publish_lane_map, read_newest_lane_map
from agents.router.stage import RouterStage
from tests.fixtures.kafka import KafkaServer
from tests.worker.support import ORIGIN, Rig, event, rig
from tests.worker.test_engine import LIMIT

MAP = build_lane_map([event(i) for i in range(10)], 4, 4, 7)


def router(r: Rig, lanemap: LaneMap = MAP) -> RouterStage:
    return RouterStage(lanemap, LIMIT, 300_000, r.topics)


BAD: list[tuple[bytes | None, Reason]] = [
    (b"\x00\xff garbage \n", Reason.NOT_JSON),
    (b'{"id":"a","ts":1,', Reason.NOT_JSON),
    (b'{"id":"a","ts":1,"origin":{"lat":NaN,"lon":1}}', Reason.NOT_JSON),
    (b"[1,2]", Reason.NOT_OBJECT),
    (b'{"ts":1,"origin":{"lat":1,"lon":1}}', Reason.NO_ID),
    (b'{"id":"a","origin":{"lat":1,"lon":1}}', Reason.NO_TS),
    (b'{"id":"a","ts":"now","origin":{"lat":1,"lon":1}}', Reason.BAD_TS),
    (
        orjson.dumps(
            {"id": "a", "ts": int(time.time() * 1000) + 366 * 86_400_000, "origin": ORIGIN}
        ),
        Reason.FUTURE_TS,
    ),
    (b'{"id":"a","ts":1}', Reason.NO_ORIGIN),
    (b'{"id":"a","ts":1,"origin":{"lat":91,"lon":1}}', Reason.BAD_ORIGIN),
    (
        b'{"id":"a","ts":1,"origin":{"lat":1,"lon":1},"pad":"' + b"x" * 5_000_000 + b'"}',
        Reason.TOO_LARGE,
    ),
    (None, Reason.NOT_JSON),
]


async def test_dead_letters_byte_for_byte_between_good_ones(kafka_server: KafkaServer) -> None:
    async with rig(kafka_server, raw=1) as r:
        raw: list[tuple[bytes, bytes | None]] = []
        for i, (bad, _) in enumerate(BAD):
            raw += [(b"good%d" % i, event(i)), (b"bad%d" % i, bad)]
        await r.fill(r.topics.raw, 0, raw)
        w = await r.engine(router(r))
        await w.assign((0, 1, 0))
        dead = await r.read(r.topics.dead, len(BAD))
        assert len(dead) == len(BAD)
        for i, ((value, why), letter) in enumerate(zip(BAD, dead, strict=True)):
            headers = {k: v.decode() for k, v in letter.headers}
            assert (letter.key, letter.value) == (b"bad%d" % i, value)
            assert headers["geolane-reason"] == why
            assert headers["geolane-src"] == f"{r.topics.raw}/0/{2 * i + 1}"
            assert headers["geolane-detail"]
            assert int(headers["geolane-raw-ms"]) > 0
        assert len(await r.read(r.topics.lanes, len(BAD))) == len(BAD)
        answer = await w.release((0, 1))
        found = await r.committed(r.topics.raw, 0, r.topics.router_group)
        assert found is not None
        assert answer.lanes[0].offset == found[0] == 2 * len(BAD)
        assert orjson.loads(found[1]) == {"in": 24, "out": 12, "filtered": 0, "dead": 12}


async def test_lanes_headers_and_keys(kafka_server: KafkaServer) -> None:
    async with rig(kafka_server, raw=1) as r:
        await r.fill(r.topics.raw, 0, [(b"key", event(1)), event(2), event(2)])
        await r.fill(
            r.topics.raw,
            0,
            [event(3)],
            headers=[("geolane-src", b"events.raw/9/9"), ("mine", b"x")],
        )
        w = await r.engine(router(r))
        await w.assign((0, 1, 0))
        out = sorted(await r.read(r.topics.lanes, 4), key=lambda m: dict(m.headers)["geolane-src"])
        cell = h3.latlng_to_cell(ORIGIN["lat"], ORIGIN["lon"], 4)
        assert [m.key for m in out] == [b"e3", b"key", b"e2", b"e2"], "a repeated id passes"
        for m in out:
            headers = dict(m.headers)
            assert m.partition == MAP.lane_of(cell, m.key)
            assert headers["geolane-cell"].decode() == cell
            assert (headers["geolane-ts"], headers["geolane-map"]) == (b"978964500000", b"7")
        assert [dict(m.headers)["geolane-src"].decode() for m in out] == [
            "events.raw/9/9",
            *(f"{r.topics.raw}/0/{i}" for i in range(3)),
        ]
        assert dict(out[0].headers)["mine"] == b"x"
        assert out[1].value == event(1)
        assert [a.n for a in w.engine.take_load()[1]] == sorted({m.partition for m in out})


async def test_a_place_without_coordinates_waits_for_geo(kafka_server: KafkaServer) -> None:
    async with rig(kafka_server, raw=1) as r:
        raw = orjson.dumps({"id": "p1", "ts": 5, "origin": {"place": "Chicago"}})
        await r.fill(r.topics.raw, 0, [(b"k", raw), raw])
        w = await r.engine(router(r))
        await w.assign((0, 1, 0))
        [unplaced, keyless] = await r.read(r.topics.unplaced, 2)
        assert (unplaced.key, unplaced.value) == (b"p1", raw)
        headers = dict(unplaced.headers)
        assert headers["geolane-src"].decode() == f"{r.topics.raw}/0/0"
        assert headers["geolane-raw-key"] == b"k", "geo gives it back"
        assert "geolane-raw-key" not in dict(keyless.headers)


async def test_who_placed_an_event_stays_with_it(kafka_server: KafkaServer) -> None:
    async with rig(kafka_server, raw=1) as r:
        placed = [("geolane-src", b"events.raw/0/7"), ("geolane-placed", b"offline city")]
        await r.fill(r.topics.raw, 0, [event(1)], headers=placed)
        await r.fill(r.topics.raw, 0, [event(2)], headers=[("geolane-placed", b"\xff nowhere")])
        w = await r.engine(router(r))
        await w.assign((0, 1, 0))
        out = [dict(m.headers) for m in await r.read(r.topics.lanes, 2)]
        assert [h.get("geolane-placed") for h in out] == [b"offline city", None]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_sources_may_compress(kafka_server: KafkaServer, codec: str) -> None:
    async with rig(kafka_server, raw=1) as r:
        await r.fill(r.topics.raw, 0, [event(i) for i in range(50)], codec=codec)
        w = await r.engine(router(r))
        await w.assign((0, 1, 0))
        assert sorted(m.value for m in await r.read(r.topics.lanes, 50)) == sorted(
            event(i) for i in range(50)
        )


async def test_a_huge_key_is_too_large_as_well(kafka_server: KafkaServer) -> None:
    async with rig(kafka_server, raw=1) as r:
        await r.fill(r.topics.raw, 0, [(b"k" * 2_000_000, event(1)), event(2)])
        w = await r.engine(router(r))
        await w.assign((0, 1, 0))
        [letter] = await r.read(r.topics.dead, 1)
        assert letter.key == b"k" * 2_000_000
        assert dict(letter.headers)["geolane-reason"] == b"too_large"
        assert len(await r.read(r.topics.lanes, 1)) == 1


async def test_the_highest_lane_map_holds(kafka_server: KafkaServer) -> None:
    topic = await kafka_server.topic("lanemap", cleanup_policy="compact")
    assert await read_newest_lane_map(kafka_server.kafka, topic=topic) is None
    first, second = build_lane_map([event(1)], 2, 4, 9), build_lane_map([event(1)], 2, 4, 10)
    await publish_lane_map(kafka_server.kafka, second, topic=topic)
    await publish_lane_map(kafka_server.kafka, first, topic=topic)
    await publish_lane_map(kafka_server.kafka, second, topic=topic)
    assert await read_newest_lane_map(kafka_server.kafka, topic=topic) == second
    with pytest.raises(SettingsError, match="version 10"):
        await publish_lane_map(
            kafka_server.kafka, build_lane_map([event(1)], 3, 4, 10), topic=topic
        )
    assert murmur2(b"x") >= 0
