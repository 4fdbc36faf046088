"""A seeded fuzz of whole records against a running stack: sends, keeps the books, and looks whether
any process ended or any lane stopped."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer

from agents.core.model.topology import TOPIC_LANES, TOPIC_RAW
from agents.kafka.connection import client_kwargs
from tests.fixtures import foreign
from tests.record_fuzz.books import Books
from tests.record_fuzz.cases import Batch, Cases
from tests.record_fuzz.changing import changing
from tests.stack.conftest import Running

Rogue = Callable[[Running], AbstractAsyncContextManager[None]]
"""Something hostile that is at work while it is entered."""

OPEN_AT_MOST = 5_000
STALLED_S = 60.0
PROGRESS_S = 10.0
_STOPPED = re.compile(r'.*"event": "partition_stopped".*')
_HELD = re.compile(r'.*"event": "partition_(?:stopped|held)".*')


@dataclass(frozen=True, slots=True)
class Run:
    """`records`: how many are sent, at least; `seconds`: for how long at most (0: no bound).
    `settings`: those of topics change meanwhile, and lanes may be held for it. `max_eps`: records a
    second at most (0: no bound)."""

    seed: int
    records: int
    seconds: float = 0.0
    settings: bool = False
    max_eps: float = 0.0


class Fuzz:
    """One run against `running`."""

    def __init__(
        self, running: Running, run: Run, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self.running, self.run, self.say = running, run, say
        self.kafka = running.stack.base.kafka
        self.books = Books(self.kafka, running.stack.base.coordinator.lanes)
        self.cases = Cases(run.seed)
        self.refused = 0
        self.aborted = 0
        self._raw = running.stack.base.coordinator.raw_partitions
        self.books.may_be_too_large = run.settings

    async def go(self, rogues: Sequence[Rogue] = ()) -> dict[str, object]:
        """The result, as it is printed; `ok` when all is as it has to be."""
        begun = time.monotonic()
        starts = {
            name: max(1, child.starts) for name, child in self.running.stack.family.children.items()
        }
        await self.books.start()
        reading = asyncio.create_task(self.books.run())
        telling = asyncio.create_task(self._tell())
        try:
            async with AsyncExitStack() as stack:
                if self.run.settings:
                    await stack.enter_async_context(changing(self.kafka, self.run.seed, self.say))
                for rogue in rogues:
                    await stack.enter_async_context(rogue(self.running))
                await self._send(begun)
                await self.books.settled(STALLED_S)
            result = await self.books.close()
        finally:
            for task in (reading, telling):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await self.books.stop()
        children, killed = self.running.stack.family.children, self.running.killed
        restarted = {
            name: child.starts - starts.get(name, 1) - killed[name]
            for name, child in children.items()
        }
        result |= {
            "seed": self.run.seed,
            "batches_refused": self.refused,
            "records_aborted": self.aborted,
            "restarts": {name: n for name, n in restarted.items() if n},
            "killed": dict(killed),
            "stopped": self.stopped(),
            "seconds": round(time.monotonic() - begun, 1),
        }
        result["ok"] = not any(
            result[key] for key in ("missing", "duplicates", "wrong", "restarts", "stopped")
        )
        return result

    def stopped(self) -> list[str]:
        """What workers' logs say of partitions that stopped."""
        lines: list[str] = []
        for child in self.running.stack.family.children.values():
            for file in (child.log_file, child.log_file.with_suffix(".log.1")):
                if file.exists():
                    text = file.read_text("utf-8", "replace")
                    wanted = _STOPPED if self.run.settings else _HELD
                    lines += [f"{child.name}: {x[:400]}" for x in wanted.findall(text)]
        return lines

    async def _send(self, begun: float) -> None:
        run, books = self.run, self.books
        async with foreign.sender(self.kafka) as sender:
            producer = AIOKafkaProducer(
                transactional_id=f"foreign-{run.seed}", **client_kwargs(self.kafka)
            )
            await producer.start()
            try:
                while books.taken < run.records or (run.seconds and not run.records):
                    if run.seconds and time.monotonic() - begun > run.seconds:
                        break
                    batch = self.cases.batch()
                    n = self.cases.rng.randrange(self._raw)
                    if self.cases.rng.random() < 0.02:
                        await self._send_beside(sender)
                    if batch.transactional is None:
                        await self._send_raw(sender, batch, n)
                    else:
                        await self._send_transaction(producer, batch, n)
                    if run.max_eps:
                        await asyncio.sleep(begun + books.taken / run.max_eps - time.monotonic())
                    while (
                        books.unfinished > OPEN_AT_MOST
                        and time.monotonic() - books.moved_at < STALLED_S
                    ):
                        await asyncio.sleep(0.05)
            finally:
                await producer.stop()

    async def _send_raw(self, sender: foreign.Sender, batch: Batch, n: int) -> None:
        code, first = await sender.send(TOPIC_RAW, n, batch.data)
        if code:
            self.refused += 1
            return
        for i, r in enumerate(batch.records):
            self.books.expect(r.src or f"{TOPIC_RAW}/{n}/{first + i}", r.becomes)

    async def _send_beside(self, sender: foreign.Sender) -> None:
        topic, batch = self.cases.beside()
        code, _ = await sender.send(topic, 0, batch.data)
        if not code and topic == TOPIC_LANES:
            self.books.expect(batch.records[0].src, batch.records[0].becomes)

    async def _send_transaction(self, producer: AIOKafkaProducer, batch: Batch, n: int) -> None:
        """Only what a library's producer can send: names of headers are UTF-8."""
        fit = [r for r in batch.records if all(_is_utf8(name) for name, _ in r.content.headers)]
        if not fit:
            return
        await producer.begin_transaction()
        acks = []
        for r in fit:
            c = r.content
            headers = [(name.decode(), content) for name, content in c.headers]
            with suppress(Exception):  # larger than a producer takes
                acks.append((r, await producer.send(TOPIC_RAW, c.value, c.key, n, headers=headers)))
        sent = [(r, (await ack).offset) for r, ack in acks]
        if not batch.transactional:
            await producer.abort_transaction()
            self.aborted += len(sent)
            return
        await producer.commit_transaction()
        for r, offset in sent:
            self.books.expect(r.src or f"{TOPIC_RAW}/{n}/{offset}", r.becomes)

    async def _tell(self) -> None:
        told = 0
        while True:
            await asyncio.sleep(PROGRESS_S)
            b = self.books
            for text in b.wrong[told:]:
                self.say(f"wrong: {text}")
            told = len(b.wrong)
            self.say(
                f"in {b.taken:,}, open {len(b.open):,}, duplicates {b.duplicates}, wrong "
                f"{len(b.wrong)}, "
                f"batches refused {self.refused}, stopped {len(self.stopped())}"
            )


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
