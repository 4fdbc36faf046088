"""Reads for the Java program what Kafka's Java client cannot read, as the engine in Python would: a
record that nobody can read becomes the same dead letter, and a partition that must stop stops for
the same reason."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

from agents.base import log
from agents.base.errors import KafkaError
from agents.core.lanes.records import Unread
from agents.kafka.topics import MAX_DEAD_BYTES
from agents.settings import Kafka
from agents.worker.reader import Reader, Unreadable
from agents.worker.stage import record_size

_RECORDS, _BYTES = 5_000, 4 << 20
_WAIT_S, _REST_S, _BOUND_S = 1.0, 0.2, 20.0
_log = log.get_logger("router.streams")


class UnreadReader:
    """Answers what the program wants to have read. `topic`: with its cluster. `send`: hands the
    program an answer, as the class `Unread` in agents/router/streams takes it."""

    def __init__(self, kafka: Kafka, topic: str, send: Callable[[dict[str, Any]], None]) -> None:
        self._kafka, self._topic, self._send = kafka, topic, send
        self._wanted: dict[int, int] = {}
        self._changed = asyncio.Event()

    def want(self, offsets: Mapping[int, int]) -> None:
        """The program waits at these offsets, by partition. It says so again until it has the
        answer."""
        self._wanted = dict(offsets)
        if offsets:
            self._changed.set()

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            await self._changed.wait()
            for n, offset in self._wanted.items():
                try:
                    async with asyncio.timeout(_BOUND_S):
                        answer = await self._read(n, offset)
                except (KafkaError, TimeoutError) as e:
                    _log.warning("unread_not_read", partition=n, offset=offset, error=str(e))
                    continue
                if answer is not None:
                    self._send({"read": {"partition": n, "offset": offset, **answer}})
            self._changed.clear()

    async def _read(self, n: int, offset: int) -> dict[str, Any] | None:
        """The answer; None if there is nothing to read by now. Raises KafkaError."""
        reader = Reader(self._kafka, self._topic)
        try:
            await reader.start()
            try:
                got = await _gather(reader, n, offset)
            except Unreadable as e:
                return {"stopped": str(e)}
            behind = (await reader.positions_of([n]))[n]
        finally:
            await reader.stop()
        if behind == offset:
            return None
        records, size = [], 0
        for r in got:
            if size > _BYTES:
                behind = r.offset
                break
            records.append(_encode(r))
            size += record_size(r.key, r.value, r.headers)
        _log.warning("read_for_java", partition=n, at=offset, next=behind, records=len(records))
        return {"records": records, "next": behind}


async def _gather(reader: Reader, n: int, offset: int) -> list[Any]:
    """Records from this offset on. Raises Unreadable. A wrong checksum is retried, and raises it in
    the end."""
    while True:
        reader.assign_partitions({n: offset})
        now = time.monotonic()
        try:
            got = await reader.gather_records(
                _RECORDS, now, now + _WAIT_S, lambda: False, max_bytes=_BYTES
            )
            return got.get(n, [])
        except KafkaError as e:
            _log.warning("fetch_failed", partition=n, error=str(e))
            await asyncio.sleep(_REST_S)


def _encode(r: Any) -> dict[str, Any]:
    why = next((str(name) for name, _ in r.headers if type(name) is Unread), None)
    if why is None and (size := record_size(r.key, r.value, r.headers)) > MAX_DEAD_BYTES:
        why = f"{size:,} bytes, which the program cannot be handed"
    if why is not None:
        return {"offset": r.offset, "ms": r.timestamp, "headers": (), "why": why}
    headers = [
        (_encode_bytes(name.encode()), _encode_bytes(content)) for name, content in r.headers
    ]
    return {
        "offset": r.offset,
        "ms": r.timestamp,
        "key": _encode_bytes(r.key),
        "value": _encode_bytes(r.value),
        "headers": headers,
    }


def _encode_bytes(content: bytes | None) -> str | None:
    return None if content is None else b64encode(content).decode()
