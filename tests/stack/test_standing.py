"""What stands still is told, in every front, with the command that mends it: the last stable offset
held back, partitions that were added, offsets that are not in their log."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from agents.core.model.forms import FormReply, Mood, Status
from agents.core.model.placement import State
from agents.core.model.topology import TOPIC_LANES, TOPIC_RAW, WorkerKind
from agents.kafka.connection import client_kwargs
from agents.kafka.offsets import Offsets
from agents.kafka.topic_watch import LOOK_EVERY_S
from agents.local.demo import flights
from agents.local.stack import ANALYTICS_EMBEDDED
from agents.settings import Kafka
from agents.xmpp.operator_client import OperatorClient
from tests.kafka.support import add_partitions, admin_client, delete_group
from tests.once import require_settled
from tests.stack.conftest import Running
from tests.stack.shared.asking import confirmed, operator, status, step, told

ANALYTICS = ANALYTICS_EMBEDDED
HOTSPOTS = WorkerKind.ANALYTICS.partition(0)
pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]


@asynccontextmanager
async def source(running: Running, transactional_id: str = "", **more: Any) -> AsyncIterator[Any]:
    """A producer of somebody else's."""
    producer = AIOKafkaProducer(
        transactional_id=transactional_id or None,
        **(client_kwargs(running.stack.base.kafka) | more),
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def reset_all(person: OperatorClient) -> None:
    """All that stand still, as often as it takes: what is under way is left out."""
    async with asyncio.timeout(60):
        while True:
            reply = await step(person, "reset", fields={"what": "all"})
            if reply.remarks and "can continue: nothing to reset" in said(reply):
                return
            while reply.status is Status.EXECUTING and not any(
                r.mood is Mood.ERROR for r in reply.remarks
            ):
                reply = await step(person, "reset", reply.session, "complete")
            await asyncio.sleep(1)


def said(reply: FormReply) -> str:
    return "\n".join(remark.text for remark in reply.remarks)


async def test_a_transaction_of_one_event_is_one_event_in(running: Running) -> None:
    accounting = running.stack.accounting
    before = accounting.events_in
    event = next(flights.week_of_events())[1]
    async with source(running, "a-source") as producer:
        for keep in (True, False):
            await producer.begin_transaction()
            await producer.send_and_wait(TOPIC_RAW, event, partition=1)
            await (producer.commit_transaction() if keep else producer.abort_transaction())
    replay, sending = running.replay(100)
    await sending
    await running.until(lambda: accounting.clean + accounting.filtered >= 101, "all have come out")
    await running.until(lambda: accounting.events_in - before >= 101, "all are counted")
    require_settled(accounting, before + 101)
    replay.sent += 1  # for the books of the tests that follow


async def test_partitions_that_are_added_to_raw_are_worked(running: Running) -> None:
    kafka = running.stack.base.kafka
    had = len(running.stack.accounting.raw)
    await add_partitions(kafka, TOPIC_RAW, 2 * had)
    placed = running.stack.follower.placed
    async with source(running) as producer:
        for n in range(had, 2 * had):
            await producer.send_and_wait(TOPIC_RAW, next(running.stream)[1], partition=n)
    new = [WorkerKind.ROUTER.partition(n) for n in range(had, 2 * had)]
    await running.until(
        lambda: all(p in placed and placed[p].state is State.ASSIGNED for p in new),
        "routers have the new ones",
        30,
    )
    sent = sum(r.sent for r in running.replays) + had
    accounting = running.stack.accounting
    await running.until(
        lambda: (accounting.events_in, accounting.open) == (sent, 0),
        "their events have come out",
        30,
    )
    running.replays[-1].sent += had


async def test_a_transaction_that_nobody_ends_is_told_with_what_ends_it(running: Running) -> None:
    producer: Any = AIOKafkaProducer(
        transactional_id="dead-source",
        transaction_timeout_ms=600_000,
        **client_kwargs(running.stack.base.kafka),
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
        assert row.about == f"{WorkerKind.ROUTER.topic}/2"
        assert f"a transaction of producer {pid} (epoch 0) has been open for" in row.text
        shown = await status(ana)
        assert shown.startswith("Critical, for ")
        assert "Calm" not in shown
        command = row.text.partition("or: geolane ")[2].split()
        assert command == ["abort-transaction", TOPIC_RAW, "2", f"{first.offset}"]
        file = str(running.stack.folder.settings / "geolane.toml")
        full = [sys.executable, "-m", "agents", *command, "--settings", file]
        done = await asyncio.to_thread(
            lambda: subprocess.run(full, capture_output=True, text=True, check=False, timeout=60)
        )
        assert f"producer {pid}" in done.stdout, done.stderr
        await told(ana, lambda rows: not rows)
        await running.account(replay, sending)
        assert (await status(ana)).startswith("Calm")
        log = running.stack.family.children["coordinator"].log_file.read_text("utf-8")
        assert not [x for x in map(json.loads, log.splitlines()) if x.get("event") == "fault"]


async def _delete_records(kafka: Kafka, topic: str, partitions: int) -> None:
    """All that there is, as retention does."""
    offsets = Offsets(kafka, "a-test")
    await offsets.start()
    try:
        ends = await offsets.read_high_watermarks(
            WorkerKind.NODE.partition(n) for n in range(partitions)
        )
        async with admin_client(kafka) as admin:
            await admin.delete_records(
                {TopicPartition(topic, p.n): RecordsToDelete(end) for p, end in ends.items()}
            )
    finally:
        await offsets.stop()


async def test_lanes_whose_group_is_gone_are_told_and_one_command_mends_all(
    running: Running,
) -> None:
    kafka = running.stack.base.kafka
    replay, sending = running.replay(500)
    await running.account(replay, sending)
    nodes = [c for name, c in running.stack.family.children.items() if name.startswith("node-")]
    await asyncio.sleep(2 * LOOK_EVERY_S)  # what is committed has been seen
    async with operator(running) as ana:
        for node in nodes:
            # who works a lane would commit again what does not show
            node.send_signal(signal.SIGSTOP)
        await delete_group(kafka, "geolane-node")
        for node in nodes:
            node.send_signal(signal.SIGKILL)
        rows = await told(ana, lambda rows: any(r.kind == "offset_lost" for r in rows))
        assert (
            "cannot be processed: its committed offset is gone (the last one known is"
            in rows[0].text
        )
        assert (await status(ana)).startswith("Critical")
        placed = running.stack.follower.placed
        lanes = [p for p in placed if WorkerKind.NODE.works(p)]
        await running.until(
            lambda: all(placed[p].state is State.ASSIGNED for p in lanes), "all are with somebody"
        )
        await reset_all(ana)
        await told(ana, lambda rows: not rows, 90)
    replay, sending = running.replay(500)
    await running.account(replay, sending)


async def test_a_lane_is_released_though_its_group_is_gone(running: Running) -> None:
    """Its owner commits again what does not show any more."""
    kafka, fences = running.stack.base.kafka, running.stack.follower.fences
    lane = running.stack.follower.lanes_of(running.stack.busiest_node().name)[0]
    owner = running.stack.follower.placed[lane].worker
    other = next(w for w in running.stack.family.children if w.startswith("node") and w != owner)
    await delete_group(kafka, "geolane-node")
    async with operator(running) as ana:
        await confirmed(ana, "move", lane=str(lane.n), node=other.removeprefix("node-"))
        placed = running.stack.follower.placed
        await running.until(
            lambda: placed[lane].worker == other and placed[lane].state is State.ASSIGNED,
            "it moved",
            20,
        )
        assert running.stack.follower.fences == fences
        await reset_all(ana)
        await told(ana, lambda rows: not rows, 90)
    replay, sending = running.replay(500)
    await running.account(replay, sending)


async def test_a_task_whose_group_is_gone_is_told_and_reset(running: Running) -> None:
    """Its offset is a count of transactions: the checkpoint of the last one is restored."""
    kafka, placed = running.stack.base.kafka, running.stack.follower.placed
    offsets = Offsets(kafka, WorkerKind.ANALYTICS.group)
    await offsets.start()

    async def count() -> int:
        at = (await offsets.read_committed_offsets([HOTSPOTS]))[HOTSPOTS]
        return at[0] if at is not None else -1

    try:
        await asyncio.sleep(2 * LOOK_EVERY_S)  # what is committed has been seen
        worker, before = running.stack.family.children["analytics-1"], placed[HOTSPOTS].boot
        async with operator(running) as ana:
            worker.send_signal(signal.SIGSTOP)
            had = await count()
            assert had > 0
            await delete_group(kafka, WorkerKind.ANALYTICS.group)
            worker.send_signal(signal.SIGKILL)
            rows = await told(ana, lambda rows: any(r.kind == "offset_lost" for r in rows))
            [row] = [r for r in rows if r.kind == "offset_lost"]
            assert row.about == HOTSPOTS.key
            assert row.text.startswith(
                "hotspots cannot be processed: its committed offset is gone (the last one known is"
            )
            assert "reset hotspots fixes it" in row.text
            await running.until(
                lambda: (
                    placed[HOTSPOTS].state is State.ASSIGNED and placed[HOTSPOTS].boot != before
                ),
                "the next process has the task",
            )
            rows = await told(ana, lambda rows: any(r.kind == "lane_stopped" for r in rows))
            [row] = [r for r in rows if r.kind == "lane_stopped"]
            assert row.text.endswith("committed none; reset hotspots sets it again.")
            await confirmed(ana, "reset", what="hotspots")
            await told(ana, lambda rows: not rows, 90)
        async with asyncio.timeout(20):
            while await count() <= had:
                await asyncio.sleep(0.2)
    finally:
        await offsets.stop()
    log = [json.loads(x) for x in worker.log_file.read_text("utf-8").splitlines()]
    begun = [x for x in log if x.get("event") in ("restored", "begun_anew", "checkpoint_unusable")]
    assert (begun[-1]["event"], begun[-1].get("transaction")) == ("restored", had)


async def test_lanes_whose_records_are_gone_go_on_where_their_log_begins(running: Running) -> None:
    """The last of this module: its books do not close any more."""
    kafka, lanes = running.stack.base.kafka, len(running.stack.accounting.lanes)
    nodes = [c for name, c in running.stack.family.children.items() if name.startswith("node-")]
    starts = {c.name: c.starts for c in nodes}
    for node in nodes:
        node.send_signal(signal.SIGSTOP)
    _, sending = running.replay(300)
    await sending
    accounting = running.stack.accounting
    await asyncio.sleep(1)  # the router passes them on
    await _delete_records(kafka, TOPIC_LANES, lanes)
    clean = accounting.clean
    for node in nodes:
        node.send_signal(signal.SIGCONT)
        node.send_signal(signal.SIGKILL)
    await running.until(
        lambda: all(c.starts > starts[c.name] for c in nodes), "they are started again"
    )
    async with operator(running) as ana:
        rows = await told(ana, lambda rows: any(r.kind == "offset_lost" for r in rows))
        assert re.search(
            r"its log begins at [0-9,]+ \(retention, or deleted records\)", rows[0].text
        )
        placed = running.stack.follower.placed
        all_lanes = [p for p in placed if WorkerKind.NODE.works(p)]
        await running.until(
            lambda: all(placed[p].state is State.ASSIGNED for p in all_lanes),
            "all are with somebody",
        )
        await reset_all(ana)
        await told(ana, lambda rows: not rows, 90)
    _, sending = running.replay(300)
    await sending
    await running.until(lambda: accounting.clean >= clean + 290, "what comes now is worked")
