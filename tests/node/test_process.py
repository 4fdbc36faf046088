"""A whole worker process's wiring between both real servers: commands in, health and telemetry
out."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress

import pytest

from agents import settings
from agents.base.errors import LeaseLost
from agents.core.events import Led, TelemetryIn, WorkerSeen, XmppEvent
from agents.core.lanes.records import Record
from agents.core.model.messages import (
    Announcement,
    AssignCommand,
    Grant,
    Health,
    LeaseCommand,
    ReleaseCommand,
    Telemetry,
    WorkerAnswer,
    WorkerCommand,
)
from agents.kafka.leases import LeaseMaker
from agents.node.stage import NodeStage
from agents.worker.process import new_boot, run_stage
from agents.worker.stage import Stage
from agents.xmpp.election import CoordinatorLink
from tests.fixtures.kafka import KafkaServer
from tests.fixtures.xmpp import XmppServer
from tests.worker.support import Here, Rig, rig, until
from tests.worker.test_engine import LIMIT


class Fleet:
    """A leader that keeps what it sees, and one worker's process, as a task."""

    def __init__(self, xmpp: XmppServer, makers: LeaseMaker, account: str) -> None:
        self.xmpp, self.makers, self.account = xmpp, makers, account
        self.seen: list[Announcement] = []
        self.telemetry: list[Telemetry] = []
        self.leads = False
        self.link = CoordinatorLink(xmpp.settings(), new_boot(), self._emit)

    def _emit(self, event: XmppEvent) -> None:
        if isinstance(event, Led):
            self.leads = True
        elif isinstance(event, WorkerSeen) and event.announcement.worker == self.account:
            self.seen.append(event.announcement)
        elif isinstance(event, TelemetryIn) and event.worker == self.account:
            self.telemetry.append(event.telemetry)

    @property
    def boot(self) -> str:
        return next(a.boot for a in reversed(self.seen) if a.boot)

    @property
    def health(self) -> Health | None:
        return self.seen[-1].health if self.seen else None

    async def tell(self, command: WorkerCommand) -> WorkerAnswer:
        return await self.link.send_command(self.account, command, 10)

    async def lease(self) -> None:
        tid = f"geolane-test-{self.account}"
        pid, epoch = await self.makers.make_lease(tid)
        await self.tell(LeaseCommand(1, self.boot, tid, pid, epoch))


@asynccontextmanager
async def fleet(
    xmpp: XmppServer, r: Rig, stage: Stage, metrics: settings.Metrics | None = None
) -> AsyncIterator[tuple[Fleet, asyncio.Task[None]]]:
    account = await xmpp.worker()
    loaded = settings.Settings(
        kafka=r.kafka,
        xmpp=xmpp.settings(account),
        worker=settings.Worker(telemetry_period_s=0.2),
        metrics=metrics or settings.Metrics(),
    )
    async with led(xmpp, r.makers, account, run_stage(loaded, account, stage)) as of:
        yield of


@asynccontextmanager
async def led(
    xmpp: XmppServer, makers: LeaseMaker, account: str, process_of: Coroutine[None, None, None]
) -> AsyncIterator[tuple[Fleet, asyncio.Task[None]]]:
    """A leader, and the worker of this account that it hears, as a task."""
    f = Fleet(xmpp, makers, account)
    leader = asyncio.create_task(f.link.run())
    await until(lambda: f.leads)
    process = asyncio.create_task(process_of)
    try:
        await until(lambda: any(a.boot for a in f.seen))
        yield f, process
    finally:
        for task in (process, leader):
            task.cancel()
            with suppress(asyncio.CancelledError, LeaseLost):
                await task


async def test_a_worker_is_leased_works_and_tells(
    kafka_server: KafkaServer, xmpp_server: XmppServer
) -> None:
    async with rig(kafka_server, lanes=1) as r:
        stage = NodeStage(Here(list), LIMIT, r.topics)
        async with fleet(xmpp_server, r, stage) as (f, process):
            assert f.health is Health.DND
            await f.lease()
            await until(lambda: f.health is Health.AVAILABLE)
            await r.fill_lane(0, 0, 200)
            await f.tell(AssignCommand(1, f.boot, stage.topic, (Grant(0, 4, 0),)))
            assert len(await r.sources(r.topics.clean, 200)) == 200
            await until(lambda: any(lane.rate_eps > 0 for t in f.telemetry for lane in t.lanes))
            last = f.telemetry[-1]
            assert (last.boot, last.lanes[0].n, last.lanes[0].epoch) == (f.boot, 0, 4)
            assert last.mem_mb > 10
            await until(lambda: f.telemetry[-1].paths)
            assert [path.broker for path in f.telemetry[-1].paths] == [1]
            answer = await f.tell(ReleaseCommand(1, f.boot, stage.topic, (Grant(0, 4, 0),)))
            assert answer.lanes[0].offset >= 200
            await f.tell(LeaseCommand(1, f.boot, "x", -1, 0))
            with pytest.raises(LeaseLost):
                await asyncio.wait_for(process, 10)
            await until(lambda: f.health is Health.UNAVAILABLE)


async def test_a_pipeline_that_holds_the_gil_loses_no_session(
    kafka_server: KafkaServer, xmpp_server: XmppServer
) -> None:
    """2.5 s in which nothing else of the process runs: the server's ping waits 3.1 s for its
    answer."""
    hold = ctypes.PyDLL(None)  # calls through PyDLL keep the GIL

    def greedy(batch: list[Record]) -> list[Record]:
        hold.usleep(2_500_000)
        return batch

    async with rig(kafka_server, lanes=1) as r:
        stage = NodeStage(Here(greedy), LIMIT, r.topics)
        async with fleet(xmpp_server, r, stage) as (f, _):
            await f.lease()
            await until(lambda: f.health is Health.AVAILABLE)
            await r.fill_lane(0, 0, 20)
            await f.tell(AssignCommand(1, f.boot, stage.topic, (Grant(0, 1, 0),)))
            assert len(await r.sources(r.topics.clean, 20)) == 20
            await until(lambda: any(lane.rate_eps > 0 for t in f.telemetry for lane in t.lanes))
            assert Health.UNAVAILABLE not in [a.health for a in f.seen]
            assert len({a.boot for a in f.seen}) == 1
