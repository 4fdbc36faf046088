"""Records that are taken in lists are those that aiokafka would give, whatever the log holds and
however many are taken at a time."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException
from aiokafka.record.util import calc_crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.kafka.fetched import ListedRecords
from agents.kafka.foreign import FetchedBatches
from tests.fixtures import foreign
from tests.fixtures.foreign import CONTROL, TRANSACTIONAL, Foreign

TP = TopicPartition("t", 0)
COMMIT, ABORT = struct.pack(">HH", 0, 1), struct.pack(">HH", 0, 0)
COMMITTED = 1
MOST = 1 << 30


@dataclass(frozen=True)
class Part:
    """A batch of the log. `marker`: of a control batch. `gone`: offsets at its end whose records
    compaction has removed."""

    records: int
    codec: int = 0
    producer: int = -1
    marker: bytes | None = None
    gone: int = 0


PARTS = st.lists(
    st.one_of(
        st.builds(
            Part, st.integers(1, 5), st.integers(0, 4), st.sampled_from([-1, 1, 2]),
            st.none(), st.integers(0, 2),
        ),
        st.builds(Part, st.just(1), st.just(0), st.sampled_from([1, 2]),
                  st.sampled_from([COMMIT, ABORT])),
    ),
    min_size=1, max_size=8,
)  # fmt: skip


def log(parts: list[Part], base: int = 100) -> bytes:
    out = b""
    for part in parts:
        attributes = TRANSACTIONAL if part.producer >= 0 else 0
        some = [Foreign(b"v%d" % i, b"k", [(b"h", b"%d" % i)]) for i in range(part.records)]
        if part.marker is not None:
            attributes |= CONTROL
            some = [Foreign(b"\0" * 6, part.marker)]
        producer = (part.producer, 0, 0) if part.producer >= 0 else (-1, -1, -1)
        one = bytearray(foreign.batch(some, part.codec, attributes=attributes, producer=producer))
        last = len(some) + part.gone - 1
        struct.pack_into(">q", one, 0, base)
        struct.pack_into(">i", one, 23, last)
        struct.pack_into(">I", one, 17, calc_crc32c(bytes(one[21:])))
        out += one
        base += last + 1
    return out


def kept(kind: Any, data: bytes, aborted: Any, begin: int) -> Any:
    batches = FetchedBatches(data)
    return kind(TP, batches, aborted, begin, None, None, True, COMMITTED)


def fields(records: Any) -> list[Any]:
    return [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in records]


@settings(deadline=None, max_examples=300)
@given(
    PARTS,
    st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(100, 130))),
    st.integers(100, 105),
    st.lists(st.integers(1, 7), min_size=1, max_size=40),
)
def test_the_same_records_and_positions_as_aiokafka(
    parts: list[Part], aborted: list[tuple[int, int]], begin: int, sizes: list[int]
) -> None:
    data = log(parts)
    theirs = kept(ListedRecords.__base__, data, list(aborted), begin)
    given_by_them = theirs._records_iterator
    ours = kept(ListedRecords, data, list(aborted), begin)
    for size in [*sizes, MOST]:
        wanted: list[Any] = []
        while len(wanted) < size and (record := next(given_by_them, None)) is not None:
            wanted.append(record)
        assert fields(ours.take_records(size)) == fields(wanted)
        assert ours.next_fetch_offset == theirs.next_fetch_offset
    assert ours.is_done


def test_a_wrong_checksum_is_raised() -> None:
    data = bytearray(log([Part(2), Part(2)]))
    data[-1] ^= 1
    records = kept(ListedRecords, bytes(data), None, 100)
    assert len(records.take_records(2)) == 2
    with pytest.raises(CorruptRecordException, match="Invalid CRC"):
        records.take_records(1)
