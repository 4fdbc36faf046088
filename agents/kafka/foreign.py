"""Reads record batches that any program may have written, and can write such records again: an
unreadable record costs that record, never the consumer.

aiokafka decodes header names as UTF-8, which no broker checks, and its consumer ends at the first
name that is not UTF-8. It decompresses without a bound, and one batch that it cannot decode blocks
every partition of the consumer. Here such a name becomes a `BadName`, and a record without readable
content has one header, an `Unread` (core/lanes/records.py). A wrong checksum still raises: its
cause is the disk or the network, not the sender. Source: Kafka's documentation, "Record Batch",
KIP-98.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import cramjam
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords

from agents.core.lanes.records import BadName, Headers, Unread
from agents.kafka.batches import RecordBatch

MAX_OPENED_BYTES = 128 << 20
"""Limit of a decompressed batch: 16 times the largest batch that our topics take."""
_HEAD = struct.Struct(">qiibIhiqqqhii")
_LENGTH, _MAGIC, _ATTRIBUTES = 8, 16, 21
_CODEC, _APPEND_TIME = 0x07, 0x08
_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
_XERIAL = b"\x82SNAPPY\x00"
_SOME = 500


class _Broken(Exception):
    """The content of a batch cannot be read, and why."""


_FAULTS = (_Broken, CorruptRecordException, ValueError, IndexError, struct.error)
"""What a reader raises for a malformed batch (UnicodeDecodeError is a ValueError)."""


@dataclass(slots=True)
class _FetchedRecord:
    """Has the fields of aiokafka's own records."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    checksum: None = None


class FetchedBatches:
    """Replaces aiokafka's MemoryRecords: the batches that one fetch has returned for a
    partition."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._inner: Any = MemoryRecords(data)  # Any: aiokafka has no types

    def size_in_bytes(self) -> int:
        return int(self._inner.size_in_bytes())

    def has_next(self) -> bool:
        return bool(self._inner.has_next())

    def next_batch(self) -> Any:
        (length,) = struct.unpack_from(">i", self._data, self._at + _LENGTH)
        begin, self._at = self._at, self._at + 12 + length
        batch = self._inner.next_batch()
        if batch is None:
            return None
        is_legacy = self._data[begin + _MAGIC] < 2
        return _Batch(batch, None if is_legacy else memoryview(self._data)[begin : self._at])


class _Batch:
    """One batch. Everything but its records comes from aiokafka. `data`: None for a batch of the
    formats before 2, which aiokafka alone reads."""

    def __init__(self, inner: Any, data: memoryview | None) -> None:
        self._inner, self._data = inner, data
        self._records: Iterator[Any] | None = None
        self._taken = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __next__(self) -> Any:
        return next(self._inner)

    def __iter__(self) -> Iterator[Any]:
        while some := self.take_records(_SOME):
            yield from some

    def take_records(self, most: int) -> list[Any]:
        """The next records, fewer than `most` only at the end. Uses aiokafka's fast reader up to
        the first record that it cannot read, and ours after it."""
        try:
            if self._records is None:
                self._records = chain(self._open())  # aiokafka's own `iter` can be called once
            got = list(islice(self._records, most))
        except _FAULTS:
            if self._data is None:
                raise
            self._records = islice(_decode_records(self._data), self._taken, None)
            got = list(islice(self._records, most))
        self._taken += len(got)
        return got

    def _open(self) -> Any:
        opened = None if self._data is None else _decompress_batch(self._data)
        return self._inner if opened is None else DefaultRecordBatch(opened)


def _decompress_batch(data: memoryview) -> bytes | None:
    """The decompressed batch; None if it is not compressed. Raises _Broken."""
    head = bytearray(data[: _HEAD.size])
    (attributes,) = struct.unpack_from(">h", head, _ATTRIBUTES)
    codec = attributes & _CODEC
    if not codec:
        return None
    body = _decompress(codec, data[_HEAD.size :])
    struct.pack_into(">i", head, _LENGTH, _HEAD.size - 12 + len(body))
    struct.pack_into(">h", head, _ATTRIBUTES, attributes & ~_CODEC)
    return bytes(head) + body


def _decompress(codec: int, data: memoryview) -> bytes:
    """Raises _Broken, also for content of more than 128 MiB."""
    if codec == _GZIP:
        return _decompress_gzip(data)
    if codec == _SNAPPY:
        return _decompress_snappy(bytes(data))
    if codec not in (_LZ4, _ZSTD):
        raise _Broken(f"compression codec {codec} is not known")
    into = cramjam.lz4.decompress_into if codec == _LZ4 else cramjam.zstd.decompress_into
    for room in (16 * len(data) + 65536, MAX_OPENED_BYTES):
        out = bytearray(min(room, MAX_OPENED_BYTES))
        try:
            return bytes(memoryview(out)[: into(bytes(data), out)])
        except cramjam.DecompressionError as e:
            why = str(e)
    raise _Broken(f"cannot be decompressed, or has more than {MAX_OPENED_BYTES:,} bytes: {why}")


def _decompress_gzip(data: memoryview) -> bytes:
    out, rest = b"", bytes(data)
    try:
        while rest:  # gzip allows several members, one after the other
            one = zlib.decompressobj(wbits=31)
            out += one.decompress(rest, MAX_OPENED_BYTES - len(out) + 1)
            if len(out) > MAX_OPENED_BYTES:
                raise _Broken(f"has more than {MAX_OPENED_BYTES:,} bytes when it is decompressed")
            if not one.eof:
                raise _Broken("gzip: the end is missing")
            rest = one.unused_data.lstrip(b"\0")
    except zlib.error as e:
        raise _Broken(f"gzip: {e}") from e
    return out


def _decompress_snappy(data: bytes) -> bytes:
    """Decompress raw Snappy, or the blocks that Kafka's Java clients write."""
    blocks, at = [], 16
    while data.startswith(_XERIAL) and at < len(data):
        (size,) = struct.unpack_from(">i", data, at)
        if size < 0:
            raise _Broken("snappy: a block of negative size")
        blocks.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    out = bytearray()
    try:
        for block in blocks or [data]:
            if len(out) + cramjam.snappy.decompress_raw_len(block) > MAX_OPENED_BYTES:
                raise _Broken(f"has more than {MAX_OPENED_BYTES:,} bytes when it is decompressed")
            out += bytes(cramjam.snappy.decompress_raw(block))
    except cramjam.DecompressionError as e:
        raise _Broken(f"snappy: {e}") from e
    return bytes(out)


def _decode_records(data: memoryview) -> Iterator[_FetchedRecord]:
    """One record for each offset of the batch, readable or not."""
    base, _, _, _, _, attributes, last, first_ms, max_ms, *_, count = _HEAD.unpack_from(data)
    kind = int(bool(attributes & _APPEND_TIME))
    follows = base  # the offset of the next record; from here on they are unreadable after a fault
    try:
        body = memoryview(_decompress_batch(data) or data)[_HEAD.size :]
        at = 0
        for _ in range(count):
            length, at = _decode_varint(body, at)
            end = at + length
            if length < 0 or end > len(body):
                raise _Broken("a record ends behind its batch")
            delta_ms, delta, key, value, headers = _decode_fields(body[at:end])
            ms = max_ms if kind else first_ms + delta_ms
            follows = base + delta + 1
            yield _FetchedRecord(base + delta, ms, kind, key, value, headers)
            at = end
    except _FAULTS as e:
        why = f"the record cannot be read: {e}"
        for offset in range(follows, base + last + 1):
            yield _FetchedRecord(offset, max_ms, kind, None, None, [(Unread(why), None)])


def _decode_fields(body: memoryview) -> tuple[int, int, bytes | None, bytes | None, Headers]:
    delta_ms, at = _decode_varint(body, 1)  # skips one byte of attributes, which is unused
    delta, at = _decode_varint(body, at)
    key, at = _decode_bytes(body, at)
    value, at = _decode_bytes(body, at)
    count, at = _decode_varint(body, at)
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        name, at = _decode_bytes(body, at)
        if name is None:
            raise _Broken("a header without a name")
        content, at = _decode_bytes(body, at)
        try:
            headers.append((name.decode(), content))
        except UnicodeDecodeError:
            headers.append((BadName(name), content))
    if at != len(body):
        raise _Broken("a record is longer than what is in it")
    return delta_ms, delta, key, value, headers


def _decode_bytes(body: memoryview, at: int) -> tuple[bytes | None, int]:
    length, at = _decode_varint(body, at)
    if length < 0:
        return None, at
    if at + length > len(body):
        raise _Broken("a field ends behind its record")
    return bytes(body[at : at + length]), at + length


def _decode_varint(body: memoryview, at: int) -> tuple[int, int]:
    """Decode the zig-zag varint at `at`; returns it and the position behind it."""
    value = shift = 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
        if shift > 63:
            raise _Broken("a number of more than 64 bits")


class AnyNames(RecordBatch):
    """A transactional batch whose records may have a `BadName` among their headers.

    aiokafka's fast builder takes UTF-8 only; its Python builder takes whatever bytes `encode`
    returns."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._builder: Any = _DefaultRecordBatchBuilderPy(2, 0, 1, -1, -1, 0, max_bytes)

    def _set_producer_state(
        self, producer_id: int, producer_epoch: int, base_sequence: int
    ) -> None:
        self._builder.set_producer_state(producer_id, producer_epoch, base_sequence)


def has_bad_name(headers: Iterable[tuple[str, bytes | None]]) -> bool:
    return any(type(name) is BadName for name, _ in headers)


def install_batch_reader() -> None:
    """Make every consumer of this process read with FetchedBatches. aiokafka has no option for it,
    so this replaces a name in its module; a test pins that name."""
    fetcher.MemoryRecords = FetchedBatches
