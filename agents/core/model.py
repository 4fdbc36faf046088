"""The values that everything else speaks in: frozen, with units in their names (DESIGN 1). No behaviour beyond naming oneself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

CLUSTER = "main"
RAW = f"{CLUSTER}/events.raw"
LANES = f"{CLUSTER}/events.lanes"
TOPIC_RAW, TOPIC_LANES, TOPIC_CLEAN = "events.raw", "events.lanes", "events.clean"
TOPIC_UNPLACED, TOPIC_DEAD = "events.unplaced", "events.dead"
TOPIC_REPLAYED = "events.dead.replayed"
TOPIC_PLACEMENT, TOPIC_LANEMAP = "placement", "lanemap"


class Kind(StrEnum):
    """The two kinds of worker; the value is the prefix of its account."""

    NODE = "node"
    ROUTER = "router"

    @property
    def topic(self) -> str:
        """The topic, with its cluster, whose partitions a worker of this kind works."""
        return LANES if self is Kind.NODE else RAW

    @property
    def group(self) -> str:
        """The consumer group whose offsets this kind commits (PROTOCOL 1)."""
        return f"geolane-{self.value}"


class Health(StrEnum):
    """Presence is health (DESIGN 4): XMPP's own words."""

    AVAILABLE = "available"
    DND = "dnd"
    XA = "xa"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One partition of one topic of one cluster: `main/events.lanes` and 12."""

    topic: str
    n: int

    @property
    def key(self) -> str:
        """The key of its record in the topic `placement`: `main/events.lanes/12`."""
        return f"{self.topic}/{self.n}"

    @property
    def kafka_topic(self) -> str:
        return self.topic.partition("/")[2]

    @property
    def kind(self) -> Kind:
        return Kind.NODE if self.topic == LANES else Kind.ROUTER

    @property
    def label(self) -> str:
        """For people: `lane 12`, `raw 3`."""
        return f"lane {self.n}" if self.topic == LANES else f"raw {self.n}"

    @classmethod
    def of_key(cls, key: str) -> Partition:
        topic, _, n = key.rpartition("/")
        return cls(topic, int(n))


def short_name(worker: str) -> str:
    """An account's name without its kind, as people say it: `iad-1` of `node-iad-1`; empty of nobody."""
    return worker.partition("-")[2]


@dataclass(frozen=True, slots=True)
class Site:
    """A place that holds nodes; `region` is a row of the RTT table, `country` its ISO 3166 code (empty: not told),
    `egress_ms` what its way out costs beside the RTT."""

    name: str
    lat: float
    lon: float
    region: str
    country: str = ""
    egress_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a worker is, from the coordinator's inventory. `worker` is its account's name: `node-iad-1`, `router-1`."""

    worker: str
    kind: Kind
    site: str
    capacity_eps: float

    @property
    def name(self) -> str:
        """Without the prefix: `iad-1`."""
        return short_name(self.worker)


# ---- what the topic `placement` says (PROTOCOL 1) ----


class State(StrEnum):
    """A partition as it is written."""

    ASSIGNED = "assigned"
    RELEASING = "releasing"
    ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class Placed:
    """A partition's record. `worker` and `boot` of an orphan are its last owner's, empty when it never had one or released it.

    `offset` is where a new owner may start at the earliest: what the last release or fence showed; `since_ms` is the epoch
    time of the write."""

    worker: str
    boot: str
    epoch: int
    leader_epoch: int
    state: State
    offset: int
    since_ms: int
    why: str


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's record: the producer id and epoch that the coordinator made for one boot. `fenced`: that boot is dead.

    Where the cluster has transaction version 2, each commit of the worker's gives its producer the
    next epoch, and in time another id. That is Kafka's to know; the record keeps what was made."""

    boot: str
    transactional_id: str
    producer_id: int
    producer_epoch: int
    leader_epoch: int
    fenced: bool = False

    @property
    def producer(self) -> tuple[int, int]:
        """What was made. The epoch alone says nothing: with another id it begins at 0 again."""
        return self.producer_id, self.producer_epoch


@dataclass(frozen=True, slots=True)
class Leader:
    """The record `leader`. `starts`: when this one and those before it began (epoch ms), the newest last."""

    leader_epoch: int
    boot: str
    starts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Intent:
    """What an operator wants to last: a worker drained, or the planner paused. Written beside the partitions, so that it
    outlives workers and coordinators; taken back by deleting the record."""

    by: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Tuned:
    """A value that an operator has set over what the settings say."""

    value: int | float
    by: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Tuning:
    """The record `tuning`: by a setting's name, what holds over the settings. `version` grows by one with each change of
    what workers are told, and `since_ms` is when that was; they acknowledge it in their telemetry."""

    version: int = 0
    since_ms: int = 0
    values: Mapping[str, Tuned] = field(default_factory=dict)


UNTUNED = Tuning()

PAUSE = "pause"
FOLLOW = "follow/"


def drain_intent(worker: str) -> str:
    """The name of the intent that keeps `worker` empty."""
    return f"drain/{worker}"


def follow_intent(feed: str, jid: str) -> str:
    """The name of the intent by which `jid` (bare) is told what is published on `feed`."""
    return f"{FOLLOW}{feed}/{jid}"


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
    """Hand over what you have and end; who keeps you starts you anew, with the code as it is then."""

    leader_epoch: int
    boot: str


WorkerCommand = (
    LeaseCommand | AssignCommand | ReleaseCommand | LanesCommand | DrainCommand | ResumeCommand | RestartCommand
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A worker's answer. `release`: the released lanes with the offset that shows. `assign`, `lanes`: all that is owned."""

    lanes: tuple[Grant, ...] = ()


# ---- what a worker says of itself ----


@dataclass(frozen=True, slots=True)
class Announcement:
    """A worker's presence. `capacity_eps` and the rest may only lower what the inventory says. `last_end`: how the boot before
    this one ended, empty where that is not known."""

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


ASIDE = "aside: "
"""Begins the fault of a lane whose records its worker works aside, because they take long."""


@dataclass(frozen=True, slots=True)
class LaneLoad:
    """One partition in a worker's telemetry. `fault` is empty, or why the partition stands still or is held up (ASIDE)."""

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
    """One GPU of a worker's machine; None where its library does not say. `utilisation` is a share of time from 0 to 1.

    `faults`: a word for each thing that is wrong with it, empty when it is well: `uncorrected_ecc`, `xid_79` (NVIDIA's
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
class Telemetry:
    """One item of `telemetry/ROLE-NAME`. `ts` is shown, never compared; `cpu` is a share of one core; `pipeline`: what a node
    runs, `MODULE:FUNCTION@VERSION`, empty for a router."""

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
