"""The health of a worker, in XMPP's words (PROTOCOL 4): `available` takes lanes, `dnd` keeps its
lanes, `xa` should lose them.

`judge_health` is pure; only `Probe` reads the machine's state.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psutil

from agents.base.text import counted
from agents.core.model import messages
from agents.core.model.messages import Health

FULL_CPU, FULL_FOR, CALM_CPU = 0.95, 10, 0.80
LOW_MEMORY, SAFE_MEMORY = 0.03, 0.06


@dataclass(frozen=True, slots=True)
class Vitals:
    """`cpu`: the share of one core that the worker's busiest process uses. `mem_mb`: the resident
    memory of all its processes. `free`: the share of the machine's memory that is available."""

    cpu: float
    mem_mb: float
    free: float


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """A presence: XMPP's health, one word of state, and a text for people. `busy_for`: how many
    looks in a row have found FULL_CPU or more."""

    health: Health
    state: str
    status: str
    busy_for: int = 0


STARTING = WorkerHealth(Health.DND, messages.STARTING, "waits for its lease")


def judge_health(
    before: WorkerHealth,
    vitals: Vitals,
    *,
    leased: bool,
    draining: bool,
    lanes: int,
    faults: int,
    unready: str = "",
) -> WorkerHealth:
    """The health after one more look (one per telemetry period). The limits for recovery are
    stricter than those for staying healthy. `unready`: why it cannot work yet, empty if it can: it
    then takes no lanes, which would wait with it."""
    busy = before.busy_for + 1 if vitals.cpu >= FULL_CPU else 0
    noted = counted(lanes, "lane") + (f", {faults} stopped by a fault" if faults else "")
    if vitals.free < (SAFE_MEMORY if before.state == "unhealthy" else LOW_MEMORY):
        return WorkerHealth(
            Health.XA, "unhealthy", f"memory: {vitals.free:.0%} of the machine's is left", busy
        )
    if draining:
        return WorkerHealth(
            Health.DND, "draining", f"draining: {noted} left" if lanes else "drained", busy
        )
    if unready:
        return WorkerHealth(Health.DND, STARTING.state, unready, busy)
    if not leased:
        return STARTING
    if busy >= FULL_FOR or (before.state == "full" and vitals.cpu >= CALM_CPU):
        return WorkerHealth(Health.DND, "full", f"full: {vitals.cpu:.0%} of a core, {noted}", busy)
    return WorkerHealth(Health.AVAILABLE, "ready", noted, busy)


class Probe:
    """Measures this process, those of `pids()`, and the machine."""

    def __init__(self, pids: Callable[[], Iterable[int]] = tuple) -> None:
        self._pids = pids
        self._processes = {os.getpid(): psutil.Process()}
        self._processes[os.getpid()].cpu_percent()

    def read_vitals(self) -> Vitals:
        """CPU since the last call, memory now. Takes a fraction of a millisecond."""
        memory = psutil.virtual_memory()
        now = {}
        cpu = mem_mb = 0.0
        for pid in (os.getpid(), *self._pids()):
            with contextlib.suppress(psutil.Error):  # it has just ended
                now[pid] = process = self._processes.get(pid) or psutil.Process(pid)
                cpu = max(cpu, process.cpu_percent() / 100)
                mem_mb += process.memory_info().rss / (1 << 20)
        self._processes = now
        return Vitals(cpu, mem_mb, memory.available / memory.total)
