"""The records of the topic `placement`, as frozen values, with their keys and JSON (PROTOCOL 1):
who owns which partition, who has a lease, and what operators want to last."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeVar

import msgspec

from agents.base.errors import KafkaError
from agents.core.model.topology import KINDS, MAIN, PYTHON, Partition


class State(StrEnum):
    """The written state of a partition."""

    ASSIGNED = "assigned"
    RELEASING = "releasing"
    ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class Placed:
    """A partition's record. `worker`, `boot`: the owner; for an orphan the last one, empty if it
    never had one or the owner released it. `offset`: the lowest offset at which a new owner may
    start, as the last release or fence showed it. `since_ms`: when it was written (epoch ms)."""

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
    """A worker's record: the producer id and epoch that the coordinator made for one boot.
    `fenced`: that boot is dead. `engine`: of a router, which of its engines has it.

    In a cluster with transaction version 2, every commit gives the worker's producer the next
    epoch, and in time another id. Only Kafka knows those; the record keeps what was made."""

    boot: str
    transactional_id: str
    producer_id: int
    producer_epoch: int
    leader_epoch: int
    fenced: bool = False
    engine: str = PYTHON

    @property
    def producer(self) -> tuple[int, int]:
        """The producer id and epoch. The epoch alone identifies nothing: it starts at 0 with every
        new id."""
        return self.producer_id, self.producer_epoch


@dataclass(frozen=True, slots=True)
class Leader:
    """The record `leader`. `starts`: when this leader and those before it began (epoch ms), the
    newest last."""

    leader_epoch: int
    boot: str
    starts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Intent:
    """Something that a person wants to last, such as a drained worker or a paused planner. It is
    written beside the partitions, so that it outlives workers and coordinators; deleting the record
    takes it back. `by`: the person's bare JID."""

    by: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Tuned:
    """A value that an operator has set in place of the settings'."""

    value: int | float
    by: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Tuning:
    """The record `tuning`: values that replace the settings', by the setting's name. `version`
    grows by one with each change that concerns workers, at `since_ms`; workers acknowledge it in
    their telemetry."""

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
    """The name of the intent by which `jid` (bare) follows `feed`."""
    return f"{FOLLOW}{feed}/{jid}"


LEADER_KEY = "leader"
TUNING_KEY = f"{MAIN}/tuning"
EPOCHS_AHEAD = 1_000_000
"""A leader that cannot know the last leader epoch adds this to the highest epoch that it finds."""
_LEASE_PREFIX = f"{MAIN}/lease/"
_INTENT_PREFIX = f"{MAIN}/intent/"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PlacementTable:
    """The whole topic: the latest value of each key."""

    leader: Leader | None = None
    leases: Mapping[str, Lease] = field(default_factory=dict)
    placed: Mapping[Partition, Placed] = field(default_factory=dict)
    intents: Mapping[str, Intent] = field(default_factory=dict)
    tuning: Tuning = UNTUNED


def lease_key(worker: str) -> str:
    """The key of a worker's lease; `worker` is its account's name: `node-iad-1`."""
    return _LEASE_PREFIX + worker


def worker_from_lease_key(key: str) -> str | None:
    """The worker whose lease the key names; None if it is not a lease's key."""
    return key.removeprefix(_LEASE_PREFIX) if key.startswith(_LEASE_PREFIX) else None


def intent_key(name: str) -> str:
    """The key of an intent; `name` is `pause` or `drain/node-iad-1`."""
    return _INTENT_PREFIX + name


def intent_from_key(key: str) -> str | None:
    """The intent that the key names; None if it is not an intent's key."""
    return key.removeprefix(_INTENT_PREFIX) if key.startswith(_INTENT_PREFIX) else None


def encode_intent(intent: Intent) -> bytes:
    return msgspec.json.encode(intent)


def decode_intent(value: bytes) -> Intent:
    """Raises KafkaError when the value is not an intent."""
    return _decode_json(value, Intent)


def encode_tuning(tuning: Tuning) -> bytes:
    return msgspec.json.encode(tuning)


def decode_tuning(value: bytes) -> Tuning:
    """Raises KafkaError when the value is not the record of tuning."""
    return _decode_json(value, Tuning)


def encode_placed(placed: Placed) -> bytes:
    return msgspec.json.encode(placed)


def encode_lease(lease: Lease) -> bytes:
    return msgspec.json.encode(lease)


def encode_leader(leader: Leader) -> bytes:
    return msgspec.json.encode(leader)


def decode_placed(value: bytes) -> Placed:
    """Raises KafkaError when the value is not a partition's record. Unknown fields are ignored."""
    return _decode_json(value, Placed)


def decode_lease(value: bytes) -> Lease:
    """Raises KafkaError when the value is not a lease."""
    return _decode_json(value, Lease)


def decode_leader(value: bytes) -> Leader:
    """Raises KafkaError when the value is not the leader's record."""
    return _decode_json(value, Leader)


def table_from_records(table: Mapping[str, bytes]) -> PlacementTable:
    """The raw records of `PlacementLog.take_leadership` or `read_placement` as values.

    Raises KafkaError for a key or value that is not ours: a coordinator must not guess the owner of
    a partition."""
    leader: Leader | None = None
    leases: dict[str, Lease] = {}
    placed: dict[Partition, Placed] = {}
    intents: dict[str, Intent] = {}
    tuning = UNTUNED
    for key, value in table.items():
        try:
            if key == LEADER_KEY:
                leader = decode_leader(value)
            elif key == TUNING_KEY:
                tuning = decode_tuning(value)
            elif (worker := worker_from_lease_key(key)) is not None:
                leases[worker] = decode_lease(value)
            elif (name := intent_from_key(key)) is not None:
                intents[name] = decode_intent(value)
            else:
                placed[Partition.of_key(key)] = decode_placed(value)
        except (KafkaError, ValueError) as e:
            raise KafkaError(
                f"topic placement, key {key!r}: {e}; was it written by another program or version?"
            ) from e
    return PlacementTable(leader, leases, placed, intents, tuning)


def is_valid_record(key: bytes, value: bytes | None) -> bool:
    """Whether a coordinator can have written this record; others with the right to write to the
    topic may have written anything. Only an intent may be deleted (None)."""
    try:
        text = key.decode()
        if value is None:
            return intent_from_key(text) is not None
        table_from_records({text: value})
    except (KafkaError, UnicodeDecodeError):
        return False
    return True


def assume_after_loss(written: PlacementTable, lost: Collection[str]) -> PlacementTable:
    """What may be assumed if the newest records of the keys `lost` are not a coordinator's and no
    earlier ones are left. The owners of those partitions are unknown, so no worker may own any: all
    leases count as fenced (the caller must fence them before acting on this), all partitions as
    orphans, and the leader epoch is above any that a worker can have seen."""
    ours = [
        key
        for key in lost
        if key == LEADER_KEY or worker_from_lease_key(key) is not None or _is_partition_key(key)
    ]
    if not ours:
        return written
    seen = [x.leader_epoch for x in written.placed.values()]
    seen += [x.leader_epoch for x in written.leases.values()]
    leader = written.leader or Leader(max(seen, default=0) + EPOCHS_AHEAD, "")
    if ours == [LEADER_KEY]:
        return replace(written, leader=leader)
    leases = {worker: replace(lease, fenced=True) for worker, lease in written.leases.items()}
    placed = {p: replace(at, state=State.ORPHAN) for p, at in written.placed.items()}
    return replace(written, leader=leader, leases=leases, placed=placed)


def _is_partition_key(key: str) -> bool:
    try:
        return Partition.of_key(key).topic in {kind.topic for kind in KINDS}
    except ValueError:
        return False


def _decode_json(value: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(value, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise KafkaError(f"not a {kind.__name__}: {e}") from e
