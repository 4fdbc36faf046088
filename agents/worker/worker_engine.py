"""What `run_worker` needs of an engine, whatever kind of worker it drives: commands and settings go
in, load and figures come out, and `run` works what is owned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from agents import settings
from agents.core.lanes.tenure import Tenure
from agents.core.model.messages import Arrival, LaneLoad, WorkerAnswer, WorkerCommand
from agents.observe.metrics.samples import Samples
from agents.worker.lane import Meters, WorkedPartition
from agents.worker.ownership import Ownership
from agents.worker.reader import Reader


class WorkerEngine(ABC):
    """One worker's data plane for one boot: what it owns, what it reads, and what is asked of
    it."""

    def __init__(self, own: Ownership) -> None:
        self._own = own
        self._reader: Reader | None = None

    @property
    def tenure(self) -> Tenure:
        """The lease and the partitions, as commanded."""
        return self._own.tenure

    @property
    def meters(self) -> Meters:
        """Counters for metrics."""
        return self._own.meters

    @property
    def kafka_up(self) -> bool:
        """Whether there is a connection to a broker now."""
        return self._reader is not None and self._reader.is_connected

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
    async def run(self) -> None:
        """Wait for the lease, then work until cancelled. Raises LeaseLost: the process must
        end."""

    @abstractmethod
    def apply_settings(self, worker: settings.Worker) -> None:
        """Use these settings from now on."""

    @abstractmethod
    def take_load(self) -> tuple[tuple[LaneLoad, ...], tuple[Arrival, ...]]:
        """For telemetry: the load of each owned partition since the last call, and (routers) the
        arrivals for each lane."""


MakeEngine = Callable[[str, Callable[[], None]], WorkerEngine]
"""Makes the engine for a boot. The engine calls the second argument when the coordinator orders a
restart."""
