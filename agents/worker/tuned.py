"""What a worker goes by: its settings, and what the leader has tuned since. What is no value is refused whole: then telemetry goes on
showing the version before, and the room is told who does not have it."""

from __future__ import annotations

from dataclasses import dataclass, field

from agents import log
from agents.core.feeds import Tuning
from agents.core.tuning import WORKER_NAMES
from agents.errors import OperatorError
from agents.settings import Settings
from agents.settings.tunables import tunables

_log = log.get("worker.tuned")


@dataclass(slots=True)
class Tuned:
    """`version` of the newest that holds here; 0: nothing was ever tuned."""

    settings: Settings
    commit_gap_ms: int = field(init=False)
    batch_records: int = field(init=False)
    telemetry_period_s: float = field(init=False)
    ping_period_s: float = field(init=False)
    version: int = 0

    def __post_init__(self) -> None:
        self._default()

    def _default(self) -> None:
        w = self.settings.worker
        self.commit_gap_ms, self.batch_records = w.commit_gap_ms, w.batch_records
        self.telemetry_period_s, self.ping_period_s = w.telemetry_period_s, w.ping_period_s

    def take(self, tuning: Tuning) -> float:
        """Go by it, unless it is older than what is known, or refused; returns the ping period that holds now, in s."""
        if tuning.version > self.version:
            self._take(tuning)
        return self.ping_period_s

    def _take(self, tuning: Tuning) -> None:
        known = tunables(self.settings)
        try:
            values = {name: known[name].value(text) for name, text in tuning.values if name in WORKER_NAMES}
        except OperatorError as e:
            _log.warning("tuning_refused", version=tuning.version, why=str(e))
            return
        self._default()
        for name, value in values.items():
            setattr(self, name, value)
        self.version = tuning.version
        _log.info("tuned", version=tuning.version, **values)
