"""What the engine counts for its metrics, once per batch and never per event; the rest is read from it when somebody looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from agents.metrics.samples import Histogram
from agents.worker.lane import Counts


@dataclass(slots=True)
class Meters:
    """What this process has done since its start. `done`: by partition, whether it still has it or not, so that no count
    goes back when a partition returns. `processing`: from the append in raw to the commit; `commit`: of transactions."""

    done: dict[int, Counts] = field(default_factory=dict)
    processing: Histogram = field(default_factory=Histogram)
    commit: Histogram = field(default_factory=Histogram)
    aborts: int = 0
    faults: int = 0

    def worked(self, n: int, out: int, filtered: int, dead: int, took_ms: Sequence[float]) -> None:
        """A committed batch of partition `n`: events by what became of them, and how long a sample of them took."""
        self.done[n] = self.done.get(n, Counts()).plus(out, filtered, dead)
        if took_ms:
            self.processing.add([ms / 1000 for ms in took_ms], (out + filtered + dead) / len(took_ms))
