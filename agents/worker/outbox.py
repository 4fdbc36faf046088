"""What a batch will send, as Kafka record batches by output partition: built off the event loop, checked before sending
(PROTOCOL 3.1, 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from agents.core.records import DETAIL, OURS, REASON, Reason
from agents.errors import KafkaError
from agents.kafka.admin import MAX_DEAD_BYTES
from agents.kafka.foreign import has_bad_name

Headers = Sequence[tuple[str, bytes | None]]

_RECORD_OVERHEAD = 64
_DETAIL_CHARS = 200
_DEAD_BYTES = MAX_DEAD_BYTES - 4096


def size_of(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """An upper bound of a record's serialised size in bytes."""
    size = _RECORD_OVERHEAD + (len(key) if key else 0) + (len(value) if value else 0)
    for name, content in headers:
        size += len(name) + (len(content) if content else 0) + 10
    return size


class Outbox:
    """`new_batch` makes an empty Kafka batch (LeasedProducer.new_batch); `now_ms` stands in the records (the topics'
    own time replaces it)."""

    __slots__ = ("_new_batch", "_now_ms", "_open", "batches")

    def __init__(self, new_batch: Callable[..., Any], now_ms: int) -> None:  # Any: aiokafka has no types
        self._new_batch = new_batch
        self._now_ms = now_ms
        self._open: dict[tuple[str, int], Any] = {}
        self.batches: dict[tuple[str, int], list[Any]] = {}

    def add(self, topic: str, n: int, key: bytes | None, value: bytes | None, headers: list[Any]) -> None:
        """One more record for partition `n` of `topic`, behind those already there."""
        to = (topic, n)
        batch = self._open.get(to)
        if batch is not None and (
            batch.append(timestamp=self._now_ms, key=key, value=value, headers=headers) is not None
        ):
            return
        batch = self._new_batch(any_names=True) if has_bad_name(headers) else self._new_batch()
        if batch.append(timestamp=self._now_ms, key=key, value=value, headers=headers) is None:
            raise KafkaError(f"a record for {topic}/{n} does not fit into an empty batch")
        self._open[to] = batch
        self.batches.setdefault(to, []).append(batch)

    def add_dead(
        self, key: bytes | None, value: bytes | None, headers: Headers, reason: Reason, detail: str, topic: str
    ) -> None:
        """A dead letter: the input byte for byte, with its headers, and why."""
        if size_of(key, value, headers) > _DEAD_BYTES:  # it came compressed
            left = size_of(key, value, headers)
            detail = f"left out here, {left:,} bytes being more than {topic} takes: {detail}"
            value, key = None, key[:_DETAIL_CHARS] if key else None
            headers = [h for h in headers if h[0] in OURS]
        why = [(REASON, reason.value.encode()), (DETAIL, detail[:_DETAIL_CHARS].encode("utf-8", "replace"))]
        kept = [h for h in headers if h[0] not in (REASON, DETAIL)]
        if has_bad_name(kept):
            self._open.pop((topic, 0), None)
        self.add(topic, 0, key, value, [*kept, *why])
