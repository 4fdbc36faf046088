"""A record may hold what no library of ours would write: it costs that record at most, and nobody
stops."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
import pytest

from agents.core.lanes.records import Record
from agents.node.stage import NodeStage
from tests.fixtures import foreign
from tests.fixtures.foreign import Foreign
from tests.fixtures.kafka import KafkaServer
from tests.router.test_router import router
from tests.worker.support import Here, Rig, event, rig, until
from tests.worker.test_engine import LIMIT, node

LATIN = b"gr\xf6\xdfe"  # no UTF-8
GOOD = Foreign(event(0), b"k")
ZEROS = 200 << 20


def _bomb(codec: int) -> bytes:
    """One record of 200 MB in a batch of at most 200 kB."""
    return foreign.batch([Foreign(bytes(ZEROS))], codec)


def _raw(headers: list[tuple[bytes, bytes | None]]) -> bytes:
    return foreign.batch([GOOD, Foreign(event(1), b"odd", headers), GOOD])


RAW = {
    "a name that is not UTF-8": (_raw([(LATIN, b"1")]), "bad_header"),
    "the same, compressed": (
        foreign.batch([GOOD, Foreign(event(1), None, [(LATIN, None)]), GOOD], 4),
        "bad_header",
    ),
    "an empty name": (_raw([(b"", None)]), None),
    "a source that is none": (_raw([(b"geolane-src", b"\xff\xfe")]), None),
    "a source without a value": (_raw([(b"geolane-src", None)]), None),
    "a source too long": (_raw([(b"geolane-src", b"events.raw/0/" + b"9" * 5000)]), None),
    "replays without a value": (_raw([(b"geolane-replays", None)]), None),
    "replays that are no number": (_raw([(b"geolane-replays", b"\xb2")]), None),
    "a death without a value": (_raw([(b"geolane-died", None), (b"geolane-died", b"\xff")]), None),
    "all ours, forged": (
        _raw(
            [
                (b"geolane-" + x, b"\xff")
                for x in (b"raw-ms", b"ts", b"cell", b"map", b"part", b"lane")
            ]
        ),
        None,
    ),
    "a key that is not UTF-8": (foreign.batch([GOOD, Foreign(event(1), b"\xff\x00"), GOOD]), None),
}


@pytest.mark.parametrize("what", RAW)
async def test_a_router_gets_past_any_record(kafka_server: KafkaServer, what: str) -> None:
    data, reason = RAW[what]
    async with rig(kafka_server, lanes=4, raw=1) as r, foreign.sender(r.kafka) as sender:
        assert await sender.send(r.topics.raw, 0, data) == (0, 0)
        w = await r.engine(router(r))
        await w.assign((0, 1, 0))
        lanes = await r.read(r.topics.lanes, 2 if reason else 3)
        dead = await r.read(r.topics.dead, 1 if reason else 0)
        sources = sorted(dict(x.headers)["geolane-src"].decode() for x in [*lanes, *dead])
        assert sources == [f"{r.topics.raw}/0/{i}" for i in range(3)]
        if reason:
            assert dict(dead[0].headers)["geolane-reason"].decode() == reason


async def test_a_dead_letter_keeps_a_name_that_is_not_utf8(kafka_server: KafkaServer) -> None:
    """Byte for byte, and so do those around it."""
    async with rig(kafka_server, lanes=4, raw=1) as r, foreign.sender(r.kafka) as sender:
        odd = Foreign(b"\xff", b"k", [(b"plain", b"1"), (LATIN, b"\x00"), (b"last", None)])
        await sender.send(
            r.topics.raw, 0, foreign.batch([Foreign(b"no"), odd, Foreign(b"no"), odd])
        )
        w = await r.engine(router(r))
        await w.assign((0, 1, 0))
        dead = await r.read(r.topics.dead, 4)
        assert [x.value for x in dead] == [b"no", b"\xff", b"no", b"\xff"]
        theirs = [(name.encode(), content) for name, content in dead[1].headers]
        assert theirs[2:5] == list(odd.headers)


@pytest.mark.parametrize("codec", [foreign.GZIP, foreign.SNAPPY, foreign.LZ4, foreign.ZSTD])
async def test_compressed_records_are_read_whoever_wrote_them(
    kafka_server: KafkaServer, codec: int
) -> None:
    async with rig(kafka_server, lanes=4, raw=1) as r, foreign.sender(r.kafka) as sender:
        assert (await sender.send(r.topics.raw, 0, foreign.batch([GOOD] * 100, codec)))[0] == 0
        w = await r.engine(router(r))
        await w.assign((0, 1, 0))
        assert len(await r.read(r.topics.lanes, 100)) == 100


@pytest.mark.parametrize("codec", [foreign.GZIP, foreign.ZSTD])
async def test_a_record_of_200_mb_in_a_small_batch_costs_itself(
    kafka_server: KafkaServer, codec: int
) -> None:
    async with rig(kafka_server, lanes=4, raw=1) as r, foreign.sender(r.kafka) as sender:
        assert (await sender.send(r.topics.raw, 0, _bomb(codec)))[0] == 0
        await sender.send(r.topics.raw, 0, foreign.batch([GOOD]))
        w = await r.engine(router(r))
        await w.assign((0, 1, 0))
        assert len(await r.read(r.topics.lanes, 1)) == 1
        [letter] = await r.read(r.topics.dead, 1)
        assert dict(letter.headers)["geolane-reason"] == b"unreadable"


async def test_a_record_larger_than_the_dead_letters_topic_takes_leaves_its_value(
    kafka_server: KafkaServer,
) -> None:
    """20 MB that came as 20 kB; where it is stays known."""
    async with rig(kafka_server, lanes=4, raw=1) as r, foreign.sender(r.kafka) as sender:
        await sender.send(
            r.topics.raw, 0, foreign.batch([Foreign(bytes(20 << 20), b"k")], foreign.ZSTD)
        )
        w = await r.engine(router(r))
        await w.assign((0, 1, 0))
        [letter] = await r.read(r.topics.dead, 1)
        headers = dict(letter.headers)
        assert (letter.key, letter.value) == (b"k", None)
        assert headers["geolane-src"] == f"{r.topics.raw}/0/0".encode()
        assert (headers["geolane-reason"], headers["geolane-detail"][:8]) == (
            b"too_large",
            b"left out",
        )


def _lane(*headers: tuple[bytes, bytes | None], value: bytes | None = None) -> Foreign:
    usual: dict[bytes, bytes | None] = {
        b"geolane-src": b"raw/0/0",
        b"geolane-raw-ms": b"1",
        b"geolane-cell": b"842664dffffffff",
        b"geolane-ts": b"978964500000",
        b"geolane-map": b"1",
    }
    return Foreign(value or event(1), b"k", list((usual | dict(headers)).items()))


LANES: dict[str, tuple[Foreign, str | None]] = {
    "a source that is none": (_lane((b"geolane-src", b"\xff\xfe")), None),
    "a source without a value": (_lane((b"geolane-src", None)), None),
    "a time that is none": (_lane((b"geolane-ts", b"soon")), None),
    "a time without a value": (_lane((b"geolane-ts", None)), None),
    "a time of 4,000 digits": (_lane((b"geolane-ts", b"9" * 4000)), None),
    "an append of 4,000 digits": (_lane((b"geolane-raw-ms", b"9" * 4000)), None),
    "an append of 300 digits": (_lane((b"geolane-raw-ms", b"9" * 300)), None),
    "a cell that is none": (_lane((b"geolane-cell", b"\xff" * 3000)), None),
    "no header at all": (Foreign(event(1)), None),
    "a name that is not UTF-8": (_lane((LATIN, b"1")), "bad_header"),
    "no value": (Foreign(None, b"k"), "not_json"),
}


@pytest.mark.parametrize("what", LANES)
async def test_a_node_gets_past_any_record(kafka_server: KafkaServer, what: str) -> None:
    odd, reason = LANES[what]
    async with rig(kafka_server, lanes=1) as r, foreign.sender(r.kafka) as sender:
        assert await sender.send(r.topics.lanes, 0, foreign.batch([_lane(), odd, _lane()])) == (
            0,
            0,
        )
        w = await r.engine(node(r))
        await w.assign((0, 1, 0))
        clean = await r.read(r.topics.clean, 2 if reason else 3)
        dead = await r.read(r.topics.dead, 1 if reason else 0)
        assert len(clean) + len(dead) == 3
        if reason:
            assert dict(dead[0].headers)["geolane-reason"].decode() == reason
        assert not w.task.done()


async def test_what_no_router_wrote_does_not_count_as_the_pipelines_failure(
    kafka_server: KafkaServer,
) -> None:
    def strict(batch: list[Record]) -> list[Record | None]:
        assert batch
        return [r.with_value(orjson.dumps(orjson.loads(r.value))) for r in batch]

    async with rig(kafka_server, lanes=1) as r, foreign.sender(r.kafka) as sender:
        await sender.send(r.topics.lanes, 0, foreign.batch([Foreign(None, b"k")] * 150))
        await sender.send(r.topics.lanes, 0, foreign.batch([_lane()]))
        w = await r.engine(NodeStage(Here(strict), LIMIT, r.topics))
        await w.assign((0, 1, 0))
        assert len(await r.read(r.topics.clean, 1)) == 1
        assert len(await r.read(r.topics.dead, 150)) == 150


async def _one(r: Rig, sender: Any, data: bytes) -> None:
    assert (await sender.send(r.topics.raw, 0, data))[0] == 0


async def test_batches_that_say_one_thing_and_hold_another(kafka_server: KafkaServer) -> None:
    """What the broker takes of these, nobody stops at."""
    async with rig(kafka_server, lanes=4, raw=1) as r, foreign.sender(r.kafka) as sender:
        plain = foreign.body([GOOD])
        taken = 0
        for data in (
            foreign.batch([GOOD], 5),
            foreign.batch([GOOD], foreign.GZIP, content=b"rubbish"),
            foreign.batch([GOOD], foreign.GZIP, content=gzip.compress(plain)[:-4]),
            foreign.batch([GOOD], foreign.ZSTD, content=foreign.compress(4, plain) + b"more"),
            foreign.batch([GOOD], content=plain + b"\0\0"),
            foreign.batch([GOOD], count=3),
            foreign.batch([], count=0),
            foreign.batch([GOOD], crc=1),
            foreign.batch([GOOD], attributes=foreign.CONTROL),
            foreign.batch([GOOD], attributes=foreign.TRANSACTIONAL, producer=(77, 0, 0)),
            foreign.batch([GOOD], producer=(77, 0, 5)),
            foreign.batch([GOOD], first_ms=-1),
            foreign.batch([Foreign(event(1), b"k", delta_ms=-(1 << 62))]),
        ):
            taken += (await sender.send(r.topics.raw, 0, data))[0] == 0
        await _one(r, sender, foreign.batch([GOOD]))
        w = await r.engine(router(r))
        await w.assign((0, 1, 0))
        assert len(await r.read(r.topics.lanes, taken + 1)) == taken + 1


async def test_a_batch_that_the_disk_has_changed_stops_its_partition_alone(
    kafka_server: KafkaServer,
) -> None:
    async with rig(kafka_server, lanes=4, raw=2) as r:
        await r.fill(r.topics.raw, 0, [event(0, pad="z" * 500)])
        await r.fill(r.topics.raw, 1, [event(i) for i in range(20)])
        for log in kafka_server.broker.folder.rglob(f"{r.topics.raw}-0/*.log"):
            log.write_bytes(log.read_bytes().replace(b"z" * 100, b"y" * 100, 1))
        w = await r.engine(router(r))
        await w.assign((0, 1, 0), (1, 1, 0))
        assert len(await r.read(r.topics.lanes, 20)) == 20
        await until(lambda: "wrong checksum" in w.engine._own.lanes[0].fault)
        assert "raw 0 to=1 goes on behind it" in w.engine._own.lanes[0].fault
        await r.fill(r.topics.raw, 1, [event(i) for i in range(20)])
        assert len(await r.read(r.topics.lanes, 40)) == 40
