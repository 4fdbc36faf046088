"""The settings in force at a worker: its own, overridden by the feed `tuning`.

An invalid value is refused and the previous one stays in force. The version is then not
acknowledged."""

from __future__ import annotations

from collections.abc import Callable

from agents import settings
from agents.base import log
from agents.core.model.feeds import TuningValues
from agents.settings.tunables import TUNABLES, Number, with_tuned_values

_log = log.get_logger("worker.tuning")


class Dials:
    """`version`: the last one that was applied completely; 0: none. `worker`: the settings in
    force; `apply` is called with them when they change."""

    def __init__(
        self, worker: settings.Worker, apply: Callable[[settings.Worker], None] = lambda _: None
    ) -> None:
        self._settings, self._apply = worker, apply
        self._values: dict[str, Number] = {}
        self._seen: TuningValues | None = None
        self.worker = worker
        self.version = 0

    def apply_tuning(self, said: TuningValues) -> None:
        """Apply these values. A setting that is not among them returns to its configured value."""
        if said == self._seen:
            return
        self._seen = said
        values: dict[str, Number] = {}
        refused = False
        for name, value in said.values:
            try:
                if name not in TUNABLES or not TUNABLES[name].by_worker:
                    raise ValueError("is not a setting that a worker can be tuned by")
                values[name] = TUNABLES[name].check_value(value)
            except ValueError as e:
                refused = True
                if name in self._values:
                    values[name] = self._values[name]
                _log.error("tuning_refused", version=said.version, name=name, why=f"{name} {e}")
        worker = with_tuned_values(self._settings, values)
        if worker != self.worker:
            changed = {n: getattr(worker, n) for n in TUNABLES if TUNABLES[n].by_worker}
            self.worker = worker
            self._apply(worker)
            _log.info("tuned", version=said.version, **changed)
        self._values = values
        if not refused:
            self.version = said.version
