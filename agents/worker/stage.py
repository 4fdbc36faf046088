"""The one place where node and router differ: what becomes of a batch (DESIGN 2). A stage is synchronous, runs off the
event loop before the transaction begins, and may be run again on the same records (PROTOCOL 3.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from agents.core.model import (
    TOPIC_CLEAN,
    TOPIC_DEAD,
    TOPIC_LANES,
    TOPIC_RAW,
    TOPIC_UNPLACED,
    Kind,
)
from agents.worker.outbox import Outbox

Inputs = Sequence[Any]
"""aiokafka ConsumerRecords of one partition, in order (Any: aiokafka has no types)."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Kafka's names of the topics and consumer groups (PROTOCOL 1); others only where tests share a broker."""

    raw: str = TOPIC_RAW
    lanes: str = TOPIC_LANES
    clean: str = TOPIC_CLEAN
    unplaced: str = TOPIC_UNPLACED
    dead: str = TOPIC_DEAD
    node_group: str = Kind.NODE.group
    router_group: str = Kind.ROUTER.group


@dataclass(slots=True)
class Tally:
    """What became of one partition's records, by input: `out` yielded at least one output, `filtered` none, `dead` a
    dead letter. `raw_ms`: a sample of when they were appended to raw (epoch ms). `arrivals`: records by output lane
    (routers). `fault`: the partition must stop, nothing of this part may be sent, and why. `later`: it takes long, and is
    to be worked aside; nothing is known yet."""

    out: int = 0
    filtered: int = 0
    dead: int = 0
    raw_ms: list[int] = field(default_factory=list)
    arrivals: Counter[int] = field(default_factory=Counter)
    fault: str = ""
    later: Later | None = None


class Later(Protocol):
    """One partition's records that take long. `run` is called once, in a thread; the others from anywhere."""

    def run(self, out: Outbox) -> Tally | None:
        """The rest of the work; None when it was cancelled."""

    def park(self) -> None:
        """`run` comes a while later: hold nothing that costs (it may block)."""

    def cancel(self) -> None:
        """Nobody wants the outcome any more (it may block)."""

    def trouble(self) -> str:
        """What people are to be told of it; empty where it is only slow."""


class Stage(Protocol):
    """What the engine asks of a node or a router."""

    @property
    def topic(self) -> str:
        """The topic, with its cluster, whose partitions are worked: `main/events.lanes`."""

    @property
    def group(self) -> str:
        """The consumer group whose offsets are committed."""

    @property
    def code(self) -> str:
        """Whose code does the work, where that is the user's: MODULE:FUNCTION@VERSION."""

    @property
    def lost(self) -> int:
        """How many of its processes were lost: they ended, or took too long."""

    @property
    def pids(self) -> Sequence[int]:
        """Other processes that the work is done in."""

    def work(self, got: Mapping[int, Inputs], out: Outbox) -> list[tuple[int, Tally]]:
        """Turn records, by partition, into outputs. Of a partition whose tally has a fault, or says later, nothing was
        added to `out`."""

    def forget(self, n: int) -> None:
        """Partition `n` starts anew: whatever was remembered of it is void."""


SAMPLES = 32


def sample(records: Inputs) -> Inputs:
    """At most 32 of them, evenly spread: enough for the latencies."""
    return records[:: len(records) // SAMPLES + 1]
