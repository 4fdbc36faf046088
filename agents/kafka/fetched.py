"""Takes records out of an aiokafka consumer as lists: an even share of each partition, and no
object for a record beyond the one that aiokafka's C reader makes.

aiokafka's own `getmany` takes one partition after the other, and makes a ConsumerRecord of each
record in the event loop. Which records are given is decided as there: by checksum, control batches,
aborted transactions and position. All of this is private to aiokafka, and pinned by tests.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchError, PartitionRecords
from aiokafka.errors import CorruptRecordException

Taken = dict[Any, list[Any]]
"""By aiokafka's TopicPartition: its records, which have offset, timestamp, key, value and
headers (Any: aiokafka has no types)."""


class ListedRecords(PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    """What one fetch has returned for a partition. `is_done`: all of it is taken. A consumer either
    iterates over it, as aiokafka does, or calls `take_records`."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.is_done = False
        self._batch: Any = None
        self._first_offset = 0

    def take_records(self, most: int) -> list[Any]:
        """The next records, `most` at most. Raises aiokafka's errors."""
        self._records_iterator = None  # it refers to us: only the collector would free the memory
        taken: list[Any] = []
        while len(taken) < most:
            if self._batch is None and not self._open_next_batch():
                self.is_done = True
                break
            wanted = most - len(taken)
            got = self._batch.take_records(wanted)
            if len(got) < wanted:
                # Compaction may have removed the last records of the batch.
                self.next_fetch_offset, self._batch = self._batch.next_offset, None
            # The fetch may begin inside of a batch.
            if got and got[0].offset < self._first_offset:
                got = [r for r in got if r.offset >= self._first_offset]
            taken += got
        if self._batch is not None:
            self.next_fetch_offset = taken[-1].offset + 1
        return taken

    def _open_next_batch(self) -> bool:
        """Open the next batch that has records for us. False: there is none."""
        while self._records.has_next():
            batch = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(
                    f"Invalid CRC - {self._tp}, before offset {batch.next_offset}"
                )
            if not self._is_aborted(batch) and not batch.is_control_batch:
                self._batch, self._first_offset = batch, self.next_fetch_offset
                return True
            self.next_fetch_offset = batch.next_offset
        return False

    def _is_aborted(self, batch: Any) -> bool:
        """Whether an aborted transaction wrote the batch; ends that transaction if the batch is its
        marker."""
        if self._isolation_level != READ_COMMITTED or batch.producer_id is None:
            return False
        self._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and self._contains_abort_marker(batch):
            self._aborted_producers.discard(batch.producer_id)
        return batch.is_transactional and batch.producer_id in self._aborted_producers


def install() -> None:
    """Make the consumers of this process keep what they fetch as ListedRecords."""
    fetcher.PartitionRecords = ListedRecords


async def take_evenly(consumer: Any, most: int, timeout_s: float) -> Taken:
    """Up to `most` records, an even share of each partition that has some; if none has, waits until
    one has. A batch of a few partitions would need two record batches for each output partition,
    which pass one after the other: one more round trip. Raises aiokafka's errors."""
    taken = _take_buffered(consumer._fetcher, most)
    if not taken and timeout_s > 0:
        arrival = consumer._fetcher._create_fetch_waiter()
        await asyncio.wait((arrival,), timeout=timeout_s)
        if not arrival.done():
            arrival.cancel()
            return {}
        arrival.result()  # raises an error that concerns the whole consumer
        taken = _take_buffered(consumer._fetcher, most)
    return taken


def _take_buffered(fetched: Any, most: int) -> Taken:
    taken: Taken = {}
    left = most
    while left > 0 and fetched._records:
        share = -(-left // len(fetched._records))
        for tp, result in list(fetched._records.items()):
            if type(result) is FetchError and taken:
                return taken  # the next call raises it
            got = _take_share(fetched, tp, min(share, left))
            if got:
                taken.setdefault(tp, []).extend(got)
                left -= len(got)
            if left <= 0:
                break
    return taken


def _take_share(fetched: Any, tp: Any, most: int) -> list[Any]:
    """Up to `most` records of one partition. Others come first the next time."""
    result = fetched._records.pop(tp)
    got: list[Any] = []
    try:
        if type(result) is FetchError:
            result.check_raise()
        if result.check_assignment(tp):
            records = result._partition_records
            got = records.take_records(most)
            result._update_position()
            if not records.is_done:
                fetched._records[tp] = result
    finally:
        if tp not in fetched._records:
            fetched._notify(fetched._wait_consume_future)  # it is fetched again
    return got
