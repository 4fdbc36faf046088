"""What one account, one process or one setting does wrong is told as such, with what mends it, and
the lanes go on."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from agents.core.fleet.crash_loops import STARTS
from agents.core.model.feeds import ALERTS, AlertItem, Severity
from agents.core.model.placement import State
from agents.core.model.topology import TOPIC_PLACEMENT, Partition, WorkerKind
from agents.kafka.connection import client_kwargs
from agents.kafka.offsets import Offsets
from agents.kafka.topic_watch import LOOK_EVERY_S
from agents.kafka.topics import MAX_MESSAGE_BYTES
from agents.settings import Kafka
from agents.xmpp.operator_client import OperatorClient
from plugins.feeds import item_from_entry
from tests.kafka.support import alter
from tests.security import rogues
from tests.security.at_work import NODE, node_account
from tests.stack.conftest import Running, started
from tests.stack.shared.asking import confirmed, operator, status, told

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]
SMALL = 600  # bytes: enough for the record `leader`, not for a lane's and a lease's together


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    async with started(request.session, coordinators=2) as stack:
        yield stack


async def works(running: Running, events: int = 500) -> None:
    """They come out, each once."""
    await running.account(*running.replay(events))


async def commit_as(running: Running, account: str, lane: Partition, back: int) -> int:
    """Commits for the nodes' group an offset that is lower by so many, with that account's
    password; what was committed."""
    kafka = running.stack._kafka_settings_of(account)
    part = TopicPartition(lane.kafka_topic, lane.n)
    offsets = Offsets(running.stack.base.kafka, WorkerKind.NODE.group)
    await offsets.start()
    consumer = AIOKafkaConsumer(
        group_id=WorkerKind.NODE.group, enable_auto_commit=False, **client_kwargs(kafka)
    )
    await consumer.start()
    try:
        found = (await offsets.read_committed_offsets([lane]))[lane]
        assert found is not None
        consumer.assign([part])
        await consumer.commit({part: OffsetAndMetadata(found[0] - back, found[1])})
        return found[0]
    finally:
        await consumer.stop()
        await offsets.stop()


async def test_an_offset_that_somebody_else_sets_back_is_told_until_its_owner_commits(
    running: Running,
) -> None:
    await works(running, 1000)
    placed, owner = running.stack.follower.placed, running.stack.busiest_node().name
    lane = running.stack.follower.lanes_of(owner)[0]
    other = next(
        name for name in running.stack.family.children if name.startswith("node-") and name != owner
    )
    await asyncio.sleep(2 * LOOK_EVERY_S)  # what is committed has been seen
    async with operator(running) as ana:
        committed = await commit_as(running, other, lane, 1)
        rows = await told(ana, lambda rows: any(r.kind == "offset_went_back" for r in rows), 30)
        [row] = [r for r in rows if r.kind == "offset_went_back"]
        assert row.about == lane.key
        back = (
            f"{lane.label}: its committed offset went back from {committed:,} to {committed - 1:,}"
        )
        assert row.text.startswith(f"{back} while {owner.removeprefix('node-')} owns it")
        shown = await status(ana)
        assert shown.startswith("Critical")
        assert back in shown
        assert (placed[lane].worker, placed[lane].state) == (owner, State.ASSIGNED)
        await move(running, ana, lane, other)  # its owner commits once more
        await told(ana, lambda rows: not any(r.kind == "offset_went_back" for r in rows), 30)
    await works(running)


async def test_a_node_that_lies_about_a_release_is_named_and_its_lane_goes_on(
    running: Running,
) -> None:
    placed, leases = running.stack.follower.placed, running.stack.follower.leases
    stop, rogue = asyncio.Event(), f"node-{NODE}"
    owner = running.stack.busiest_node().name
    lane = running.stack.follower.lanes_of(owner)[0]
    lying = asyncio.create_task(rogues.liar(await node_account(running), rogue, stop))
    try:
        async with operator(running) as ana:
            await running.until(
                lambda: rogue in leases and not leases[rogue].fenced, "it has a lease", 30
            )
            await move(running, ana, lane, rogue)
            await move(running, ana, lane, owner)
            rows = await told(ana, lambda rows: any(r.kind == "untrue_answer" for r in rows), 30)
            [row] = [r for r in rows if r.kind == "untrue_answer"]
            assert row.about == rogue
            assert row.text.startswith(
                f"{NODE} is fenced: it claims to have released {lane.label} at "
                "1,000,000,000,000,000"
            )
            assert row.text in await status(ana)
            await running.until(
                lambda: (
                    placed[lane].worker not in (rogue, "") and placed[lane].state is State.ASSIGNED
                ),
                "it goes on",
                20,
            )
        assert placed[lane].offset < 10**6
        await works(running)
    finally:
        stop.set()
        await lying


async def move(running: Running, person: OperatorClient, lane: Partition, worker: str) -> None:
    """Have the lane moved there; asked again while it may not move yet. Returns when it has another
    owner."""
    placed = running.stack.follower.placed
    before = placed[lane].worker
    async with asyncio.timeout(30):
        while placed[lane].worker == before:
            await confirmed(person, "move", lane=str(lane.n), node=worker.removeprefix("node-"))
            with suppress(AssertionError):
                await running.until(lambda: placed[lane].worker not in (before, ""), "it moved", 5)


@asynccontextmanager
async def limited(kafka: Kafka, size: int) -> AsyncIterator[None]:
    """The topic `placement` takes no more."""
    await alter(kafka, TOPIC_PLACEMENT, {"max.message.bytes": str(size)})
    try:
        yield
    finally:
        await alter(kafka, TOPIC_PLACEMENT, {"max.message.bytes": str(MAX_MESSAGE_BYTES)})


async def test_a_leader_whose_records_are_refused_keeps_its_lead_and_goes_on_by_itself(
    running: Running,
) -> None:
    kafka, follower = running.stack.base.kafka, running.stack.follower
    leads = running.leader()
    before = (follower.leader_epoch, leads.name, leads.starts)
    victim = running.stack.busiest_node()
    lanes, boot = follower.lanes_of(victim.name), follower.leases[victim.name].boot
    async with operator(running) as ana, limited(kafka, SMALL):
        running.stack.kill_process(victim.name)
        rows = await told(ana, lambda rows: any(r.kind == "placement_refused" for r in rows), 30)
        [row] = [r for r in rows if r.kind == "placement_refused"]
        assert (
            f"{TOPIC_PLACEMENT}/0 refuses: a record batch is larger than max.message.bytes"
            in row.text
        )
        assert "geolane provision --only kafka" in row.text
        assert (await status(ana)).startswith("Critical")
        assert [follower.placed[p].boot for p in lanes] == [boot] * len(lanes), (
            "they stay where they are"
        )
    async with operator(running) as ana:
        await told(ana, lambda rows: not any(r.kind == "placement_refused" for r in rows), 30)
    await works(running)
    leads = running.leader()
    assert (follower.leader_epoch, leads.name, leads.starts) == before, "nobody else led"


@asynccontextmanager
async def hearing(running: Running) -> AsyncIterator[list[AlertItem]]:
    """The alerts that come meanwhile."""
    heard: list[AlertItem] = []
    async with operator(running) as person:

        async def hear() -> None:
            async with aclosing(person.watch_feed(ALERTS)) as items:
                async for item in items:
                    element = item_from_entry(item.feed, item.item_id, item.payload).element
                    assert isinstance(element, AlertItem)
                    heard.append(element)

        task = asyncio.create_task(hear())
        try:
            yield heard
        finally:
            assert not task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_worker_that_starts_again_and_again_is_told_once_with_its_last_words(
    running: Running,
) -> None:
    """Last of the module: the trouble stands until it has held for a minute."""
    leases = running.stack.follower.leases
    node = running.stack.busiest_node()
    name = node.name.removeprefix("node-")

    def of(kind: str, alerts: list[AlertItem]) -> int:
        """How often it was told, its end not counted."""
        return sum(
            (a.kind, a.about) == (kind, node.name) and a.severity is not Severity.CALM
            for a in alerts
        )

    async with hearing(running) as alerts, operator(running) as ana:
        for n in range(STARTS + 1):
            boot = leases[node.name].boot
            node.send_signal(signal.SIGKILL)
            await running.until(
                lambda boot=boot: leases[node.name].boot != boot and not leases[node.name].fenced,  # type: ignore[misc]
                f"start {n} has a lease",
                30,
            )
            if n == STARTS - 1:
                await running.until(lambda: of("crash_loop", alerts) == 1, "it is told", 10)
                gone, back = of("node_gone", alerts), of("worker_back", alerts)
        shown = await status(ana)
        assert f"{name} keeps restarting: " in shown
        assert "Last exit: SIGKILL" in shown
        assert f"log/{node.name}.log" in shown
        rows = await told(ana, lambda rows: any(r.kind == "crash_loop" for r in rows), 10)
        assert [r.about for r in rows if r.kind == "crash_loop"] == [node.name]
        assert of("crash_loop", alerts) == 1, "told once"
        assert (of("node_gone", alerts), of("worker_back", alerts)) == (gone, back), (
            "and not each going and coming"
        )
        assert gone <= STARTS
    await works(running)
    placed = running.stack.follower.placed
    assert all(placed[p].state is State.ASSIGNED for p in placed if WorkerKind.NODE.works(p))
