"""What `run_worker` needs of an engine, whatever kind of worker it drives: commands and settings go
in, load and figures come out, and `run` works what is owned. A `WorkerEngine` does so with Kafka
clients of its own."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agents import settings
from agents.base import log
from agents.base.errors import KafkaUnavailable, LeaseLost
from agents.base.supervisor import first_leaf_error
from agents.base.text import to_one_line
from agents.base.worker_thread import WorkThread
from agents.core.lanes.tenure import Tenure
from agents.core.model.messages import (
    Arrival,
    LaneLoad,
    PathReport,
    WorkerAnswer,
    WorkerCommand,
)
from agents.core.model.topology import CUT_OFF
from agents.kafka.broker_clock import BrokerClock
from agents.kafka.connection import retry_until_available
from agents.kafka.offsets import Offsets
from agents.kafka.paths import PathProbes
from agents.kafka.producer import LeasedProducer
from agents.observe.metrics.samples import Samples
from agents.worker.lane import Meters, Phase, WorkedPartition
from agents.worker.ownership import Ownership
from agents.worker.reader import Reader

CUT_OFF_AFTER_S = 10.0
_log = log.get_logger("worker.engine")


@dataclass(frozen=True, slots=True)
class Clients:
    """What one boot works with. `thread`: for what computes."""

    reader: Reader
    offsets: Offsets
    producer: LeasedProducer
    thread: WorkThread


class DataPlane(ABC):
    """One worker's data plane for one boot: what it owns and what is asked of it. `clock`: the
    brokers', for all times that it reports."""

    def __init__(self, kafka: settings.Kafka, own: Ownership) -> None:
        self.clock = BrokerClock()
        self._kafka = kafka
        self._own = own
        self._probes: PathProbes | None = None

    @property
    def tenure(self) -> Tenure:
        """The lease and the partitions, as commanded."""
        return self._own.tenure

    @property
    def meters(self) -> Meters:
        """Counters for metrics."""
        return self._own.meters

    @property
    @abstractmethod
    def kafka_up(self) -> bool:
        """Whether there is a connection to a broker now."""

    @abstractmethod
    async def run(self) -> None:
        """Wait for the lease, then work until cancelled. Raises LeaseLost: the process must end
        (PROTOCOL 2.1, 3.3)."""

    @property
    def unready(self) -> str:
        """Why it can work nothing yet, for people; empty if it can."""
        return ""

    @property
    def name(self) -> str:
        """Of a kind of worker with several engines; empty for the default."""
        return ""

    @property
    def code(self) -> str:
        """The user's code that does the work: MODULE:FUNCTION@VERSION; empty if there is none."""
        return ""

    @property
    def lost(self) -> int:
        """How many calls of it were lost with their process."""
        return 0

    @property
    def pids(self) -> Sequence[int]:
        """The other processes that do the work."""
        return ()

    async def execute_command(self, command: WorkerCommand) -> WorkerAnswer:
        """Carry out a command and return the answer. Raises StaleEpoch, CommandRefused."""
        return await self._own.execute_command(command)

    def owned_partitions(self) -> list[WorkedPartition]:
        """The partitions that this worker owns, with their progress."""
        return self._own.owned_partitions()

    def add_metrics(self, worker: str, out: Samples) -> None:  # noqa: B027 - most have none
        """Add what only this kind of engine measures; `worker`: the account."""

    @abstractmethod
    def apply_settings(self, worker: settings.Worker) -> None:
        """Use these settings from now on."""

    @abstractmethod
    def take_load(self) -> tuple[tuple[LaneLoad, ...], tuple[Arrival, ...]]:
        """For telemetry: the load of each owned partition since the last call, and (routers) the
        arrivals for each lane."""

    def path_reports(self) -> tuple[PathReport, ...]:
        """For telemetry: the round trips to the brokers that this worker works with."""
        return self._probes.reports() if self._probes is not None else ()

    def _make_probes(self) -> PathProbes:
        """Those whose reports `path_reports` returns from now on."""
        self._probes = PathProbes(
            self._kafka, self._topic_names, self._group, self._transactional_id
        )
        return self._probes

    def _transactional_id(self) -> str:
        return self.tenure.lease.transactional_id if self.tenure.lease is not None else ""

    @property
    @abstractmethod
    def _topic_names(self) -> Sequence[str]:
        """Kafka's names of the topics that it reads, then of those that it writes."""

    @property
    @abstractmethod
    def _group(self) -> str:
        """The consumer group whose offsets it commits."""


class WorkerEngine(DataPlane):
    """A data plane that reads and writes by itself."""

    def __init__(self, kafka: settings.Kafka, own: Ownership) -> None:
        super().__init__(kafka, own)
        self._reader: Reader | None = None
        self._unready = ""
        self._connected_at = time.monotonic()

    @property
    def unready(self) -> str:
        return self._unready

    @property
    def _is_reading(self) -> bool:
        """Whether something is read now, so that there must be a connection."""
        return any(lane.phase is Phase.WORKING for lane in self.owned_partitions())

    def _describe_cut_off(self, now: float) -> str:
        """That Kafka does not answer, or refuses our login; empty if it does, or since a moment."""
        if not self._is_reading or self.kafka_up:
            self._connected_at = now
        cut_s = max(now - self._connected_at, self._own.unanswered_s(now))
        return f"{CUT_OFF} for {cut_s:.0f} s" if cut_s > CUT_OFF_AFTER_S else ""

    def _note_unready(self, error: KafkaUnavailable) -> None:
        log_unavailable(error)
        self._unready = to_one_line(f"cannot use Kafka: {error}")

    @property
    def kafka_up(self) -> bool:
        return self._reader is not None and self._reader.is_connected

    def _rtt_ms_to(self, broker: int) -> float | None:
        return next((x.rtt_ms for x in self.path_reports() if x.broker == broker), None)

    # The life of this boot

    async def _start_reader(self) -> Reader:
        """A new one for each attempt: the password may have been corrected."""
        reader = self._reader = self._make_reader()
        try:
            await reader.start()
        except BaseException:
            await reader.stop()
            raise
        return reader

    async def run(self) -> None:
        """Work what is assigned, under one lease, until cancelled. Raises LeaseLost."""
        offsets, thread = Offsets(self._kafka, self._group), WorkThread("work")
        probes = self._make_probes()
        producer: LeasedProducer | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._own.end_when_ordered())
                tasks.create_task(probes.run())
                reader = await retry_until_available(self._start_reader, self._note_unready)
                await retry_until_available(offsets.start, self._note_unready)
                await self._own.leased.wait()
                if self.tenure.lease is None:
                    raise LeaseLost("no lease")
                producer = LeasedProducer(self._kafka, self.tenure.lease, clock=self.clock)
                await retry_until_available(producer.start, self._note_unready)
                self._unready = ""
                tasks.create_task(self._own.watch_committed_offsets(offsets))
                await self._work_owned(Clients(reader, offsets, producer, thread), tasks)
        except BaseExceptionGroup as group:
            lost, _ = group.split(LeaseLost)
            raise first_leaf_error(lost) if lost is not None else group from None
        finally:
            thread.stop()
            self._end_work()
            used = (self._reader, offsets, producer)
            await asyncio.gather(*(client.stop() for client in used if client is not None))

    @abstractmethod
    def _make_reader(self) -> Reader:
        """The reader of what it works."""

    @abstractmethod
    async def _work_owned(self, clients: Clients, tasks: asyncio.TaskGroup) -> None:
        """Work what is owned until cancelled; `tasks` owns what runs meanwhile. Raises
        LeaseLost."""

    def _end_work(self) -> None:
        """End at once what is under way outside of `tasks`."""


def log_unavailable(error: KafkaUnavailable) -> None:
    _log.warning("kafka_unavailable", error=str(error))


MakeEngine = Callable[[str, Callable[[], None]], DataPlane]
"""Makes the engine for a boot. The engine calls the second argument when the coordinator orders a
restart."""
