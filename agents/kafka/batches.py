"""Record batches that are filled many records at a time."""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka.producer.message_accumulator import BatchBuilder

from agents.core.lanes.records import Headers

NewRecord = tuple[bytes | None, bytes | None, Headers]
"""Key, value and headers."""


class RecordBatch(BatchBuilder):  # type: ignore[misc]  # aiokafka has no types
    """An empty transactional batch of up to `max_bytes`, or of one larger record."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, 0, is_transactional=1)

    def append_records(self, ms: int, records: Iterable[NewRecord]) -> int:
        """Append records, all with this time (epoch ms), until the batch is full; returns how many.
        As `append` for each, but without the way through aiokafka's Python code."""
        if self.closed():
            return 0
        append = self._builder.append
        begun: int = self.record_count()
        at = begun
        for key, value, headers in records:
            if append(at, ms, key, value, headers) is None:
                self.close()
                break
            at += 1
        self._relative_offset = at
        return at - begun
