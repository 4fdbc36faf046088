"""A worker's side of the hand-over (PROTOCOL 2.1 and 2.5): it takes commands and returns effects.
The names are those of `obey` in the Spin model.

Each boot has one table: a partition is *owned* under an epoch and perhaps *asked* back. The highest
epoch that was ever released or dropped is remembered, so that a command that is repeated, delayed
or overtaken changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from agents.base.errors import CommandRefused, StaleEpoch
from agents.core.model.messages import (
    AssignCommand,
    DrainCommand,
    Grant,
    LanesCommand,
    LeaseCommand,
    ReleaseCommand,
    RestartCommand,
    ResumeCommand,
    WorkerAnswer,
    WorkerCommand,
)
from agents.core.model.topology import Partition

# ---- effects, for the engine ----


@dataclass(frozen=True, slots=True)
class TakeLease:
    """Start the producer under this lease, the only one that this boot ever gets."""

    lease: LeaseCommand


@dataclass(frozen=True, slots=True)
class Take:
    """Work `partition` under `epoch`, from the committed offset once it shows at least `offset`."""

    partition: Partition
    epoch: int
    offset: int


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Finish the batch, and call `note_released` once the committed offset shows."""

    partition: Partition
    epoch: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Stop taking new partitions (`on`), or take them again."""

    on: bool


@dataclass(frozen=True, slots=True)
class End:
    """The process must end: its lease is void."""

    why: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Hand all partitions over, then end; the process supervisor starts a new process."""


TenureEffect = TakeLease | Take | GiveBack | Drain | End | Leave


@dataclass(slots=True)
class _Own:
    """`epoch`: 0 if not owned. `rel`: the highest epoch released or dropped. `relo`: the offset of
    that release."""

    epoch: int = 0
    asked: bool = False
    rel: int = 0
    relo: int = 0


@dataclass(slots=True)
class Tenure:
    """One boot of one worker. `topic`: the topic whose partitions it works, `main/events.lanes`."""

    topic: str
    boot: str
    leader_epoch: int = 0
    lease: LeaseCommand | None = None
    draining: bool = False
    ended: str = ""
    _own: dict[int, _Own] = field(default_factory=dict)

    def obey(self, command: WorkerCommand) -> list[TenureEffect]:
        """Take a command. A repeated command has no effects.

        Raises StaleEpoch when the leader's epoch, or the epochs of all partitions named, are below
        those seen; CommandRefused for another boot (`gone`), another topic (`item-not-found`), an
        assign before the lease, or a release of an epoch above the owned one
        (`unexpected-request`). If only some partitions of a command are stale, they are left out:
        see `owned_epochs`."""
        self.accept_leader(command.boot, command.leader_epoch)
        match command:
            case LeaseCommand():
                return self._take_lease(command)
            case AssignCommand():
                return self._assign_partitions(command)
            case ReleaseCommand():
                return self._release_partitions(command)
            case DrainCommand():
                return self._set_draining(True)
            case ResumeCommand():
                return self._set_draining(False)
            case RestartCommand():
                return [Leave()]
            case LanesCommand():
                return []

    def accept_leader(self, boot: str, leader_epoch: int) -> None:
        """Check whom a command is for, and from which leader it is. Raises as `obey`."""
        # The boot first: a command for another boot must not raise our leader epoch.
        if boot != self.boot:
            raise CommandRefused("gone", f"this is boot {self.boot}, not {boot}")
        if leader_epoch < self.leader_epoch:
            raise StaleEpoch(self.leader_epoch)
        self.leader_epoch = leader_epoch

    def note_released(self, partition: Partition, offset: int) -> None:
        """The committed `offset` shows and no batch of `partition` is left, so it is no longer
        owned."""
        own = self._own[partition.n]
        own.rel, own.relo, own.epoch, own.asked = own.epoch, offset, 0, False

    def released_offset(self, n: int, epoch: int) -> int | None:
        """The offset at which partition `n` was released under `epoch`; None if it was not."""
        own = self._own.get(n)
        return own.relo if own is not None and own.rel == epoch and own.epoch == 0 else None

    def owned_epoch(self, n: int) -> int:
        """The epoch under which partition `n` is owned, 0 if it is not."""
        own = self._own.get(n)
        return own.epoch if own is not None else 0

    def is_asked_back(self, n: int) -> bool:
        """Whether partition `n` is owned and was asked back."""
        own = self._own.get(n)
        return own is not None and own.asked

    def owned_epochs(self) -> Iterator[tuple[int, int]]:
        """(partition, epoch) of every owned partition, asked back or not, in order."""
        return ((n, own.epoch) for n, own in sorted(self._own.items()) if own.epoch)

    def _take_lease(self, c: LeaseCommand) -> list[TenureEffect]:
        if c.producer_id < 0:
            return self._end_boot("fenced by the coordinator")
        if self.lease is None:
            self.lease = c
            return [TakeLease(c)]
        mine = self.lease
        if (c.transactional_id, c.producer) == (mine.transactional_id, mine.producer):
            return []
        return self._end_boot(
            f"a second lease: {c.producer_id}/{c.producer_epoch}, mine "
            f"{mine.producer_id}/{mine.producer_epoch}"
        )

    def _end_boot(self, why: str) -> list[TenureEffect]:
        self.ended = why
        return [End(why)]

    def _assign_partitions(self, c: AssignCommand) -> list[TenureEffect]:
        self._check_topic(c.topic)
        if self.lease is None or self.ended:
            raise CommandRefused(
                "unexpected-request", "no lease yet" if self.lease is None else self.ended
            )
        effects: list[TenureEffect] = []
        stale = 0
        for grant in c.lanes:
            own = self._own.setdefault(grant.n, _Own())
            if own.epoch == grant.epoch:
                continue
            if grant.epoch <= max(own.epoch, own.rel):
                stale = max(stale, own.epoch, own.rel)
                continue
            own.epoch, own.asked = grant.epoch, False
            effects.append(Take(Partition(c.topic, grant.n), grant.epoch, grant.offset))
        if stale and not effects and all(self.owned_epoch(g.n) != g.epoch for g in c.lanes):
            raise StaleEpoch(stale)
        return effects

    def _release_partitions(self, c: ReleaseCommand) -> list[TenureEffect]:
        self._check_topic(c.topic)
        effects: list[TenureEffect] = []
        stale, ahead, fine = 0, 0, False
        for grant in c.lanes:
            own = self._own.setdefault(grant.n, _Own())
            if own.epoch and own.epoch == grant.epoch:
                fine = True
                if not own.asked:
                    own.asked = True
                    effects.append(GiveBack(Partition(c.topic, grant.n), grant.epoch))
            elif own.epoch == 0 and grant.epoch >= own.rel:
                fine = True
                # Not owned now: answered anyway, and the epoch noted, so that an assign of it that
                # arrives later is stale.
                if grant.epoch > own.rel:
                    own.rel, own.relo = grant.epoch, grant.offset
            elif grant.epoch < max(own.epoch, own.rel):
                stale = max(stale, own.epoch, own.rel)
            else:
                # A leader asks back only partitions that it knows to be ours: an error.
                ahead = grant.epoch
        if stale and not fine:
            raise StaleEpoch(stale)
        if ahead and not fine:
            raise CommandRefused(
                "unexpected-request", f"a release of epoch {ahead}, which is not owned yet"
            )
        return effects

    def _set_draining(self, on: bool) -> list[TenureEffect]:
        if self.draining == on:
            return []
        self.draining = on
        return [Drain(on)]

    def _check_topic(self, topic: str) -> None:
        if topic != self.topic:
            raise CommandRefused(
                "item-not-found", f"this worker processes {self.topic}, not {topic}"
            )

    def answer_command(self, command: WorkerCommand) -> WorkerAnswer | None:
        """The answer to give now; None while a release is not finished."""
        if not isinstance(command, ReleaseCommand):
            return WorkerAnswer(tuple(Grant(n, epoch, 0) for n, epoch in self.owned_epochs()))
        lanes: list[Grant] = []
        for grant in command.lanes:
            offset = self.released_offset(grant.n, grant.epoch)
            if offset is not None:
                lanes.append(Grant(grant.n, grant.epoch, offset))
            elif self.owned_epoch(grant.n) == grant.epoch:
                return None
        return WorkerAnswer(tuple(lanes))
