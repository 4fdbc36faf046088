"""What is known of workers and partitions: what is *written* (placement, leases) and what is *seen*
(presence, telemetry, answers).

Nothing here decides. Written state changes only by `written`; seen state only by what a worker
said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from agents.base.errors import ImpossibleTransition
from agents.core.fleet.handover import Tenancy, tenancy
from agents.core.model.inventory import Inventory
from agents.core.model.messages import (
    Accelerator,
    Announcement,
    AssignCommand,
    Health,
    Telemetry,
    WorkerCommand,
)
from agents.core.model.placement import (
    FOLLOW,
    UNTUNED,
    Intent,
    Lease,
    Placed,
    State,
    Tuning,
    drain_intent,
)
from agents.core.model.topology import Partition, WorkerKind, WorkerSpec


@dataclass(slots=True)
class View:
    """One worker as it is seen. Times are the coordinator's monotonic seconds; a boot that is empty
    was never heard."""

    spec: WorkerSpec
    boot: str = ""
    present: bool = False
    health: Health = Health.UNAVAILABLE
    status: str = ""
    capacity_eps: float = 0.0
    said_eps: float = 0.0
    heard_at: float = 0.0
    left_at: float | None = None
    pinged_at: float | None = None
    telemetry: Telemetry | None = None
    owned: dict[Partition, int] = field(default_factory=dict)
    said: dict[Partition, int] = field(default_factory=dict)
    lacking: Counter[Partition] = field(default_factory=Counter)
    leased: tuple[int, int] | None = None
    fencing: bool = False
    fenced_said_at: float = float("-inf")
    state: str = ""
    inflight: dict[type[object], WorkerCommand] = field(default_factory=dict)
    tries: Counter[Partition] = field(default_factory=Counter)
    retry_at: float = 0.0
    refusals: int = 0
    dead: set[str] = field(default_factory=set)

    def unsay(self, command: AssignCommand) -> None:
        """It did not get through: what it granted is to be said again."""
        for g in command.lanes:
            self.said.pop(Partition(command.topic, g.n), None)

    def forget_session(self) -> None:
        """The boot is over: what it had said no longer counts."""
        self.owned.clear()
        self.said.clear()
        self.lacking.clear()
        self.inflight.clear()
        self.tries.clear()
        self.leased = None
        self.telemetry = None
        self.pinged_at = None
        self.refusals = 0


@dataclass(slots=True)
class Fleet:
    """The whole of it. `version` grows with every change of membership or placement (not with
    telemetry); `writing` counts the writes under way per partition: while there is one, no other
    step is begun. `held`: partitions that nobody is to be given for now. `committed`: the last
    committed offsets that were seen. `devices`: the coordinator's own accelerators. `leaving`: who
    is not in the inventory's file any more, and still has something to give away."""

    inventory: Inventory
    leader_epoch: int = 0
    partitions: dict[Partition, Placed] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    intents: dict[str, Intent] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    tuning: Tuning = UNTUNED
    writing: Counter[Partition] = field(default_factory=Counter)
    held: set[Partition] = field(default_factory=set)
    committed: dict[Partition, int] = field(default_factory=dict)
    version: int = 0
    devices: tuple[Accelerator, ...] = ()
    leaving: set[str] = field(default_factory=set)
    _sorted: dict[WorkerKind, list[Partition]] = field(default_factory=dict)
    _sorted_count: int = -1

    def __post_init__(self) -> None:
        self.belongs(())

    # ---- who belongs to it ----

    def belongs(self, leaving: Iterable[str]) -> None:
        """The inventory is another one: everybody in it is seen from now on, for what it says they
        are. `leaving`: who is in it only until they have given away what they have."""
        for spec in self.inventory.workers.values():
            view = self.views.setdefault(spec.worker, View(spec))
            view.spec = spec
            view.capacity_eps = min(view.said_eps or spec.capacity_eps, spec.capacity_eps)
        self.leaving = set(leaving)
        self.version += 1

    def forget(self, worker: str) -> None:
        """It has left, and has nothing."""
        self.leaving.discard(worker)
        del self.views[worker]
        others = {name: spec for name, spec in self.inventory.workers.items() if name != worker}
        self.inventory = msgspec.structs.replace(self.inventory, workers=others)
        self.version += 1

    # ---- what is written ----

    def expect(self, partitions: Iterable[Partition]) -> None:
        """Partitions that exist; those without a record are new: orphans that start at 0 (PROTOCOL
        2.7)."""
        for p in partitions:
            self.partitions.setdefault(
                p, Placed("", "", 0, self.leader_epoch, State.ORPHAN, 0, 0, "new")
            )

    def begin_write(self, partitions: Iterable[Partition]) -> None:
        self.writing.update(list(partitions))

    def written(
        self,
        partitions: Mapping[Partition, Placed],
        leases: Mapping[str, Lease],
        intents: Mapping[str, Intent | None],
        tuning: Tuning | None = None,
    ) -> None:
        """These records are committed. Raises ImpossibleTransition if an epoch would go back."""
        for p, placed in partitions.items():
            before = self.partitions.get(p)
            if before is not None and placed.epoch < before.epoch:
                raise ImpossibleTransition(
                    f"{p.key}: epoch {before.epoch} would become {placed.epoch}: {before} -> "
                    f"{placed}"
                )
            self.partitions[p] = placed
            self.writing[p] -= 1
            if self.writing[p] <= 0:
                del self.writing[p]
        for worker, lease in leases.items():
            self.leases[worker] = lease
            view = self.views.get(worker)
            if view is not None:
                view.fencing = False
                if lease.fenced:
                    view.dead.add(lease.boot)
        for name, intent in intents.items():
            if intent is None:
                self.intents.pop(name, None)
            else:
                self.intents[name] = intent
        self.tuning = tuning or self.tuning
        if partitions or leases or tuning or not all(name.startswith(FOLLOW) for name in intents):
            self.version += 1  # who follows what concerns nobody else

    def owned_by(self, worker: str) -> list[Partition]:
        """The partitions that are written as this worker's, releasing ones too."""
        return sorted(
            p
            for p, s in self.partitions.items()
            if s.worker == worker and s.state is not State.ORPHAN
        )

    def of(self, kind: WorkerKind) -> list[Partition]:
        if len(self.partitions) != self._sorted_count:  # partitions come, and never go
            self._sorted_count = len(self.partitions)
            self._sorted = {
                k: sorted(p for p in self.partitions if p.kind is k) for k in WorkerKind
            }
        return list(self._sorted[kind])

    def orphans(self, kind: WorkerKind) -> list[Partition]:
        """Orphans that may be given to somebody: no write is under way, nothing holds them."""
        free = (p for p in self.of(kind) if not self.writing[p] and p not in self.held)
        return [p for p in free if self.partitions[p].state is State.ORPHAN]

    def worked_to(self, p: Partition) -> int:
        """At least so far was it worked: what its record says, or what was seen to be committed
        since."""
        return max(self.partitions[p].offset, self.committed.get(p, 0))

    # ---- what is seen ----

    def announced(self, said: Announcement, now: float) -> bool:
        """A worker's presence other than `unavailable`. True if membership changed."""
        view = self.views[said.worker]
        changed = self.heard_boot(view, said.boot, now)
        changed |= view.health is not said.health
        view.health, view.state, view.status = said.health, said.state, said.status
        view.said_eps = said.capacity_eps
        view.capacity_eps = min(said.capacity_eps or view.spec.capacity_eps, view.spec.capacity_eps)
        if changed:
            self.version += 1
        return changed

    def heard_boot(self, view: View, boot: str, now: float) -> bool:
        """Something came from this boot. True if it is another one than before, or one that was
        away."""
        if boot in view.dead and boot != view.boot:
            return False
        view.heard_at = now
        fresh = boot != view.boot or not view.present
        if boot != view.boot:
            if view.boot:
                view.dead.add(view.boot)
            view.forget_session()
            view.boot = boot
        view.present, view.left_at = True, None
        return fresh

    def reported(self, worker: str, t: Telemetry, now: float) -> bool:
        """Telemetry. False if it is old news of this boot, or of a boot that we do not see:
        presence comes first in every session, and an item that was on its way when its publisher
        went is no sign of life."""
        view = self.views[worker]
        if not view.present or t.boot != view.boot:
            return False
        if view.telemetry is not None and t.seq <= view.telemetry.seq:
            return False
        view.heard_at = now
        view.telemetry = t
        view.owned = {Partition(lane.topic, lane.n): lane.epoch for lane in t.lanes}
        for p in self.owned_by(worker):
            if (
                self.partitions[p].state is State.ASSIGNED
                and view.owned.get(p) != self.partitions[p].epoch
            ):
                view.lacking[p] += 1
            else:
                view.lacking.pop(p, None)
        return True

    def left(self, worker: str, now: float) -> bool:
        """Its session is gone. True if it was there."""
        view = self.views[worker]
        was = view.present
        view.present, view.health = False, Health.UNAVAILABLE
        if was:
            view.left_at = now
            self.version += 1
        return was

    def lost_sight(self) -> None:
        """We are the ones who are away: nobody is present, nobody has left."""
        for view in self.views.values():
            view.present, view.left_at, view.pinged_at, view.health = (
                False,
                None,
                None,
                Health.UNAVAILABLE,
            )
            view.inflight.clear()

    def usable(self, worker: str) -> bool:
        """May be given partitions as far as leases go: present, its lease live, for this boot and
        taken, no fence under way."""
        view, lease = self.views.get(worker), self.leases.get(worker)
        return (
            view is not None
            and view.present
            and not view.fencing
            and tenancy(lease) is Tenancy.LIVE
            and lease is not None
            and lease.boot == view.boot
            and view.leased == lease.producer
        )

    def drained(self, worker: str) -> bool:
        """An operator keeps it empty, it drains itself, or it is not in the inventory any more."""
        return (
            worker in self.leaving
            or drain_intent(worker) in self.intents
            or self.views[worker].state == "draining"
        )

    def takes(self, worker: str) -> bool:
        """May be given partitions now (DESIGN 4: `available` takes lanes)."""
        return (
            self.usable(worker)
            and self.views[worker].health is Health.AVAILABLE
            and not self.drained(worker)
        )

    def to_empty(self, worker: str) -> bool:
        """What it has is to be moved away: drained, or unhealthy."""
        return self.drained(worker) or self.views[worker].health is Health.XA

    def validate(self) -> None:
        """Raise ImpossibleTransition if what is known contradicts itself."""
        if (
            self.views.keys() != self.inventory.workers.keys()
            or not self.leaving <= self.views.keys()
        ):
            odd = sorted(
                self.views.keys() ^ self.inventory.workers.keys()
                | (self.leaving - self.views.keys())
            )
            raise ImpossibleTransition(f"seen and in the inventory are not the same workers: {odd}")
        for p, s in self.partitions.items():
            if s.state is not State.ORPHAN:
                lease = self.leases.get(s.worker)
                if lease is None:
                    raise ImpossibleTransition(
                        f"{p.key} is {s.state} to {s.worker}, which has no lease: {s}"
                    )
                if s.boot == lease.boot and lease.fenced:
                    raise ImpossibleTransition(
                        f"{p.key} is {s.state} to the fenced boot {s.boot} of {s.worker}: {s}"
                    )
                if s.boot != lease.boot:
                    raise ImpossibleTransition(
                        f"{p.key} is {s.state} to {s.worker}'s boot {s.boot}, its lease is for "
                        f"{lease.boot}"
                    )
                if s.worker in self.views and self.views[s.worker].spec.kind is not p.kind:
                    raise ImpossibleTransition(
                        f"{p.key} is {s.state} to {s.worker}, a worker of another kind"
                    )
            if s.epoch < 0 or s.offset < 0:
                raise ImpossibleTransition(f"{p.key}: negative epoch or offset: {s}")
