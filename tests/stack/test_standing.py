"""What stands still is told, in every front, with the command that mends it: the last stable offset held back, partitions that were
added, offsets that are not in their log."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from agents.core.feeds import FLEET, FleetSummary, TroubleRow
from agents.core.model import RAW, TOPIC_RAW, Partition, State
from agents.embedded import flights
from agents.kafka.connection import client_kwargs
from agents.xmpp.person import Person
from plugins.feeds import entry_of
from tests.stack.conftest import Running
from tests.stack.shared.asking import step, text

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]


@asynccontextmanager
async def source(running: Running, transactional_id: str = "", **more: Any) -> AsyncIterator[Any]:
    """A producer of somebody else's."""
    producer = AIOKafkaProducer(
        transactional_id=transactional_id or None, **(client_kwargs(running.stack.base.kafka) | more)
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def told(person: Person, wanted: Callable[[list[TroubleRow]], bool], timeout_s: float = 60) -> list[TroubleRow]:
    """The rows of the feed `fleet`, as soon as they are as wanted."""
    async with asyncio.timeout(timeout_s):
        async for item in person.watch(FLEET):
            summary = entry_of(item.feed, item.item_id, item.payload).element
            assert isinstance(summary, FleetSummary)
            assert summary.troubles is not None
            if wanted(list(summary.troubles.rows)):
                return list(summary.troubles.rows)
    raise AssertionError("the feed ended")


async def status(person: Person) -> str:
    return text(await step(person, "status"))


async def test_a_transaction_of_one_event_is_one_event_in(running: Running) -> None:
    accounting = running.stack.accounting
    before = accounting.events_in
    event = next(flights.week())[1]
    async with source(running, "a-source") as producer:
        for keep in (True, False):
            await producer.begin_transaction()
            await producer.send_and_wait(TOPIC_RAW, event, partition=1)
            await (producer.commit_transaction() if keep else producer.abort_transaction())
    replay, sending = running.replay(100)
    await sending
    await running.until(lambda: accounting.clean + accounting.filtered >= 101, "all have come out")
    await running.until(lambda: accounting.events_in - before >= 101, "all are counted")
    assert (accounting.events_in - before, accounting.open, accounting.duplicates) == (101, 0, 0)
    replay.sent += 1  # for the books of the tests that follow


async def test_partitions_that_are_added_to_raw_are_worked(running: Running) -> None:
    kafka = running.stack.base.kafka
    had = len(running.stack.accounting.raw)
    admin: Any = AIOKafkaAdminClient(**client_kwargs(kafka))
    await admin.start()
    try:
        await admin.create_partitions({TOPIC_RAW: NewPartitions(2 * had)})
    finally:
        await admin.close()
    placed = running.stack.follower.placed
    async with source(running) as producer:
        for n in range(had, 2 * had):
            await producer.send_and_wait(TOPIC_RAW, next(running.stream)[1], partition=n)
    new = [Partition(RAW, n) for n in range(had, 2 * had)]
    await running.until(
        lambda: all(p in placed and placed[p].state is State.ASSIGNED for p in new), "routers have the new ones", 30
    )
    sent = sum(r.sent for r in running.replays) + had
    accounting = running.stack.accounting
    await running.until(lambda: (accounting.events_in, accounting.open) == (sent, 0), "their events have come out", 30)
    running.replays[-1].sent += had


async def test_a_transaction_that_nobody_ends_is_told_with_what_ends_it(running: Running) -> None:
    producer: Any = AIOKafkaProducer(
        transactional_id="dead-source", transaction_timeout_ms=600_000, **client_kwargs(running.stack.base.kafka)
    )
    async with running.in_room() as ana:
        await producer.start()
        await producer.begin_transaction()
        first = await producer.send_and_wait(TOPIC_RAW, next(running.stream)[1], partition=2)
        pid = producer._txn_manager.producer_id
        await producer._sender.close()  # it dies
        await producer.client.close()
        producer._closed = True
        replay, sending = running.replay(40)
        await sending
        rows = await told(ana, lambda rows: any(r.kind == "open_transaction" for r in rows))
        [row] = [r for r in rows if r.kind == "open_transaction"]
        assert row.about == f"{RAW}/2"
        assert f"a transaction of producer {pid} (epoch 0) has been open for" in row.text
        shown = await status(ana)
        assert shown.startswith("Critical, for ")
        assert "Calm" not in shown
        command = row.text.partition("or: geolane ")[2].split()
        assert command == ["abort-transaction", TOPIC_RAW, "2", f"{first.offset}"]
        file = str(running.stack.folder.settings / "geolane.toml")
        full = [sys.executable, "-m", "agents", *command, "--settings", file]
        done = await asyncio.to_thread(lambda: subprocess.run(full, capture_output=True, text=True, check=False))
        assert f"producer {pid}" in done.stdout, done.stderr
        await told(ana, lambda rows: not rows)
        await running.account(replay, sending)
        assert (await status(ana)).startswith("Calm")
        log = running.stack.family.children["coordinator"].log_file.read_text("utf-8")
        assert not [x for x in map(json.loads, log.splitlines()) if x.get("event") == "fault"]
