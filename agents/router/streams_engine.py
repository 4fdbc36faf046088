"""The router's engine on Kafka Streams: looks after the Java program that does the work
(docs/router-engines.md).

Kafka Streams shares the raw partitions out among its members by its own group protocol; the
coordinator gives such a router a lease and no partitions. The program's producer works under that
lease, so that a fence holds for it as for any other worker. One boot has one lease and one run of
the program: when the program ends, so does this process, and the next boot gets another lease."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from agents import settings
from agents.base import log
from agents.base.errors import CommandRefused, KafkaError, LeaseLost
from agents.base.supervisor import first_leaf_error
from agents.core.model.messages import (
    Arrival,
    AssignCommand,
    LaneLoad,
    ReleaseCommand,
    WorkerAnswer,
    WorkerCommand,
)
from agents.core.model.topology import KAFKA_STREAMS, MAIN, Partition
from agents.kafka.group_members import remove_members
from agents.observe.metrics import declared as m
from agents.observe.metrics.samples import Samples
from agents.router.java_program import LOST, OUT_OF_MEMORY, REFUSED, JavaProgram
from agents.router.streams_config import StreamsSetup, make_tuning
from agents.router.unread import UnreadReader
from agents.worker.arrivals import Arrivals
from agents.worker.lane import WorkedPartition
from agents.worker.ownership import Ownership
from agents.worker.worker_engine import DataPlane

LATE_S = 5.0
"""After this long without a report, people are told."""
REFUSED_REST_S = 10.0
STATES = ("CREATED", "REBALANCING", "RUNNING", "PENDING_SHUTDOWN", "NOT_RUNNING", "ERROR")
_log = log.get_logger("router.streams")


class StreamsEngine(DataPlane):
    """One router's data plane for one boot. `state`: of Kafka Streams, in its own words; `threads`:
    of each stream thread."""

    def __init__(
        self,
        setup: StreamsSetup,
        worker: settings.Worker,
        boot: str,
        *,
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        topic = f"{MAIN}/{setup.topics.raw}"
        super().__init__(
            setup.kafka,
            Ownership(
                topic, boot, leave=leave, begun=lambda n: None, released=lambda partition: None
            ),
        )
        self.state = ""
        self.threads: dict[str, str] = {}
        self._setup, self._worker, self._topic = setup, worker, topic
        self._parts: dict[int, WorkedPartition] = {}
        self._arrivals = Arrivals()
        self._load_at = time.monotonic()
        self._reported_at = 0.0
        self._protocol = self._member = ""
        self._failure = self._held = ""
        self._program = JavaProgram(setup.router.heap_mb, self._take_report)
        self._unread = UnreadReader(setup.kafka, topic, self._program.send)

    # The control side

    async def execute_command(self, command: WorkerCommand) -> WorkerAnswer:
        """Carry out a command. Raises StaleEpoch, CommandRefused: also for any that gives or takes
        partitions."""
        if isinstance(command, AssignCommand | ReleaseCommand):
            self.tenure.accept_leader(command.boot, command.leader_epoch)
            raise CommandRefused(
                "item-not-found", "Kafka Streams shares the raw partitions out among its members"
            )
        return await super().execute_command(command)

    def apply_settings(self, worker: settings.Worker) -> None:
        """Use these settings from now on."""
        self._worker = worker
        self._program.send({"tuning": make_tuning(worker)})

    def owned_partitions(self) -> list[WorkedPartition]:
        """The partitions that Kafka Streams has given to this router."""
        return [part for _, part in sorted(self._parts.items())]

    def take_load(self) -> tuple[tuple[LaneLoad, ...], tuple[Arrival, ...]]:
        """The load since the last call: of raw partitions, and what arrived for lanes."""
        now = time.monotonic()
        over_s, self._load_at = now - self._load_at, now
        silent_s = now - self._reported_at
        held = f"held: {self._held}" if self._held else ""
        if silent_s > LATE_S:
            held = f"held: Kafka Streams is silent for {silent_s:.0f} s"
        lanes = tuple(part.take_load(over_s, held) for part in self.owned_partitions())
        return lanes, self._arrivals.take_rates(over_s)

    @property
    def name(self) -> str:
        return KAFKA_STREAMS

    @property
    def kafka_up(self) -> bool:
        return self.state == "RUNNING"

    @property
    def pids(self) -> Sequence[int]:
        return () if self._program.pid is None else (self._program.pid,)

    def add_metrics(self, worker: str, out: Samples) -> None:
        for state in STATES:
            out.add(m.STREAMS_STATE, self.state == state, worker, state.lower())
        running = sum(state == "RUNNING" for state in self.threads.values())
        out.add(m.STREAMS_THREADS, running, worker)

    # The life of this boot

    async def run(self) -> None:
        """Wait for the lease, then look after the program until cancelled. Raises LeaseLost: the
        process must end, and the next boot starts the program again."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._own.end_when_ordered())
                tasks.create_task(self._make_probes().run())
                tasks.create_task(self._unread.run())
                await self._own.leased.wait()
                await self._run_until_drained(tasks)
        except BaseExceptionGroup as group:
            lost, _ = group.split(LeaseLost)
            raise first_leaf_error(lost) if lost is not None else group from None

    async def _run_until_drained(self, tasks: asyncio.TaskGroup) -> None:
        if (lease := self.tenure.lease) is None:
            raise LeaseLost("no lease")
        make_config = partial(self._setup.make_config, self._worker, lease)
        running = tasks.create_task(self._program.run(make_config))
        drained = tasks.create_task(self._wait_for_drain(True))
        await asyncio.wait((running, drained), return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            _log.info("drained_by_command")
            running.cancel()  # it commits, and leaves the group
            await asyncio.wait((running,))
            self._parts.clear()
            await self._wait_for_drain(False)
            raise LeaseLost("resumed: the next boot starts Kafka Streams again")
        drained.cancel()
        code = running.result()
        await self._leave_for_the_dead()
        why = self._failure or f"exit code {code}"
        if code == OUT_OF_MEMORY:
            why = f"its heap is full: raise router.heap_mb ({self._setup.router.heap_mb} MB)"
        _log.error("java_ended", exit=code, why=why)
        if code == REFUSED:  # the next boot will probably see the same
            await asyncio.sleep(REFUSED_REST_S)
        raise LeaseLost(why if code == LOST else f"Kafka Streams has ended: {why}")

    async def _wait_for_drain(self, on: bool) -> None:
        while self.tenure.draining is not on:
            self._own.told.clear()
            await self._own.told.wait()

    async def _leave_for_the_dead(self) -> None:
        """Take the members of a program that has died out of the group, so that others need not
        wait until its session ends."""
        if not self._member:
            return
        try:
            await remove_members(
                self._kafka, self._setup.topics.router_group, self._protocol, [self._member]
            )
        except KafkaError as e:
            _log.warning("members_not_removed", error=str(e))

    # Reports

    def _take_report(self, report: Mapping[str, Any]) -> None:
        """Take a report of the program, which is as trusted as ourselves."""
        now_ms = self.clock.now_ms()
        self._reported_at = time.monotonic()
        self._protocol, self._member = report["protocol"], report["member"]
        self._failure, self._held = report["failure"], report["held"]
        if report["state"] != self.state:
            self.state = report["state"]
            _log.info("streams_state", state=self.state.lower(), protocol=self._protocol)
        self.threads = {thread["name"]: thread["state"] for thread in report["threads"]}
        owned = {n for thread in report["threads"] for n in thread["partitions"]}
        if owned != self._parts.keys():
            _log.info("partitions_shared_out", partitions=sorted(owned))
        self._parts = {n: self._parts.get(n) or self._begin(n) for n in owned}
        self._unread.want({int(n): offset for n, offset in report["unread"].items()})
        for n, part in self._parts.items():
            self._note_stop(part, report["stopped"].get(str(n), ""))
            lag = report["lags"].get(str(n), 0)
            part.behind = part.end = lag
            if lag == 0:
                part.clear_ms = now_ms
        self.meters.commit.add([ms / 1000 for ms in report["commit_ms"]])
        for key, done in report["parts"].items():
            self._count(int(key), done)

    def _begin(self, n: int) -> WorkedPartition:
        part = WorkedPartition(Partition(self._topic, n), 0, 0)
        part.start_at_offset(0, "", time.monotonic())
        return part

    def _note_stop(self, part: WorkedPartition, why: str) -> None:
        if why and why != part.fault:
            self.meters.faults += 1
            _log.error("partition_stopped", partition=part.partition.label, fault=why)
        part.fault = why

    def _count(self, n: int, done: Mapping[str, Any]) -> None:
        took_ms = [float(ms) for ms in done["took_ms"]]
        self.meters.count_batch(n, done["out"], 0, done["dead"], took_ms)
        arrivals = {int(lane): count for lane, count in done["arrivals"].items()}
        self._arrivals.count_batch(n, arrivals, [done["oldest_ms"], done["newest_ms"]])
        if (part := self._parts.get(n)) is not None:
            part.done += done["out"] + done["dead"]
            part.latencies_ms.extend(took_ms)
            part.clear_ms = max(part.clear_ms, done["newest_ms"])

    @property
    def _topic_names(self) -> Sequence[str]:
        t = self._setup.topics
        return t.raw, t.lanes, t.unplaced, t.dead

    @property
    def _group(self) -> str:
        return self._setup.topics.router_group
