"""Names of what the fleet consists of: cluster, topics, partitions, worker kinds, sites."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

CLUSTER = "main"
RAW = f"{CLUSTER}/events.raw"
LANES = f"{CLUSTER}/events.lanes"
TOPIC_RAW, TOPIC_LANES, TOPIC_CLEAN = "events.raw", "events.lanes", "events.clean"
TOPIC_UNPLACED, TOPIC_DEAD = "events.unplaced", "events.dead"
TOPIC_REPLAYED = "events.dead.replayed"
TOPIC_PLACEMENT, TOPIC_LANEMAP = "placement", "lanemap"


class WorkerKind(StrEnum):
    """The two kinds of worker; the value is the prefix of its account."""

    NODE = "node"
    ROUTER = "router"

    @property
    def topic(self) -> str:
        """The topic, with its cluster, whose partitions a worker of this kind works."""
        return LANES if self is WorkerKind.NODE else RAW

    @property
    def group(self) -> str:
        """The consumer group whose offsets this kind commits (PROTOCOL 1)."""
        return f"geolane-{self.value}"


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
    def kind(self) -> WorkerKind:
        return WorkerKind.NODE if self.topic == LANES else WorkerKind.ROUTER

    @property
    def label(self) -> str:
        """For people: `lane 12`, `raw 3`."""
        return f"lane {self.n}" if self.topic == LANES else f"raw {self.n}"

    @classmethod
    def of_key(cls, key: str) -> Partition:
        topic, _, n = key.rpartition("/")
        return cls(topic, int(n))


def short_name(worker: str) -> str:
    """A worker's account name without its kind, as people see it: `iad-1` for `node-iad-1`; empty
    for an empty name."""
    return worker.partition("-")[2]


@dataclass(frozen=True, slots=True)
class Site:
    """A place that has nodes. `lat`, `lon`: degrees. `region`: a row of the RTT table. `country`:
    ISO 3166 code, empty if not given. `egress_ms`: the cost of its way out, in addition to the
    RTT."""

    name: str
    lat: float
    lon: float
    region: str
    country: str = ""
    egress_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """A worker as the inventory describes it. `worker`: its account's name, `node-iad-1` or
    `router-1`."""

    worker: str
    kind: WorkerKind
    site: str
    capacity_eps: float

    @property
    def name(self) -> str:
        """Without the prefix: `iad-1`."""
        return short_name(self.worker)


ASIDE = "aside: "
"""Begins the fault of a lane that is held up: its worker processes the records aside, because they
take long."""
