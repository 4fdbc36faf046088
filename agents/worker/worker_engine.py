"""What `run_worker` needs of an engine, whatever kind of worker it drives: commands and settings go
in, load and figures come out, and `run` works what is owned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from agents import settings
from agents.core.lanes.tenure import Tenure
from agents.core.model.messages import Arrival, LaneLoad, WorkerAnswer, WorkerCommand
from agents.observe.metrics.samples import Samples
from agents.worker.lane import Meters, WorkedPartition


class WorkerEngine(Protocol):
    """One worker's data plane for one boot."""

    @property
    def tenure(self) -> Tenure:
        """The lease and the partitions, as commanded."""

    @property
    def meters(self) -> Meters:
        """Counters for metrics."""

    @property
    def kafka_up(self) -> bool:
        """Whether there is a connection to a broker now."""

    @property
    def code(self) -> str:
        """The user's code that does the work: MODULE:FUNCTION@VERSION; empty if there is none."""

    @property
    def lost(self) -> int:
        """How many calls of it were lost with their process."""

    @property
    def pids(self) -> Sequence[int]:
        """The other processes that do the work."""

    async def run(self) -> None:
        """Wait for the lease, then work until cancelled. Raises LeaseLost: the process must
        end."""

    async def execute_command(self, command: WorkerCommand) -> WorkerAnswer:
        """Carry out a command and return the answer. Raises StaleEpoch, CommandRefused."""

    def apply_settings(self, worker: settings.Worker) -> None:
        """Use these settings from now on."""

    def take_load(self) -> tuple[tuple[LaneLoad, ...], tuple[Arrival, ...]]:
        """For telemetry: the load of each owned partition since the last call, and (routers) the
        arrivals for each lane."""

    def add_metrics(self, worker: str, out: Samples) -> None:
        """Add what only this kind of engine measures; `worker`: the account."""

    def owned_partitions(self) -> list[WorkedPartition]:
        """The partitions that this worker owns, with their progress."""


MakeEngine = Callable[[str, Callable[[], None]], WorkerEngine]
"""Makes the engine for a boot. The engine calls the second argument when the coordinator orders a
restart."""
