"""The Kafka Streams engine for tests: its sorter without Kafka, and what the Python engine makes of
the same records."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import pytest

from agents.base.files import PROJECT
from agents.core.lanes.lane_map import LaneMap
from agents.core.lanes.records import BadName, Headers
from agents.kafka.batches import NewRecord
from agents.router.java_program import JARS
from agents.router.stage import RouterStage
from agents.router.streams_config import unprintable_ranges
from agents.worker.stage import Outbox, Topics

TOPIC = "events.raw"
BUILD = PROJECT / ".local" / "streams-build"

needs_jars = pytest.mark.skipif(
    shutil.which("java") is None or not (BUILD / "test-classes").exists(),
    reason="no JDK or no jars: sh agents/local/servers/install.sh streams",
)


@dataclass(frozen=True, slots=True)
class Raw:
    """A record of events.raw; the names of headers are bytes, as they are in Kafka."""

    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[bytes, bytes | None]] = ()
    offset: int = 0
    timestamp: int = 1_700_000_000_000


@dataclass(frozen=True, slots=True)
class Out:
    """What becomes of it. A header's name that is not UTF-8 is in the form that can be shown, since
    Kafka's Java client cannot write it otherwise."""

    topic: str
    n: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a router is started with."""

    lanemap: LaneMap
    max_bytes: int = 1 << 20
    future_limit_ms: int = 300_000
    unplaced_partitions: int = 1


class _Kept(Outbox):
    """Keeps what is added."""

    def __init__(self) -> None:
        super().__init__(lambda **_: None, 0)
        self.records: list[Out] = []

    def add_record(
        self, topic: str, n: int, key: bytes | None, value: bytes | None, headers: Headers
    ) -> None:
        self.records.append(
            Out(topic, n, key, value, tuple((str(name), content) for name, content in headers))
        )

    def add_records(self, topic: str, n: int, records: Sequence[NewRecord]) -> None:
        for key, value, headers in records:
            self.add_record(topic, n, key, value, headers)


@dataclass(frozen=True, slots=True)
class _Fetched:
    topic: str
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def _as_fetched(r: Raw) -> _Fetched:
    names = [(_header_name(name), content) for name, content in r.headers]
    return _Fetched(TOPIC, r.offset, r.timestamp, r.key, r.value, names)


def _header_name(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return BadName(name)


def sorted_by_python(records: Sequence[Raw], rules: Rules, n: int = 0) -> list[Out]:
    stage = RouterStage(
        rules.lanemap,
        rules.max_bytes,
        rules.future_limit_ms,
        unplaced_partitions=rules.unplaced_partitions,
    )
    kept = _Kept()
    for r in records:  # one by one, since a batch's outputs come by lane
        stage.process_batch({n: [_as_fetched(r)]}, kept)
    return kept.records


def sorted_by_java(records: Sequence[Raw], rules: Rules, n: int = 0) -> list[Out]:
    topics = Topics()
    config = {
        "map": rules.lanemap.encode().decode(),
        "max_bytes": rules.max_bytes,
        "future_limit_ms": rules.future_limit_ms,
        "unplaced_partitions": rules.unplaced_partitions,
        "dead": topics.dead,
        "topic": TOPIC,
        "unprintable": unprintable_ranges(),
    }
    data = bytearray(_field(json.dumps(config).encode()))
    for r in records:
        data += b"\1" + struct.pack(">iqq", n, r.offset, r.timestamp)
        data += _field(r.key) + _field(r.value) + struct.pack(">i", len(r.headers))
        for name, content in r.headers:
            data += _field(name) + _field(content)
    classes = f"{BUILD / 'test-classes'}:{BUILD / 'classes'}:{JARS}/*"
    command = ["java", "-Xmx512m", "-cp", classes, "geolane.router.SortRecords"]
    done = subprocess.run(command, input=bytes(data), capture_output=True, timeout=150)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    answer, names = BytesIO(done.stdout), (topics.lanes, topics.unplaced, topics.dead)
    found = []
    while target := answer.read(1):
        (to,) = struct.unpack(">i", answer.read(4))
        key, value = _read_field(answer), _read_field(answer)
        (count,) = struct.unpack(">i", answer.read(4))
        headers = tuple(
            ((_read_field(answer) or b"").decode(), _read_field(answer)) for _ in range(count)
        )
        found.append(Out(names[target[0]], to, key, value, headers))
    return found


def _field(content: bytes | None) -> bytes:
    return struct.pack(">i", -1) if content is None else struct.pack(">i", len(content)) + content


def _read_field(answer: BytesIO) -> bytes | None:
    (length,) = struct.unpack(">i", answer.read(4))
    return None if length < 0 else answer.read(length)
