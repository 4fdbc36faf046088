"""What the coordinator and its workers say to one another, as frozen values with units in their
names (PROTOCOL 4): commands, answers, presence and telemetry."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# Accelerators: the range of each figure, and how many are read.
UTILISATION = (0.0, 1.0)
MEMORY_MB = (0.0, 1e9)
TEMPERATURE_C = (-100.0, 300.0)
POWER_W = (0.0, 1e5)
DEVICES_AT_MOST = 64
FAULTS_AT_MOST = 8

# Paths: how many are read, and the ranges that can be told. What is believed is another matter
# (core/fleet/plausibility.py).
PATHS_AT_MOST = 64
PROBE_WINDOW = 15
RTT_MS = (0.0, 60_000.0)
PROBES = (1, PROBE_WINDOW)
PROBE_AGE_S = (0.0, 86_400.0)


def is_degraded(telemetry: Telemetry | None) -> bool:
    """Whether an accelerator of the worker that sent this reports a fault; such a node costs more
    (docs/planning.md). False without telemetry."""
    return telemetry is not None and any(device.faults for device in telemetry.accelerators)


STARTING = "starting"
"""The state of a worker that has begun and can work nothing yet."""


class Health(StrEnum):
    """A worker's health is its presence, in XMPP's own words (PROTOCOL 4)."""

    AVAILABLE = "available"
    DND = "dnd"
    XA = "xa"
    UNAVAILABLE = "unavailable"


# ---- commands to a worker (PROTOCOL 4) ----


@dataclass(frozen=True, slots=True)
class Grant:
    """One line of a command's field `lanes`: partition number, epoch, offset."""

    n: int
    epoch: int
    offset: int


@dataclass(frozen=True, slots=True)
class LeaseCommand:
    """The lease of this boot. `producer_id` < 0: the boot is fenced and must end."""

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
    """Work these partitions of `topic`."""

    leader_epoch: int
    boot: str
    topic: str
    lanes: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class ReleaseCommand:
    """Release these partitions of `topic`."""

    leader_epoch: int
    boot: str
    topic: str
    lanes: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class LanesCommand:
    """Tell which partitions you own."""

    leader_epoch: int
    boot: str


@dataclass(frozen=True, slots=True)
class DrainCommand:
    """Take no new partitions."""

    leader_epoch: int
    boot: str


@dataclass(frozen=True, slots=True)
class ResumeCommand:
    """Take new partitions again."""

    leader_epoch: int
    boot: str


@dataclass(frozen=True, slots=True)
class RestartCommand:
    """Hand over your partitions and end; the process supervisor starts you again, with the code as
    it is then."""

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
    """A worker's answer: to `release` the released partitions with the committed offset that shows;
    to any other command all partitions that it owns."""

    lanes: tuple[Grant, ...] = ()


# ---- presence and telemetry of a worker ----


@dataclass(frozen=True, slots=True)
class Announcement:
    """A worker's presence. `capacity_eps`: a ceiling of its own below what the inventory says; 0:
    none. `last_end`: how the boot before this one ended, empty if unknown. `engine`: of a router
    (KAFKA_STREAMS), empty for the default."""

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
    engine: str = ""


@dataclass(frozen=True, slots=True)
class LaneLoad:
    """One partition in a worker's telemetry. `fault`: why the partition has stopped or is held up
    (then it begins with ASIDE), else empty."""

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
    """What arrives for a lane, as one router counts it; only routers send it."""

    n: int
    rate_eps: float


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One GPU of a worker's machine; None for a figure that its library does not tell.
    `utilisation`: a share of time, 0 to 1.

    `faults`: one word for each fault, empty if there is none: `uncorrected_ecc`, `xid_79` (NVIDIA's
    number of the error), `slowed_heat`, `slowed_power`, `lost`, `silent`."""

    vendor: str
    name: str
    utilisation: float | None = None
    mem_used_mb: float | None = None
    mem_total_mb: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PathReport:
    """The round trip from a worker to a Kafka broker, as this worker measured it.

    `rtt_ms` and `min_ms`: the median and the minimum of its last `probes` probes. `age_s`: how long
    ago the newest of them was answered, by the worker's own clock."""

    broker: int
    rtt_ms: float
    min_ms: float
    probes: int
    age_s: float


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One item of the feed `telemetry/ROLE-NAME`. `ts`: by the sender's clock; only its own error
    is told from it. `cpu`: a share of one core. `tuning`: the version that the worker has applied.
    `pipeline`: the pipeline that a node runs, `MODULE:FUNCTION@VERSION`; empty for a router."""

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
    paths: tuple[PathReport, ...] = ()
