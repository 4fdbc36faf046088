"""All that is known about workers and partitions: what is *written* (placement, leases) and what is
*seen* (presence, telemetry, answers).

Nothing is decided here. Written state changes only by `Fleet.apply_records`, seen state only by
what workers send.

What follows from both is worked out once for each worker, as its `WorkerStatus`. It is never out of
date: every method of Fleet that changes a fact works out the status of the workers concerned before
it returns, other code changes these facts only by these methods, and `Fleet.validate` compares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from agents.base.errors import ImpossibleTransition
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
from agents.core.model.topology import CUT_OFF, PYTHON, Partition, WorkerKind, WorkerSpec


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What the facts about one worker mean for the hand-over.

    `lease_live`: its lease is live, as written. `holds_lease`: that lease is for its present boot.
    `confirmed`: its present boot has also confirmed it. `usable`: its lease allows it to own
    partitions, since it is also present and no fence of it is under way. `drained`: an operator
    drains it, it drains itself, or the inventory file no longer names it. `takes`: it may be given
    partitions now (PROTOCOL 4: `available` takes lanes). `to_empty`: its partitions must be moved
    away, since it is drained or unhealthy. `capacity_eps`: events/s that it may process: as many as
    the inventory says, or its own ceiling if that is lower."""

    lease_live: bool
    holds_lease: bool
    confirmed: bool
    usable: bool
    drained: bool
    takes: bool
    to_empty: bool
    capacity_eps: float


class _Statuses(dict[str, WorkerStatus]):
    """By worker. One that is not in the fleet has no rights, and nothing to be emptied of."""

    def __missing__(self, worker: str) -> WorkerStatus:
        return WorkerStatus(False, False, False, False, False, False, False, 0.0)


@dataclass(slots=True)
class View:
    """One worker as it is seen. Times are the coordinator's monotonic seconds.

    `boot`: empty until the worker is heard. `owned`: partitions that it says it works, with their
    epochs. `said`: epochs that it was told of. `lacking`: in how many telemetry items in a row an
    assigned partition was missing. `leased`: the producer id and epoch whose lease it confirmed.
    `fencing`: its lease is being made anew. `inflight`: by type, the command that it has not
    answered yet. `cut_at`: since when it says that it has no connection to Kafka. `tries`: releases
    that failed, by partition. `retry_at`: no command is sent before. `dead`: boots that are over or
    fenced. `engine`: of a router."""

    spec: WorkerSpec
    boot: str = ""
    present: bool = False
    health: Health = Health.UNAVAILABLE
    status: str = ""
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
    engine: str = PYTHON
    state: str = ""
    cut_at: float | None = None
    inflight: dict[type[object], WorkerCommand] = field(default_factory=dict)
    tries: Counter[Partition] = field(default_factory=Counter)
    retry_at: float = 0.0
    refusals: int = 0
    dead: set[str] = field(default_factory=set)

    @property
    def available(self) -> bool:
        """Whether it is here and takes partitions, by its own word."""
        return self.present and self.health is Health.AVAILABLE

    def mark_unsaid(self, command: AssignCommand) -> None:
        """The command did not get through: its partitions must be said again."""
        for g in command.lanes:
            self.said.pop(Partition(command.topic, g.n), None)

    def forget_session(self) -> None:
        """The boot is over: nothing that it said counts any more."""
        self.owned.clear()
        self.cut_at = None
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
    """The whole fleet.

    `version` grows with every change of membership or placement, not with telemetry. `statuses`: of
    each worker in `views`. `writing`: how many writes of each partition are under way; while there
    is one, no other step begins. `held`: partitions that must not be given to anybody for now.
    `router_engine`: that of our settings; whether Kafka Streams shares the raw partitions out.
    `committed`: the last committed offsets that were seen. `devices`: the coordinator's own
    accelerators. `leaving`: workers that the inventory file no longer names and that have not been
    forgotten yet."""

    inventory: Inventory
    leader_epoch: int = 0
    partitions: dict[Partition, Placed] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    intents: dict[str, Intent] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    statuses: _Statuses = field(default_factory=_Statuses)
    tuning: Tuning = UNTUNED
    writing: Counter[Partition] = field(default_factory=Counter)
    held: set[Partition] = field(default_factory=set)
    committed: dict[Partition, int] = field(default_factory=dict)
    version: int = 0
    devices: tuple[Accelerator, ...] = ()
    leaving: set[str] = field(default_factory=set)
    router_engine: str = PYTHON
    _sorted: dict[str, list[Partition]] = field(default_factory=dict)
    _sorted_count: int = -1

    def __post_init__(self) -> None:
        self.adopt_workers(())

    # ---- members ----

    def adopt_workers(self, leaving: Iterable[str]) -> None:
        """Adopt the workers of a new inventory, as it describes them. `leaving`: those that are in
        it only until they have handed over their partitions.

        The partitions of an optional kind exist while it has a worker. Afterwards only their
        records remain, for the case that such a worker is added again."""
        for spec in self.inventory.workers.values():
            view = self.views.setdefault(spec.worker, View(spec))
            view.spec = spec
        self.leaving = set(leaving)
        self.expect_partitions(
            kind.partition(n)
            for kind in self.inventory.kinds_in_use()
            if kind.optional
            for n in range(kind.least_partitions)
        )
        self._update_statuses(self.views)
        self.version += 1

    def forget_worker(self, worker: str) -> None:
        """The worker has left, and owns nothing."""
        self.leaving.discard(worker)
        del self.views[worker], self.statuses[worker]
        others = {name: spec for name, spec in self.inventory.workers.items() if name != worker}
        self.inventory = msgspec.structs.replace(self.inventory, workers=others)
        self.version += 1

    # ---- what is written ----

    def expect_partitions(self, partitions: Iterable[Partition]) -> None:
        """These partitions exist. One without a record is new: an orphan that starts at offset 0
        (PROTOCOL 2.7)."""
        for p in partitions:
            self.partitions.setdefault(
                p, Placed("", "", 0, self.leader_epoch, State.ORPHAN, 0, 0, "new")
            )

    def begin_write(self, partitions: Iterable[Partition]) -> None:
        """A write of these is on its way; `apply_records` ends it."""
        self.writing.update(list(partitions))

    def apply_records(
        self,
        partitions: Mapping[Partition, Placed],
        leases: Mapping[str, Lease],
        intents: Mapping[str, Intent | None],
        tuning: Tuning | None = None,
    ) -> None:
        """These records are committed. Raises ImpossibleTransition if an epoch would decrease."""
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
        self._update_statuses(self.views if intents else leases)
        self.tuning = tuning or self.tuning
        if partitions or leases or tuning or not all(name.startswith(FOLLOW) for name in intents):
            self.version += 1  # a person's subscription changes nothing for the fleet

    def begin_fence(self, worker: str, ended: str = "") -> None:
        """The worker's lease is being made anew; until `apply_records` or `end_fence`, it is
        given and told nothing. `ended`: the boot that is over with this."""
        view = self.views[worker]
        view.fencing = True
        if ended:
            view.dead.add(ended)
        self._update_statuses((worker,))

    def end_fence(self, worker: str) -> None:
        """No lease was made, or none that changes what is written."""
        if worker in self.views:
            self.views[worker].fencing = False
            self._update_statuses((worker,))

    def owned_by(self, worker: str) -> list[Partition]:
        """The partitions that are written as this worker's, including those being released."""
        return sorted(
            p
            for p, s in self.partitions.items()
            if s.worker == worker and s.state is not State.ORPHAN
        )

    def partitions_of(self, kind: WorkerKind) -> list[Partition]:
        """The partitions that workers of this kind work, in order."""
        if len(self.partitions) != self._sorted_count:  # partitions are added, never removed
            self._sorted_count = len(self.partitions)
            self._sorted = {}
            for p in sorted(self.partitions):
                self._sorted.setdefault(p.topic, []).append(p)
        return list(self._sorted.get(kind.topic, ()))

    def placeable_orphans(self, kind: WorkerKind) -> list[Partition]:
        """Orphans that may be placed: we share them out, no write of them is under way, and they
        are not `held`."""
        if not self.shares_out(kind):
            return []
        free = (p for p in self.partitions_of(kind) if not self.writing[p] and p not in self.held)
        return [p for p in free if self.partitions[p].state is State.ORPHAN]

    def shares_out(self, kind: WorkerKind) -> bool:
        """Whether we give the partitions of this kind to workers. Not those that Kafka Streams
        shares out, or may still work."""
        return kind != WorkerKind.ROUTER or (
            self.router_engine == PYTHON and not self.is_streams_live()
        )

    def is_streams_live(self) -> bool:
        """Whether Kafka Streams may work raw partitions: a router has a lease for it that is not
        fenced."""
        return any(x.engine != PYTHON and not x.fenced for x in self.leases.values())

    def may_lease(self, view: View) -> bool:
        """Whether its present boot may have a lease. A router on Kafka Streams works with that
        alone, so it gets none while it is drained, while a raw partition has an owner, or while the
        offset of one is being set."""
        if view.spec.kind != WorkerKind.ROUTER or view.engine == self.router_engine == PYTHON:
            return True
        return (
            view.engine == self.router_engine
            and not self.statuses[view.spec.worker].drained
            and all(
                self.partitions[p].state is State.ORPHAN
                and not self.writing[p]
                and p not in self.held
                for p in self.partitions_of(WorkerKind.ROUTER)
            )
        )

    def worked_by_streams(self, view: View) -> list[Partition]:
        """The raw partitions that Kafka Streams has given to this router, as it reports them."""
        if view.engine == PYTHON or not view.present or view.telemetry is None:
            return []
        return sorted(Partition(lane.topic, lane.n) for lane in view.telemetry.lanes)

    def last_worked_offset(self, p: Partition) -> int:
        """The offset up to which the partition was worked at least: the record's, or a later one
        that was seen to be committed."""
        return max(self.partitions[p].offset, self.committed.get(p, 0))

    # ---- what is seen ----

    def note_presence(self, said: Announcement, now: float) -> bool:
        """Take a worker's presence other than `unavailable`. True if membership changed."""
        view = self.views[said.worker]
        changed = self._note_boot(view, said.boot, now)
        changed |= view.health is not said.health
        view.health, view.state, view.status = said.health, said.state, said.status
        view.said_eps = said.capacity_eps
        view.engine = said.engine or PYTHON
        self._update_statuses((said.worker,))
        if changed:
            self.version += 1
        return changed

    def _note_boot(self, view: View, boot: str, now: float) -> bool:
        """This boot has sent something. True if it is a new boot, or one that was away."""
        # A late stanza of an earlier boot must not replace the present one. If no other boot is
        # known, the dead one is taken as present: it may live, and must be told that it is fenced.
        if boot in view.dead and view.boot not in ("", boot):
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

    def note_telemetry(self, worker: str, t: Telemetry, now: float) -> bool:
        """Take telemetry. False if it is outdated, or of a boot that is not present: presence comes
        first in every session, and an item that was on its way when its publisher left is not a
        sign of life."""
        view = self.views[worker]
        if not view.present or t.boot != view.boot:
            return False
        if view.telemetry is not None and t.seq <= view.telemetry.seq:
            return False
        view.heard_at = now
        view.telemetry = t
        view.owned = {Partition(lane.topic, lane.n): lane.epoch for lane in t.lanes}
        if not any(lane.fault.startswith(CUT_OFF) for lane in t.lanes):
            view.cut_at = None
        elif view.cut_at is None:
            view.cut_at = now
        for p in self.owned_by(worker):
            if (
                self.partitions[p].state is State.ASSIGNED
                and view.owned.get(p) != self.partitions[p].epoch
            ):
                view.lacking[p] += 1
            else:
                view.lacking.pop(p, None)
        return True

    def note_lease_confirmed(self, worker: str, producer: tuple[int, int]) -> None:
        """The worker's present boot has confirmed the lease of this producer id and epoch."""
        self.views[worker].leased = producer
        self._update_statuses((worker,))
        self.version += 1

    def note_departure(self, worker: str, now: float) -> bool:
        """The worker's session is gone. True if it was present."""
        view = self.views[worker]
        was = view.present
        view.present, view.health = False, Health.UNAVAILABLE
        self._update_statuses((worker,))
        if was:
            view.left_at = now
            self.version += 1
        return was

    def note_link_lost(self) -> None:
        """Our own link is gone: no worker counts as present, and none as having left."""
        for view in self.views.values():
            view.present, view.left_at, view.pinged_at, view.health = (
                False,
                None,
                None,
                Health.UNAVAILABLE,
            )
            view.inflight.clear()
        self._update_statuses(self.views)

    # ---- what follows from both ----

    def _update_statuses(self, workers: Iterable[str]) -> None:
        self.statuses |= self._compute_statuses(w for w in workers if w in self.views)

    def _compute_statuses(self, workers: Iterable[str]) -> dict[str, WorkerStatus]:
        """The statuses of these workers, from the facts."""
        out = {}
        for worker in workers:
            view, lease = self.views[worker], self.leases.get(worker)
            most_eps = view.spec.capacity_eps
            live = lease is not None and not lease.fenced
            holds = live and lease is not None and lease.boot == view.boot
            confirmed = holds and lease is not None and lease.producer == view.leased
            usable = confirmed and view.present and not view.fencing
            drained = (
                worker in self.leaving
                or view.state == "draining"
                or drain_intent(worker) in self.intents
            )
            out[worker] = WorkerStatus(
                lease_live=live,
                holds_lease=holds,
                confirmed=confirmed,
                usable=usable,
                drained=drained,
                takes=usable and not drained and view.health is Health.AVAILABLE,
                to_empty=drained or view.health is Health.XA,
                capacity_eps=min(view.said_eps or most_eps, most_eps),
            )
        return out

    def validate(self) -> None:
        """Raises ImpossibleTransition if the state contradicts itself."""
        if (
            self.views.keys() != self.inventory.workers.keys()
            or not self.leaving <= self.views.keys()
        ):
            odd = sorted(
                self.views.keys() ^ self.inventory.workers.keys()
                | (self.leaving - self.views.keys())
            )
            raise ImpossibleTransition(f"seen and in the inventory are not the same workers: {odd}")
        if self.statuses != (statuses := self._compute_statuses(self.views)):
            odd = sorted(w for w, x in statuses.items() if self.statuses[w] != x)
            raise ImpossibleTransition(f"the status of these workers is out of date: {odd}")
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
                if s.worker in self.views and not self.views[s.worker].spec.kind.works(p):
                    raise ImpossibleTransition(
                        f"{p.key} is {s.state} to {s.worker}, a worker of another kind"
                    )
            if s.epoch < 0 or s.offset < 0:
                raise ImpossibleTransition(f"{p.key}: negative epoch or offset: {s}")
