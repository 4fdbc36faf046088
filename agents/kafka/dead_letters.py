"""Reads `events.dead` and sends letters back exactly once: one transaction writes the letters to
`events.raw` and marks them as replayed.

All replays share one transactional id. A replay that begins fences the one before it, and Kafka
aborts the transaction which that one had open. A mark is the key
`main/events.dead/PARTITION/OFFSET` in a compacted topic. A replay reads the marks after the fence,
so it misses none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError as AnyKafkaError

from agents import settings
from agents.base.errors import KafkaUnavailable, LeaseLost
from agents.core.lanes.dead_letters import Finder, Letter, LetterQuery, LettersFound, replay_headers
from agents.core.model.topology import MAIN, TOPIC_DEAD, TOPIC_RAW, TOPIC_REPLAYED
from agents.kafka import verification
from agents.kafka.compacted import read_table
from agents.kafka.connection import (
    BOUND_S,
    is_fenced,
    lacks_right,
    make_committed_reader,
    stop_client,
    to_geolane_error,
)
from agents.kafka.foreign import AnyNames, has_bad_name
from agents.kafka.rights import REPLAYER
from agents.kafka.topics import MAX_DEAD_BYTES
from agents.kafka.transactions import TransactionalProducer

LOOKED_AT = 200_000  # the most letters that one `find_letters` reads
LOOK_S = 20.0
TOGETHER, TOGETHER_BYTES = 500, 4 << 20  # letters and bytes that fill one transaction
TRANSACTION_MS = 60_000


class Marks(msgspec.Struct, frozen=True):
    """The value of a mark: when the letter was sent back (epoch ms), and by whom."""

    ms: int
    by: str


class DeadLetters:
    """Each call opens its own connections. `topics`: the names for dead letters, raw events and
    marks, for tests that share a broker."""

    def __init__(
        self,
        kafka: settings.Kafka,
        *,
        topics: tuple[str, str, str] = (TOPIC_DEAD, TOPIC_RAW, TOPIC_REPLAYED),
        transactional_id: str = REPLAYER,
    ) -> None:
        self._kafka, self._id = kafka, transactional_id
        self._dead, self._raw, self._marks = topics

    async def find_letters(
        self, query: LetterQuery, most: int, upto: Mapping[int, int] | None = None
    ) -> LettersFound:
        """The newest `most` letters that match `query`. It reads up to 200,000 letters, for up to
        20 s, and not beyond the offsets in `upto`. Raises KafkaUnavailable, KafkaError."""
        marked = await self._read_marks()
        finder, looked = Finder(query, most), 0
        async with self._open_reader() as reader:
            ends = await self._seek_to_query(reader, query, upto)
            try:
                async with asyncio.timeout(LOOK_S):
                    async for letter in self._read_letters(reader, ends, marked):
                        finder.add_letter(letter)
                        looked += 1
                        if looked >= LOOKED_AT:
                            break
                    whole = looked < LOOKED_AT
            except TimeoutError:
                whole = False
        return finder.letters_found({tp.partition: end for tp, end in ends.items()}, whole=whole)

    async def replay_letters(
        self, query: LetterQuery, by: str, now_ms: int, upto: Mapping[int, int] | None = None
    ) -> int:
        """Send back the letters that match `query`, in transactions of up to 500. Returns their
        number. After an interrupted call, the next call does not send the committed ones again.

        Raises LeaseLost if another replay has begun or the outcome of a transaction is unknown; the
        caller may then ask again. Raises KafkaUnavailable, KafkaError."""
        await verification.require_safe_brokers(self._kafka)
        producer: Any = TransactionalProducer(  # Any: aiokafka has no types
            self._kafka,
            self._id,
            transaction_timeout_ms=TRANSACTION_MS,
            request_timeout_ms=10_000,
            max_request_size=MAX_DEAD_BYTES,
        )
        try:
            async with asyncio.timeout(BOUND_S):
                await producer.start()  # the fence: the marks are read after it
        except (AnyKafkaError, OSError, TimeoutError) as e:
            await stop_client(producer.stop())
            raise to_geolane_error(e, "begin to replay dead letters") from e
        sent = 0
        try:
            marked = await self._read_marks()
            async with self._open_reader() as reader:
                ends = await self._seek_to_query(reader, query, upto)
                batch: list[Letter] = []
                async for letter in self._read_letters(reader, ends, marked):
                    if not query.matches(letter):
                        continue
                    batch.append(letter)
                    if (
                        len(batch) >= TOGETHER
                        or sum(len(x.value or b"") for x in batch) >= TOGETHER_BYTES
                    ):
                        sent += await self._send_batch(producer, batch, by, now_ms)
                        batch = []
                sent += await self._send_batch(producer, batch, by, now_ms)
        finally:
            await stop_client(producer.stop())
        return sent

    async def _send_batch(
        self, producer: Any, batch: Sequence[Letter], by: str, now_ms: int
    ) -> int:
        """Send all letters of the batch and their marks in one transaction."""
        if not batch:
            return 0
        mark = msgspec.json.encode(Marks(now_ms, by))
        try:
            async with asyncio.timeout(TRANSACTION_MS / 1000 / 2):
                await producer.begin_transaction()
                sends = [
                    *[await self._send_letter_back(producer, x, by) for x in batch],
                    *[
                        await producer.send(self._marks, mark, key=self._mark_key(x), partition=0)
                        for x in batch
                    ],
                ]
                # A failed send would not fail the commit (PROTOCOL 3.2).
                for outcome in await asyncio.gather(*sends, return_exceptions=True):
                    if isinstance(outcome, BaseException):
                        raise outcome
                await producer.commit_transaction()
        except (AnyKafkaError, OSError, TimeoutError, AssertionError) as e:
            if is_fenced(e):
                raise LeaseLost(
                    "another replay of dead letters has begun: this one has ended, nothing was "
                    "sent twice"
                ) from e
            if lacks_right(e):  # the broker has changed nothing, so the outcome is known
                raise to_geolane_error(
                    e, f"replay of {len(batch)} dead letters, of which none was sent"
                ) from e
            raise LeaseLost(
                f"replay of {len(batch)} dead letters: outcome unknown ({e!r}); ask again, "
                "nothing is sent twice"
            ) from e
        return len(batch)

    async def _send_letter_back(self, producer: Any, x: Letter, by: str) -> Any:
        headers = replay_headers(x, by)
        if not has_bad_name(headers):
            return await producer.send(self._raw, x.value, key=x.key, headers=headers)
        await producer.client._wait_on_metadata(self._raw)
        n = producer._partition(self._raw, None, x.key, x.value, x.key, x.value)
        batch = AnyNames(MAX_DEAD_BYTES)
        batch.append(timestamp=None, key=x.key, value=x.value, headers=headers)
        return await producer.send_batch(batch, self._raw, partition=n)

    def _mark_key(self, x: Letter) -> bytes:
        return f"{MAIN}/{self._dead}/{x.id}".encode()

    async def _read_marks(self) -> frozenset[bytes]:
        return frozenset(await read_table(self._kafka, self._marks))

    # Reading

    @asynccontextmanager
    async def _open_reader(self) -> AsyncIterator[Any]:
        consumer = make_committed_reader(
            self._kafka,
            request_timeout_ms=10_000,
            fetch_max_wait_ms=50,
            max_partition_fetch_bytes=MAX_DEAD_BYTES,
            fetch_max_bytes=2 * MAX_DEAD_BYTES,
        )
        try:
            async with asyncio.timeout(BOUND_S):
                await consumer.start()
            yield consumer
        except TimeoutError as e:
            raise KafkaUnavailable(f"read {self._dead}: no answer within {BOUND_S:g} s") from e
        except (AnyKafkaError, OSError) as e:
            raise to_geolane_error(e, f"read {self._dead}") from e
        finally:
            await stop_client(consumer.stop())

    async def _seek_to_query(
        self, consumer: Any, query: LetterQuery, upto: Mapping[int, int] | None
    ) -> dict[TopicPartition, int]:
        """Seek to where the query begins; returns the offset at which to stop in each partition."""
        async with asyncio.timeout(BOUND_S):
            numbers = sorted(await self._read_partitions(consumer))
            if query.one:
                numbers = [n for n in numbers if n == int(query.one.partition("/")[0])]
            parts = [TopicPartition(self._dead, n) for n in numbers]
            if not parts:
                return {}
            consumer.assign(parts)
            first, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
            since = query.since_ms
            times = (
                await consumer.offsets_for_times(dict.fromkeys(parts, since))
                if since is not None
                else {}
            )
            for tp in parts:
                at = times.get(tp)
                start = first[tp] if since is None else at.offset if at is not None else ends[tp]
                end = (
                    min(ends[tp], upto[tp.partition])
                    if upto is not None and tp.partition in upto
                    else ends[tp]
                )
                if upto is not None and tp.partition not in upto:
                    end = start  # a partition that `upto` does not name is not read
                if query.one:
                    start = max(start, int(query.one.partition("/")[2]))
                    end = min(end, start + 1) if start < end else start
                ends[tp] = end
                consumer.seek(tp, min(start, max(end, first[tp])))
            return dict(ends)

    async def _read_partitions(self, consumer: Any) -> set[int]:
        found_: set[int] | None = consumer.partitions_for_topic(self._dead)
        if found_ is None:
            found_ = await consumer._client._wait_on_metadata(
                self._dead
            )  # its error names the missing right
        return found_ or set()

    async def _read_letters(
        self, consumer: Any, ends: Mapping[TopicPartition, int], marked: frozenset[bytes]
    ) -> AsyncIterator[Letter]:
        """Committed letters up to `ends`. Raises KafkaUnavailable if none arrives for BOUND_S."""
        open_ = {tp: end for tp, end in ends.items() if await consumer.position(tp) < end}
        loop = asyncio.get_running_loop()
        heard = loop.time()
        while open_:
            for tp, records in (await consumer.getmany(*open_, timeout_ms=200)).items():
                heard = loop.time()
                for r in records:
                    if r.offset < ends[tp]:
                        x = Letter(
                            r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers)
                        )
                        yield replace(x, replayed=self._mark_key(x) in marked)
            open_ = {tp: end for tp, end in open_.items() if await consumer.position(tp) < end}
            if loop.time() - heard > BOUND_S:
                raise KafkaUnavailable(f"read {self._dead}: nothing came for {BOUND_S:g} s")
