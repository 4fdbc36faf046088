"""One case: a worker's life, with its successors, while the proxy harms one of its requests; then
the ledger.

The engine, its producer and the leases are the product's own. What the coordinator and a supervisor
do around them is done here: a new boot gets a new lease and starts at the committed offset
(PROTOCOL 2.1 to 2.3, 2.7)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition

from agents import settings
from agents.base.errors import KafkaUnavailable
from agents.core.lanes.records import SRC, Record
from agents.core.model.messages import LeaseCommand
from agents.core.model.topology import MAIN, Partition
from agents.kafka.connection import client_kwargs
from agents.kafka.leases import LeaseMaker
from agents.kafka.offsets import Offsets
from agents.node.stage import NodeStage
from agents.worker.engine import Engine
from agents.worker.lane import RunningCounts
from agents.worker.stage import Topics
from tests.fixtures.request_proxy import Api, Fault, RequestProxy, Rule
from tests.kafka.support import consumer
from tests.late_requests.cases import MAX_EPOCH, PLACES, Case
from tests.worker.support import Here, Running

BATCH_BYTES = 4096
"""What `agents.kafka.producer.MAX_BATCH_BYTES` is while a case runs, so that a transaction has two
Produce requests."""
PER_TRANSACTION = 4
_VALUE = b'{"id":"e%d","pad":"' + b"x" * 1500 + b'"}'
_BOUND_S = 240.0
_SHOWN_S = 5.0
_OPEN_S = 15.0
_END_S = 20.0
_POLL_S = 0.02


def _same(batch: list[Record]) -> list[Record | None]:
    return list(batch)


@dataclass(slots=True)
class Outcome:
    """`wrong`: what the ledger found; empty is good. `answer`: the error code that the late copy
    got. `lost`: workers that ended by themselves. `producer_ids`: how many the transactional id
    had."""

    case: Case
    wrong: list[str] = field(default_factory=list)
    answer: int | None = None
    boots: int = 0
    lost: int = 0
    transactions: int = 0
    producer_ids: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Ground:
    """What the cases share: a broker, the proxy before it, and two topics with a partition for each
    case."""

    direct: settings.Kafka
    proxied: settings.Kafka
    proxy: RequestProxy
    lanes: str
    clean: str
    prefix: str

    def owner(self, case: Case) -> str:
        """The case's transactional id."""
        return f"{self.prefix}-{case.n}"


async def live(ground: Ground, case: Case, lane: int) -> Outcome:
    """Run it on a lane of its own, with a bound; whatever goes wrong stands in the outcome."""
    life, began = _Life(ground, case, lane), time.monotonic()
    try:
        async with asyncio.timeout(_BOUND_S):
            await life.start()
            await life.first_part()
            await life.last_part()
            await life.account()
    except (TimeoutError, AssertionError, KafkaUnavailable) as e:
        life.outcome.wrong.append(f"{type(e).__name__} {e} {life.standing()}")
    finally:
        await life.stop()
    life.outcome.seconds = time.monotonic() - began
    return life.outcome


class _Life:
    def __init__(self, ground: Ground, case: Case, lane: int) -> None:
        self._ground, self._case, self._lane = ground, case, lane
        self.outcome = Outcome(case)
        self._owner = ground.owner(case)
        self._topics = Topics(
            lanes=ground.lanes, clean=ground.clean, node_group=f"{self._owner}-group"
        )
        self._partition = Partition(f"{MAIN}/{ground.lanes}", lane)
        self._maker = LeaseMaker(ground.proxied, 10_000)
        self._offsets = Offsets(ground.direct, self._topics.node_group)
        self._running: list[Running] = []
        self._filled = 0
        self._epoch = 0
        init = case.request is Api.INIT_PRODUCER_ID
        rule = Rule(
            self._owner,
            case.request,
            case.do,
            PLACES[case.place],
            case.warm + 1,
            nth=2 if init and case.loss else 1,
            pause_s=case.pause_s,
        )
        self._fault: Fault = ground.proxy.add(rule)

    async def start(self) -> None:
        await self._maker.start()
        await self._offsets.start()
        await self._fill((self._case.warm + 2) * PER_TRANSACTION)

    async def stop(self) -> None:
        for running in self._running:
            await self._kill(running)
        with contextlib.suppress(TimeoutError):
            await self._maker.stop()
            await self._offsets.stop()

    async def first_part(self) -> None:
        """Until all is committed and the late copy has come, through every loss of the worker."""
        loss, fault = self._case.loss, self._fault
        moment = fault.taken if self._case.moment == "when it is taken" else fault.delivered
        if self._case.request is Api.INIT_PRODUCER_ID and loss:
            moment = (
                asyncio.Event()
            )  # the lease that the loss makes necessary is the one whose making is harmed
        if loss == "killed":
            fault.silence_when = moment
        worker = await self._boot()
        while True:
            if loss and (moment.is_set() or self._has_begun(moment)):
                if loss == "killed":
                    await self._kill(worker)
                    self._ground.proxy.listen_again(self._owner)
                loss = ""
                worker = await self._boot()
            elif worker.task.done():
                worker = await self._boot()
            elif self._is_done(worker):
                if fault.delivered.is_set():
                    return
                await self._fill(
                    PER_TRANSACTION
                )  # one more transaction, for the late copy to come in
            await asyncio.sleep(_POLL_S)

    def _has_begun(self, moment: asyncio.Event) -> bool:
        """For a lease: whether the warm transactions are over, when the worker is lost at no
        request's moment."""
        fault = self._fault
        return moment not in (fault.taken, fault.delivered) and (
            self._ground.proxy.transactions(self._owner) > self._case.warm
        )

    async def last_part(self) -> None:
        """The offset is where all was; then the worker is killed, and another goes on from there to
        the end."""
        await self._expect_offset()
        await self._kill(self._running[-1])
        await self._fill(PER_TRANSACTION)
        worker = await self._boot()
        while not self._is_done(worker):
            if worker.task.done():
                worker = await self._boot()
            await asyncio.sleep(_POLL_S)
        await self._expect_offset()

    async def account(self) -> None:
        """Every input's output once, nothing open, and the counts in the offset's metadata
        agree."""
        await self._expect_nothing_open()
        found = Counter(await self._sources())
        wanted = {self._source(i) for i in range(self._filled)}
        missing, twice = wanted - set(found), {s for s, times in found.items() if times > 1}
        for what, sources in (
            ("missing", missing),
            ("twice", twice),
            ("never sent", set(found) - wanted),
        ):
            if sources:
                self.outcome.wrong.append(f"{what}: {len(sources)} of {self._filled}")
        shown = (await self._offsets.read_committed_offsets([self._partition]))[self._partition]
        counts = RunningCounts.decode(shown[1] if shown else "")
        if (counts.taken, counts.out) != (self._filled, self._filled):
            self.outcome.wrong.append(
                f"counts: {counts.taken} in, {counts.out} out of {self._filled}"
            )
        self.outcome.answer = self._fault.answer
        self.outcome.transactions = self._ground.proxy.transactions(self._owner)
        self.outcome.producer_ids = self._ground.proxy.producer_ids(self._owner)

    # ---- what the coordinator and a supervisor do ----

    async def _boot(self) -> Running:
        """A new boot under a new lease, which fences the one before; it starts at what is committed
        then."""
        self.outcome.boots += 1
        self._epoch += 1
        boot = f"{self._owner}-boot-{self._epoch}"
        producer_id, epoch = await self._lease()
        if (
            self._case.epoch
            and self.outcome.boots == 1
            and self._case.request is not Api.INIT_PRODUCER_ID
        ):
            assert epoch > self._case.epoch or self._case.epoch == MAX_EPOCH, f"began at {epoch}"
        shown = (await self._offsets.read_committed_offsets([self._partition]))[self._partition]
        stage = NodeStage(Here(_same), 1 << 20, self._topics)
        worker = settings.Worker(batch_records=PER_TRANSACTION, commit_gap_ms=5)
        engine = Engine(self._ground.proxied, worker, stage, boot)
        lease = LeaseCommand(1, boot, self._owner, producer_id, epoch)
        running = Running(engine, asyncio.create_task(engine.run()), boot, lease, stage.topic)
        running.task.add_done_callback(self._ended)
        self._running.append(running)
        await engine.execute_command(lease)
        await running.assign((self._lane, self._epoch, shown[0] if shown else 0))
        return running

    async def _lease(self) -> tuple[int, int]:
        while True:
            try:
                return await self._maker.make_lease(self._owner)
            except KafkaUnavailable:
                await asyncio.sleep(
                    _POLL_S
                )  # the coordinator tries again, too; the case has a bound

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.outcome.lost += 1

    def standing(self) -> str:
        """Where the last worker is, for who wants to know why nothing goes on."""
        fault, last = self._fault, self._running[-1] if self._running else None
        lanes = (
            [
                (lane.phase.name, lane.committed, lane.next, lane.fault)
                for lane in last.engine.owned_partitions()
            ]
            if last
            else []
        )
        ended = last.task.done() if last else None
        return (
            f"(boot {self.outcome.boots}, ended {ended}, lanes {lanes} of {self._filled}, "
            f"transaction {self._ground.proxy.transactions(self._owner)}, fault taken "
            f"{fault.taken.is_set()}, "
            f"late {fault.delivered.is_set()})"
        )

    async def _kill(self, running: Running) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await running.kill()

    # ---- the ledger ----

    def _is_done(self, running: Running) -> bool:
        """Whether all that was filled in is committed, as far as this worker knows."""
        return any(lane.committed >= self._filled for lane in running.engine.owned_partitions())

    def _source(self, i: int) -> str:
        return f"raw/{self._lane}/{i}"

    async def _fill(self, count: int) -> None:
        """That many more records, as a router writes them."""
        producer: Any = AIOKafkaProducer(  # Any: aiokafka has no types
            **client_kwargs(self._ground.direct), enable_idempotence=True, linger_ms=20
        )
        await producer.start()
        try:
            sends = []
            for i in range(self._filled, self._filled + count):
                headers = [
                    (SRC, self._source(i).encode()),
                    ("geolane-raw-ms", b"%d" % (time.time() * 1000)),
                    ("geolane-cell", b"842664dffffffff"),
                    ("geolane-ts", b"978964500000"),
                ]
                sends.append(
                    await producer.send(
                        self._ground.lanes, _VALUE % i, b"k%d" % i, self._lane, headers=headers
                    )
                )
            await asyncio.gather(*sends)
        finally:
            await producer.stop()
        self._filled += count

    async def _expect_offset(self) -> None:
        """The committed offset is the end; it may take a moment to show."""
        deadline, shown = time.monotonic() + _SHOWN_S, None
        while time.monotonic() < deadline:
            shown = (await self._offsets.read_committed_offsets([self._partition]))[self._partition]
            if shown is not None and shown[0] == self._filled:
                return
            await asyncio.sleep(_POLL_S)
        self.outcome.wrong.append(
            f"offset {shown[0] if shown else None}, the end is {self._filled}"
        )

    async def _sources(self) -> list[str]:
        tp = TopicPartition(self._ground.clean, self._lane)
        async with consumer(self._ground.direct, None, [tuple(tp)]) as c:
            await c.seek_to_beginning(tp)
            end, found = (await c.end_offsets([tp]))[tp], []
            while await c.position(tp) < end:
                for records in (await c.getmany(timeout_ms=50)).values():
                    found += [dict(r.headers)[SRC].decode() for r in records]
            return found

    async def _expect_nothing_open(self) -> None:
        """What a read-committed reader may have reaches the end of the log."""
        tp = TopicPartition(self._ground.clean, self._lane)
        async with (
            consumer(self._ground.direct, None, [tuple(tp)]) as committed,
            consumer(
                self._ground.direct, None, [tuple(tp)], isolation_level="read_uncommitted"
            ) as all_of_it,
        ):
            deadline = time.monotonic() + _OPEN_S
            while time.monotonic() < deadline:
                stable = (await committed.end_offsets([tp]))[tp]
                end = (await all_of_it.end_offsets([tp]))[tp]
                if stable == end:
                    return
                await asyncio.sleep(_POLL_S)
        self.outcome.wrong.append(f"a transaction stays open: readers reach {stable} of {end}")
