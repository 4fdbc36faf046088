"""What a hostile or broken source might send, drawn from a seed: whole batches, and for each record
in them what has to become of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import orjson

from agents.core.model.topology import TOPIC_CLEAN, TOPIC_DEAD, TOPIC_LANES, TOPIC_UNPLACED
from tests.fixtures import foreign
from tests.fixtures.foreign import Foreign

T = TypeVar("T")
NOISE = "noise"
"""What was written to where only results are, says that it comes from there."""
MAX_EVENT_BYTES = 1 << 20
OPENED_BYTES = 128 << 20
PIPELINE = """
import orjson


def pipeline(records):
    return [one(r) for r in records]


def one(r):
    match orjson.loads(r.value).get("fuzz"):
        case "drop":
            return None
        case "nothing":
            return []
        case "three":
            return [r, r, r]
        case "raise":
            raise ValueError("as it was told")
        case "grow":
            return r.with_value(bytes(2 << 20))
        case "text":
            return r.with_value("no bytes")
    return r
"""


@dataclass(frozen=True, slots=True)
class Becomes:
    """`outputs`: in events.clean (0: filtered); None: elsewhere. `reasons`: of a dead letter.
    `any_number`: of outputs will do, since what is left of the record's word to the pipeline is not
    known."""

    outputs: int | None = None
    reasons: frozenset[str] = frozenset()
    unplaced: bool = False
    any_number: bool = False


CLEAN, FILTERED, UNPLACED = Becomes(1), Becomes(0), Becomes(unplaced=True)


def dead(*reasons: str) -> Becomes:
    return Becomes(reasons=frozenset(reasons))


ANY_DEAD = dead(
    "not_json",
    "not_object",
    "no_id",
    "no_ts",
    "bad_ts",
    "future_ts",
    "no_origin",
    "bad_origin",
    "too_large",
    "pipeline_error",
    "bad_header",
    "unreadable",
)
ANY = Becomes(1, ANY_DEAD.reasons, True, True)


@dataclass(slots=True)
class Record:
    """`src`: what it says that it comes from; empty: its own position."""

    content: Foreign
    becomes: Becomes
    src: str = ""


@dataclass(slots=True)
class Batch:
    """`data`: as it is sent. `transactional`: by a producer that commits (True) or aborts
    (False)."""

    records: list[Record] = field(default_factory=list)
    data: bytes = b""
    transactional: bool | None = None


class Cases:
    """An endless stream of batches, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self._count = 0
        self._values = _weighted(VALUES)
        self._headers = _weighted(HEADERS)

    def batch(self) -> Batch:
        rng = self.rng
        rare = rng.random()
        if rare < 0.0005:
            return self._bomb()
        if rare < 0.01:
            return self._lie()
        count = 1 if rng.random() < 0.3 else rng.randrange(1, 60)
        batch = Batch([self.record() for _ in range(count)])
        if rare < 0.03:
            batch.transactional = rng.random() < 0.7
            return batch
        codec = rng.choice((0, 0, 0, 1, 2, 3, 4))
        first_ms = rng.choice((foreign.ANY_MS, 0, -1, foreign.now_ms(), 1 << 61))
        batch.data = foreign.batch([r.content for r in batch.records], codec, first_ms=first_ms)
        return batch

    def record(self) -> Record:
        self._count += 1
        value, becomes = self.rng.choice(self._values)(self)
        key = self._key()
        headers, src, verdict = self.rng.choice(self._headers)(self)
        becomes = verdict or becomes
        size = (
            64
            + len(key or b"")
            + len(value or b"")
            + sum(len(k) + len(v or b"") + 10 for k, v in headers)
        )
        if size > MAX_EVENT_BYTES - 4096:
            becomes = replace(becomes, reasons=becomes.reasons | {"too_large"})
        return Record(Foreign(value, key, headers), becomes, src)

    def _key(self) -> bytes | None:
        rng = self.rng
        kind = rng.randrange(8)
        if kind < 3:
            return None
        if kind == 3:
            return b""
        return rng.randbytes(rng.choice((1, 8, 16, 300, 10_000)) if kind == 4 else 8)

    def _bomb(self) -> Batch:
        """Small on the way, large in memory."""
        rng = self.rng
        size = rng.choice((9 << 20, 20 << 20, 150 << 20, 200 << 20))
        becomes = dead("unreadable") if size > OPENED_BYTES else dead("too_large")
        content = Foreign(bytes(size), None)
        codec = rng.choice((foreign.GZIP, foreign.LZ4, foreign.ZSTD))
        return Batch([Record(content, becomes)], foreign.batch([content], codec))

    def _lie(self) -> Batch:
        """A batch that is not what it says; a broker takes few of these."""
        rng = self.rng
        records = [self.record() for _ in range(rng.randrange(1, 5))]
        contents = [r.content for r in records]
        plain = foreign.body(contents)
        unread = [
            Record(r.content, replace(ANY, outputs=r.becomes.outputs), r.src) for r in records
        ]
        match rng.randrange(8):
            case 0:
                data = foreign.batch(contents, rng.choice((5, 6, 7)))
            case 1:
                data = foreign.batch(contents, rng.randrange(1, 5), content=rng.randbytes(100))
            case 2:
                data = foreign.batch(
                    contents, 4, content=foreign.compress(4, plain)[: -rng.randrange(1, 9)]
                )
            case 3:
                data = foreign.batch(contents, content=plain + rng.randbytes(rng.randrange(1, 9)))
            case 4:
                data = foreign.batch(contents, count=len(contents) + rng.randrange(1, 100))
            case 5:
                data = foreign.batch(contents, crc=rng.getrandbits(32))
            case 6:
                data = foreign.batch(contents, attributes=rng.choice((0x20, 0x30, 0x40, 0x80)))
            case _:
                producer = (rng.randrange(1, 1 << 40), rng.randrange(0, 9), rng.randrange(0, 9))
                data = foreign.batch(contents, producer=producer)
        return Batch(unread, data)

    def beside(self) -> tuple[str, Batch]:
        """Written by a foreign hand where only our workers write: lanes are worked, the others are
        read."""
        rng = self.rng
        self._count += 1
        topic = rng.choice((TOPIC_LANES, TOPIC_LANES, TOPIC_CLEAN, TOPIC_DEAD, TOPIC_UNPLACED))
        src = f"{'foreign' if topic == TOPIC_LANES else NOISE}/0/{self._count}"
        rubbish = (None, b"", b"\xff\xfe", b"9" * 400, b"-1")
        names = rng.sample(
            [b"raw-ms", b"cell", b"ts", b"map", b"lane", b"replays", b"died", b"x"],
            rng.randrange(8),
        )
        headers: list[tuple[bytes, bytes | None]] = [(b"geolane-src", src.encode())]
        headers += [(b"geolane-" + name, rng.choice(rubbish)) for name in names]
        if rng.random() < 0.3:
            headers.append((b"gr\xf6\xdfe", None))
        rng.shuffle(headers)
        value = rng.choice((None, self.event(), self.event(), self.event(), rng.randbytes(9)))
        content = Foreign(value, self._key(), headers)
        becomes = Becomes(1, ANY_DEAD.reasons)
        return topic, Batch(
            [Record(content, becomes, src)], foreign.batch([content], rng.choice((0, 1, 4)))
        )

    def number(self) -> int:
        return self._count

    def event(self, **changed: object) -> bytes:
        """A good event; `...` leaves a member out."""
        rng = self.rng
        ts: object = rng.choice(
            ("2001-01-08T14:35:00Z", 978_964_500_000, "2001-01-08t14:35:00.123456+01:00")
        )
        origin = {"lat": rng.uniform(-90, 90), "lon": rng.uniform(-180, 180)}
        event = {"id": f"e{self._count}", "ts": ts, "origin": origin} | changed
        return orjson.dumps({k: v for k, v in event.items() if v is not ...})


Value = tuple[bytes | None, Becomes]
Made = tuple[list[tuple[bytes, bytes | None]], str, Becomes | None]


def _weighted(of: list[tuple[int, T]]) -> list[T]:
    return [x for weight, x in of for _ in range(weight)]


def _deep(c: Cases) -> Value:
    n = c.rng.choice((500, 5_000, 100_000))
    return b'{"id":"a","ts":1,"origin":{"lat":1,"lon":1},"x":' + b"[" * n + b"]" * n + b"}", ANY


def _noise(c: Cases) -> Value:
    return c.rng.randbytes(c.rng.randrange(1, 200)), ANY_DEAD


def _cut(c: Cases) -> Value:
    whole = c.event()
    return whole[: c.rng.randrange(len(whole))], ANY_DEAD


def _flipped(c: Cases) -> Value:
    whole = bytearray(c.event())
    whole[c.rng.randrange(len(whole))] ^= 1 << c.rng.randrange(8)
    return bytes(whole), ANY


def _large(c: Cases) -> Value:
    return c.event(pad="x" * c.rng.choice((2_000, 30_000, 100_000))), CLEAN


def _too_large(c: Cases) -> Value:
    return c.event(pad="x" * c.rng.choice((MAX_EVENT_BYTES, 3 << 20))), dead("too_large")


def _edge(c: Cases) -> Value:
    """About as large as an event may be."""
    return c.event(pad="x" * (MAX_EVENT_BYTES - c.rng.randrange(0, 400))), Becomes(
        1, frozenset({"too_large"})
    )


def _long_id(c: Cases) -> Value:
    return c.event(id="i" * c.rng.choice((300, 70_000, 600_000))), Becomes(
        1, frozenset({"too_large"})
    )


VALUES: list[tuple[int, Callable[[Cases], Value]]] = [
    (600, lambda c: (c.event(), CLEAN)),
    (20, lambda c: (c.event(fuzz="drop"), FILTERED)),
    (10, lambda c: (c.event(fuzz="nothing"), FILTERED)),
    (20, lambda c: (c.event(fuzz="three"), Becomes(3))),
    (4, lambda c: (c.event(fuzz="raise"), dead("pipeline_error"))),
    (2, lambda c: (c.event(fuzz="grow"), dead("too_large"))),
    (2, lambda c: (c.event(fuzz="text"), dead("pipeline_error"))),
    (20, lambda c: (c.event(origin={"place": "Portland, Oregon"}), UNPLACED)),
    (10, lambda c: (None, dead("not_json"))),
    (5, lambda c: (b"", dead("not_json"))),
    (20, _noise),
    (20, _cut),
    (20, _flipped),
    (2, _deep),
    (10, lambda c: (b"[1, 2]", dead("not_object"))),
    (5, lambda c: (b'{"id":"\\ud800","ts":1,"origin":{"lat":1,"lon":1}}', ANY)),
    (5, lambda c: (b'{"id":"a","ts":1,"origin":{"lat":1e999,"lon":1}}', ANY_DEAD)),
    (5, lambda c: (b'{"id":"a","id":"b","ts":1,"ts":2,"origin":{"lat":1,"lon":1}}', ANY)),
    (5, lambda c: (b"\xef\xbb\xbf" + c.event(), ANY)),
    (5, lambda c: (c.event(id=...), dead("no_id"))),
    (5, lambda c: (c.event(id=7), dead("no_id"))),
    (5, lambda c: (c.event(id="\x00\n\u202e<b>"), CLEAN)),
    (5, lambda c: (c.event(ts=...), dead("no_ts"))),
    (5, lambda c: (c.event(ts="yesterday"), dead("bad_ts"))),
    (
        5,
        lambda c: (
            c.event(ts=c.rng.choice((-(1 << 62), 1 << 63, 1.5, True))),
            dead("bad_ts", "future_ts"),
        ),
    ),
    (5, lambda c: (c.event(ts="9999-12-31T23:59:59Z"), dead("future_ts"))),
    (5, lambda c: (c.event(origin=...), dead("no_origin"))),
    (5, lambda c: (c.event(origin={"lat": 91, "lon": 0}), dead("bad_origin"))),
    (5, lambda c: (c.event(origin={"lat": "1", "lon": [1]}), dead("bad_origin"))),
    (5, lambda c: (c.event(origin={"lat": -90, "lon": 180}), CLEAN)),
    (5, _large),
    (1, _too_large),
    (1, _edge),
    (1, _long_id),
]


def _none(c: Cases) -> Made:
    return [], "", None


def _own(c: Cases) -> Made:
    return (
        [(b"trace", c.rng.randbytes(16)), (b"", None), (b"trace", b"again"), (b"a\nb\x1b[2J", b"")],
        "",
        None,
    )


def _many(c: Cases) -> Made:
    return [(b"h%d" % i, b"x" * 10) for i in range(c.rng.choice((50, 3_000)))], "", None


def _heavy(c: Cases) -> Made:
    return [(b"heavy", bytes(c.rng.choice((3_000, 50_000))))], "", None


def _latin(c: Cases) -> Made:
    return (
        [(b"ok", b"1"), (b"gr\xf6\xdfe", c.rng.randbytes(4)), (b"\xff\x00", None)],
        "",
        dead("bad_header"),
    )


def _forged(c: Cases) -> Made:
    """Our own names, with content that is not ours."""
    rubbish = (
        None,
        b"",
        b"\xff\xfe",
        b"9" * 400,
        b"-1",
        b"1/0",
        b"0/1000000000",
        "\u00b2".encode(),
    )
    names = c.rng.sample(OURS, c.rng.randrange(1, len(OURS)))
    return [(b"geolane-" + name, c.rng.choice(rubbish)) for name in names], "", None


def _source(c: Cases) -> Made:
    """As one that has been here before: it keeps its source."""
    src = f"elsewhere/{c.rng.randrange(9)}/{c.number()}"
    return [(b"geolane-src", src.encode()), (b"geolane-src", b"second/1/1")], src, None


def _replayed(c: Cases) -> Made:
    src = f"elsewhere/{c.rng.randrange(9)}/{c.number()}"
    return (
        [
            (b"geolane-src", src.encode()),
            (b"geolane-replays", b"%d" % c.rng.randrange(1, 4)),
            (b"geolane-died", b"bad_ts 1 events.dead/0/1 ana"),
        ],
        src,
        None,
    )


OURS = [
    b"src",
    b"raw-ms",
    b"cell",
    b"ts",
    b"map",
    b"part",
    b"reason",
    b"detail",
    b"lane",
    b"replays",
    b"died",
    b"raw-key",
    b"placed",
    b"unplaced-at",
    b"x",
]
HEADERS: list[tuple[int, Callable[[Cases], Made]]] = [
    (500, _none),
    (60, _own),
    (5, _many),
    (5, _heavy),
    (30, _latin),
    (60, _forged),
    (30, _source),
    (20, _replayed),
]
