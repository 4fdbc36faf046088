"""Names of what the fleet consists of: cluster, topics, partitions, worker kinds, sites."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

MAIN = "main"
"""The cluster that every topic is in today. Keys and commands name it, so that a cluster per region
can come without a new format."""
TOPIC_RAW, TOPIC_LANES, TOPIC_CLEAN = "events.raw", "events.lanes", "events.clean"
TOPIC_UNPLACED, TOPIC_DEAD = "events.unplaced", "events.dead"
TOPIC_REPLAYED = "events.dead.replayed"
TOPIC_PLACEMENT, TOPIC_LANEMAP = "placement", "lanemap"
TOPIC_HOTSPOTS, TOPIC_RISES = "hotspots", "hotspots.rises"
TOPIC_HOTSPOT_STATE = "hotspots.state"
TOPICS_OF_ANALYTICS = (TOPIC_HOTSPOTS, TOPIC_RISES, TOPIC_HOTSPOT_STATE)
TOPIC_GEO_CONTEXT = "geo.context"

PYTHON, KAFKA_STREAMS = "python", "kafka-streams"
"""The engines of routers. With the second, Kafka Streams shares the raw partitions out among the
routers; the coordinator gives those leases and no partitions."""


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One partition of one topic of one cluster: `main/events.lanes` and 12. Which kind of worker
    works it is the kind's to say (`WorkerKind.works`)."""

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
    def unit(self) -> str:
        """What people call a partition of its topic: `lane`, `raw`, or else the topic's name."""
        return _UNITS.get(self.topic, self.kafka_topic)

    @property
    def label(self) -> str:
        """For people: `lane 12`, `raw 3`; without its number if its kind has only this one."""
        return self.unit if self.topic in _ALONE else f"{self.unit} {self.n}"

    @classmethod
    def of_key(cls, key: str) -> Partition:
        topic, _, n = key.rpartition("/")
        return cls(topic, int(n))


@dataclass(frozen=True, slots=True)
class WorkerKind:
    """A kind of worker. `name`: the prefix of its accounts. `topic`: with its cluster, the topic
    whose partitions it works; no other kind works them. `planned`: whether the planner chooses the
    worker of each partition; otherwise they are spread evenly. `optional`: a fleet may have no
    worker of this kind, and then has none of its partitions either. `tasks`: above 0 for a kind
    whose partitions are not logs to be consumed. There are that many. Each stands for a task, and
    its committed offset is a count that only grows."""

    name: str
    topic: str
    planned: bool = False
    optional: bool = False
    tasks: int = 0

    NODE: ClassVar[WorkerKind]
    ROUTER: ClassVar[WorkerKind]
    ANALYTICS: ClassVar[WorkerKind]
    GEO: ClassVar[WorkerKind]

    @property
    def group(self) -> str:
        """The consumer group whose offsets this kind commits (PROTOCOL 1)."""
        return f"geolane-{self.name}"

    @property
    def kafka_topic(self) -> str:
        return self.topic.partition("/")[2]

    @property
    def partitions_word(self) -> str:
        """What people call its partitions."""
        return "partitions" if self.optional else "lanes"

    def partition(self, n: int) -> Partition:
        return Partition(self.topic, n)

    @property
    def least_partitions(self) -> int:
        """How many partitions an optional kind has at least, once it has a worker."""
        return self.tasks or 1

    def works(self, p: Partition) -> bool:
        return p.topic == self.topic

    def account(self, name: str) -> str:
        """The account of this kind's worker of that name: `node-iad-1` for `iad-1`."""
        return f"{self.name}-{name}"

    def has_account(self, worker: str) -> bool:
        """Whether this account's name (`node-iad-1`) is one of this kind's."""
        return worker.startswith(f"{self.name}-")


WorkerKind.NODE = WorkerKind("node", f"{MAIN}/{TOPIC_LANES}", planned=True)
WorkerKind.ROUTER = WorkerKind("router", f"{MAIN}/{TOPIC_RAW}")
WorkerKind.ANALYTICS = WorkerKind("analytics", f"{MAIN}/{TOPIC_HOTSPOTS}", optional=True, tasks=1)
WorkerKind.GEO = WorkerKind("geo", f"{MAIN}/{TOPIC_UNPLACED}", optional=True)
KINDS = (WorkerKind.NODE, WorkerKind.ROUTER, WorkerKind.ANALYTICS, WorkerKind.GEO)
"""The kinds that this version has a program for."""
_ALONE = {kind.topic for kind in KINDS if kind.tasks == 1}
_UNITS = {
    WorkerKind.NODE.topic: "lane",
    WorkerKind.ROUTER.topic: "raw",
    WorkerKind.GEO.topic: "unplaced",
}
OPTIONAL_TOPICS = dict.fromkeys(TOPICS_OF_ANALYTICS, WorkerKind.ANALYTICS) | {
    TOPIC_GEO_CONTEXT: WorkerKind.GEO
}
"""Topics that need not exist in a fleet without a worker of this kind."""


def kind_from_name(name: str) -> WorkerKind:
    """The kind of this name. Raises KeyError."""
    return {kind.name: kind for kind in KINDS}[name]


def kind_from_account(account: str) -> WorkerKind | None:
    """The kind whose worker has this account (`node-iad-1`); None if no kind's has."""
    return next((kind for kind in KINDS if kind.has_account(account)), None)


def kind_of(p: Partition, kinds: Iterable[WorkerKind] = KINDS) -> WorkerKind:
    """The one of these kinds that works the partition. Raises KeyError if none does."""
    return {kind.topic: kind for kind in kinds}[p.topic]


def name_without_kind(worker: str) -> str:
    """The name that an account has among those of its kind: `iad-1` for `node-iad-1`, `1` for
    `router-1`; empty for an empty name."""
    return worker.partition("-")[2]


def short_name(worker: str) -> str:
    """A worker's account name as people see it: a node's without its kind (`iad-1`), any other in
    full (`router-1`)."""
    return worker.removeprefix(f"{WorkerKind.NODE.name}-")


@dataclass(frozen=True, slots=True)
class Site:
    """A place that has nodes. `lat`, `lon`: degrees. `region`: a row of the RTT table. `country`:
    ISO 3166 code, empty if not given. `egress_ms`: the cost of its way out, in addition to the
    RTT. `racks`: what Kafka's brokers there call their rack, if not the site or its region."""

    name: str
    lat: float
    lon: float
    region: str
    country: str = ""
    egress_ms: float = 0.0
    racks: tuple[str, ...] = ()


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
        return name_without_kind(self.worker)

    @property
    def label(self) -> str:
        """For people: a node's without its kind (`iad-1`), any other in full (`router-1`)."""
        return short_name(self.worker)


ASIDE = "aside: "
"""Begins the fault of a lane that is held up: its worker processes the records aside, because they
take long."""
CUT_OFF = "held: no connection to Kafka"
"""Begins the fault of every lane of a worker that has lost Kafka."""
