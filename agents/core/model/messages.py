"""TODO."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# ---- What a worker's accelerators mean for placing lanes: one that reports a fault makes its
# node degraded (DESIGN 7).

UTILISATION = (0.0, 1.0)
MEMORY_MB = (0.0, 1e9)
TEMPERATURE_C = (-100.0, 300.0)
POWER_W = (0.0, 1e5)
DEVICES_AT_MOST = 64
FAULTS_AT_MOST = 8


def degraded(telemetry: Telemetry | None) -> bool:
    """Whether any accelerator of the worker that sent this reports a fault. Nothing heard is
    nothing known: not degraded."""
    return telemetry is not None and any(device.faults for device in telemetry.accelerators)


def faults(telemetry: Telemetry | None) -> str:
    """For people: which device has which fault, `NVIDIA H100: xid_79, uncorrected_ecc`; empty when
    all are well."""
    if telemetry is None:
        return ""
    return "; ".join(f"{d.name}: {', '.join(d.faults)}" for d in telemetry.accelerators if d.faults)


# ---- The values that everything else speaks in: frozen, with units in their names (DESIGN 1). No
# behaviour beyond naming oneself.


class Health(StrEnum):
    """Presence is health (DESIGN 4): XMPP's own words."""

    AVAILABLE = "available"
    DND = "dnd"
    XA = "xa"
    UNAVAILABLE = "unavailable"


# ---- what the coordinator tells a worker (PROTOCOL 4) ----


@dataclass(frozen=True, slots=True)
class Grant:
    """One line of a command's field `lanes`: partition number, epoch, offset."""

    n: int
    epoch: int
    offset: int


@dataclass(frozen=True, slots=True)
class LeaseCommand:
    """producer_id < 0 says: your boot is fenced, end."""

    leader_epoch: int
    boot: str
    transactional_id: str
    producer_id: int
    producer_epoch: int

    @property
    def producer(self) -> tuple[int, int]:
        return self.producer_id, self.producer_epoch


@dataclass(frozen=True, slots=True)
class AssignCommand:
    leader_epoch: int
    boot: str
    topic: str
    lanes: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class ReleaseCommand:
    leader_epoch: int
    boot: str
    topic: str
    lanes: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class LanesCommand:
    leader_epoch: int
    boot: str


@dataclass(frozen=True, slots=True)
class DrainCommand:
    leader_epoch: int
    boot: str


@dataclass(frozen=True, slots=True)
class ResumeCommand:
    leader_epoch: int
    boot: str


@dataclass(frozen=True, slots=True)
class RestartCommand:
    """Hand over what you have and end; who keeps you starts you anew, with the code as it is
    then."""

    leader_epoch: int
    boot: str


WorkerCommand = (
    LeaseCommand
    | AssignCommand
    | ReleaseCommand
    | LanesCommand
    | DrainCommand
    | ResumeCommand
    | RestartCommand
)


@dataclass(frozen=True, slots=True)
class WorkerAnswer:
    """A worker's answer. `release`: the released lanes with the offset that shows. `assign`,
    `lanes`: all that is owned."""

    lanes: tuple[Grant, ...] = ()


# ---- what a worker says of itself ----


@dataclass(frozen=True, slots=True)
class Announcement:
    """A worker's presence. `capacity_eps` and the rest may only lower what the inventory says.
    `last_end`: how the boot before this one ended, empty where that is not known."""

    worker: str
    health: Health
    boot: str = ""
    state: str = ""
    status: str = ""
    site: str = ""
    capacity_eps: float = 0.0
    accel: str = "none"
    version: str = ""
    last_end: str = ""


@dataclass(frozen=True, slots=True)
class LaneLoad:
    """One partition in a worker's telemetry. `fault` is empty, or why the partition stands still or
    is held up (ASIDE)."""

    topic: str
    n: int
    epoch: int
    rate_eps: float
    lag_events: int
    p50_ms: float
    p99_ms: float
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Routers only: what arrives for a lane."""

    n: int
    rate_eps: float


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One GPU of a worker's machine; None where its library does not say. `utilisation` is a share
    of time from 0 to 1.

    `faults`: a word for each thing that is wrong with it, empty when it is well: `uncorrected_ecc`,
    `xid_79` (NVIDIA's number of the error), `slowed_heat`, `slowed_power`, `lost`, `silent`."""

    vendor: str
    name: str
    utilisation: float | None = None
    mem_used_mb: float | None = None
    mem_total_mb: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One item of `telemetry/ROLE-NAME`. `ts` is shown, never compared; `cpu` is a share of one
    core; `pipeline`: what a node runs, `MODULE:FUNCTION@VERSION`, empty for a router."""

    boot: str
    seq: int
    ts: str
    cpu: float
    mem_mb: float
    tuning: int = 0
    lanes: tuple[LaneLoad, ...] = ()
    arrivals: tuple[Arrival, ...] = ()
    accelerators: tuple[Accelerator, ...] = ()
    pipeline: str = ""
