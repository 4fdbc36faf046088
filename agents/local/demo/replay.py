"""Sends a stream into `events.raw` at a steady rate, each event once. An event counts as sent when
the broker has acknowledged it.

Each tick sends at most one batch per partition at a time and waits for all of them, which bounds
what is in flight. The producer is idempotent and retries through a broker's restart. If it gives up
anyway, the partition's newest records tell how much of the batch was appended; others may write
there, too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError as AnyKafkaError

from agents import settings
from agents.base import log
from agents.base.errors import KafkaError, KafkaUnavailable
from agents.core.model.topology import TOPIC_RAW, WorkerKind
from agents.kafka.connection import (
    client_kwargs,
    make_committed_reader,
    retry_until_available,
    stop_client,
    to_geolane_error,
)
from agents.kafka.offsets import Offsets
from agents.kafka.topics import MAX_MESSAGE_BYTES

TICK_S = 0.02
MOST_PER_TICK = 4000
_BATCH_BYTES = 1 << 20
_log = log.get_logger("embedded.replay")

KeyedValue = tuple[bytes | None, bytes]


class Replay:
    """`sent` counts acknowledged events; `waiting` is True while the broker does not answer."""

    def __init__(
        self,
        kafka: settings.Kafka,
        stream: Iterator[KeyedValue],
        partitions: int,
        rate_eps: float,
        events: int | None = None,
    ) -> None:
        self.sent = 0
        self.waiting = False
        self._kafka = kafka
        self._stream = stream if events is None else islice(stream, events)
        self._rate_eps = rate_eps
        self._ends = dict.fromkeys(range(partitions), 0)
        self._producer: Any = None  # aiokafka has no types
        self._offsets = Offsets(kafka, "geolane-replay")
        self._next = 0
        self._moved = asyncio.Event()
        self._ended = False

    async def wait_until_sent(self, sent: int) -> None:
        """Return when this many events are acknowledged, or the stream has ended."""
        while self.sent < sent and not self._ended:
            self._moved.clear()
            await self._moved.wait()

    async def run(self) -> None:
        """Send until the stream ends. Raises KafkaError for what a retry cannot fix (rights,
        sizes)."""
        try:
            await self._connect_producer()
            due, last = 0.0, time.monotonic()
            while True:
                await asyncio.sleep(TICK_S)
                now = time.monotonic()
                # After a pause, catch up on at most one second's worth: it is a rate, not a debt.
                due = min(due + (now - last) * self._rate_eps, max(self._rate_eps, 1.0))
                last = now
                events = list(islice(self._stream, min(int(due), MOST_PER_TICK)))
                if not events and due >= 1:
                    return
                due -= len(events)
                await self._send_events(events)
                self._moved.set()
        finally:
            self._ended = True
            self._moved.set()
            await self._stop_producer()
            await self._offsets.stop()

    async def _connect_producer(self) -> None:
        """Connect to the broker, however long that takes, and read the partitions' ends."""
        while True:
            try:
                await self._offsets.start()
                ends = await self._offsets.read_end_offsets(
                    WorkerKind.ROUTER.partition(n) for n in self._ends
                )
                self._ends = {p.n: end for p, end in ends.items()}
                self._producer = AIOKafkaProducer(
                    enable_idempotence=True,
                    acks="all",
                    linger_ms=0,
                    max_batch_size=_BATCH_BYTES,
                    max_request_size=MAX_MESSAGE_BYTES,
                    retry_backoff_ms=50,
                    **client_kwargs(self._kafka),
                )
                async with asyncio.timeout(30):
                    await self._producer.start()
                self._set_waiting(False)
                return
            except (KafkaUnavailable, AnyKafkaError, OSError, TimeoutError) as e:
                self._set_waiting(True, e)
                await self._stop_producer()
                await self._offsets.stop()
                await asyncio.sleep(0.5)

    async def _stop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        await stop_client(producer.stop(), 3)

    async def _send_events(self, events: list[KeyedValue]) -> None:
        """Send the events to the partitions in turn, in batches. Returns when all are
        acknowledged."""
        shares: dict[int, list[KeyedValue]] = {}
        for event in events:
            shares.setdefault(self._next, []).append(event)
            self._next = (self._next + 1) % len(self._ends)
        while shares:
            results = await asyncio.gather(
                *(self._send_batch(n, s) for n, s in shares.items()), return_exceptions=True
            )
            failed: BaseException | None = None
            for (n, share), result in zip(list(shares.items()), results, strict=True):
                if isinstance(result, BaseException):
                    failed = result
                    continue
                self._ends[n] += result
                self.sent += result
                del share[:result]
                if not share:
                    del shares[n]
            if failed is not None:
                await self._recover_from(failed, shares)

    async def _send_batch(self, n: int, share: list[KeyedValue]) -> int:
        """Send as much of the share as fits into one batch. Returns how many events were
        acknowledged."""
        batch = self._producer.create_batch()
        count = 0
        for key, value in share:
            if batch.append(key=key, value=value, timestamp=None) is None:
                break
            count += 1
        if count == 0:  # larger than a batch: sent alone
            key, value = share[0]
            await self._producer.send_and_wait(TOPIC_RAW, value, key=key, partition=n)
            return 1
        batch.close()
        await (await self._producer.send_batch(batch, TOPIC_RAW, partition=n))
        return count

    async def _recover_from(
        self, error: BaseException, shares: dict[int, list[KeyedValue]]
    ) -> None:
        """After a failure with an unknown outcome: drop from `shares` the events that were
        appended."""
        if not isinstance(error, AnyKafkaError | OSError | TimeoutError):
            raise error
        ours = to_geolane_error(error, "replay into events.raw")
        if not isinstance(ours, KafkaUnavailable):
            raise KafkaError(str(ours)) from error
        self._set_waiting(True, error)
        before = dict(self._ends)
        await self._stop_producer()
        await self._offsets.stop()
        await self._connect_producer()
        for n, share in list(shares.items()):
            count = partial(self._count_appended, n, before[n], share)
            appended = await retry_until_available(count, partial(self._set_waiting, True))
            self.sent += appended
            del share[:appended]
            if not share:
                del shares[n]

    async def _count_appended(self, n: int, begin: int, share: list[KeyedValue]) -> int:
        """How many of the share's first events are in the partition from offset `begin` on, which
        is not above the first of them."""
        tp, found = TopicPartition(TOPIC_RAW, n), 0
        reader = make_committed_reader(self._kafka, isolation_level="read_uncommitted")
        try:
            async with asyncio.timeout(30):
                await reader.start()
                reader.assign([tp])
                reader.seek(tp, begin)
                while await reader.position(tp) < self._ends[n]:
                    for records in (await reader.getmany(timeout_ms=200)).values():
                        found += count_prefix(share[found:], ((r.key, r.value) for r in records))
        except (AnyKafkaError, OSError, TimeoutError) as e:
            raise to_geolane_error(e, f"read the newest events of {TOPIC_RAW}") from e
        finally:
            await stop_client(reader.stop(), 3)
        return found

    def _set_waiting(self, waiting: bool, error: BaseException | None = None) -> None:
        if waiting and not self.waiting:
            _log.warning("replay_waits", error=repr(error))
        elif self.waiting and not waiting:
            _log.info("replay_goes_on", sent=self.sent)
        self.waiting = waiting


def count_prefix(share: Sequence[KeyedValue], appended: Iterable[KeyedValue]) -> int:
    """How many of the first events of `share` are among `appended`, in this order, with others
    between them."""
    found = 0
    for event in appended:
        if found < len(share) and event == share[found]:
            found += 1
    return found
