"""Setting committed offsets: `lane N rewind TIME|OFFSET` sets a lane's offset back, so that its
events are processed once more; `reset` sets a partition's offset to one that its log has, when
there is nothing to read at the present one.

    owner releases -> committed offset is read -> offset is set -> offset is seen to be set ->
    partition is placed again, with a new epoch

No rule of PROTOCOL 2 changes:

- The owner releases the partition as for any move, so no worker owns it and none may commit for it
  (2.4, 2.6). `Fleet.held` keeps it from being placed.
- One transaction of the coordinator's own producer writes the record's offset and commits the
  consumer group's. A coordinator that was deposed meanwhile is fenced and does neither; one that
  dies has done both or neither (2.3).
- A worker starts once the committed offset is not *below* the one that it was given. It could
  therefore start at the old offset while a commit that sets it back does not show yet. So the
  partition is placed only after the new offset shows (2.6, from the other side).
- The next leader calls InitProducerId, which waits for the markers of that transaction, before it
  reads `placement`.

The model covers this (tests/handover_model: BACK_WHOLE, BACK_NOBODYS, BACK_SHOWN). At worst, a
partition is not rewound, or it is. Events that are processed again come out again, on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from agents.base.errors import OperatorError
from agents.core.effects import Effect, Note, Write
from agents.core.events import QueryFinished
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.handover import Step, record_after_step
from agents.core.fleet.incidents import Incident
from agents.core.fleet.queries import PendingQueries
from agents.core.model.placement import State
from agents.core.model.topology import Partition, WorkerKind, short_name

RETRY_S = 1.0
COUNTED_AT_MOST = 200_000
"""Up to this many offsets are read to count the events among them; beyond it only an upper bound is
told."""

# ---- queries for the shell (agents/coordinator/queries.py) ----


@dataclass(frozen=True, slots=True)
class LookBack:
    """Find where a partition could be set back to: that offset, or the first one that was appended
    at that time (epoch ms) or later. Past is the answer."""

    partition: Partition
    offset: int | None = None
    since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """`begin`, `end`: the offsets that the broker has. `committed`: -1 if there is none. `target`:
    None if nothing was appended since that time. `events`: how many there are between target and
    committed; None if they are too many to count."""

    begin: int
    end: int
    committed: int
    target: int | None
    events: int | None = None


@dataclass(frozen=True, slots=True)
class ReadCommitted:
    """Read the committed offset and its metadata; None if there is none."""

    partition: Partition


@dataclass(frozen=True, slots=True)
class AwaitCommitted:
    """Wait until exactly this offset shows as committed."""

    partition: Partition
    offset: int


@dataclass(frozen=True, slots=True)
class LookOver:
    """Read the offsets of these partitions; with `since_ms` also the first offset that was appended
    at that time (epoch ms) or later. The answer is a Standing for each."""

    partitions: tuple[Partition, ...]
    since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """`begin`, `end`: the offsets that a reader may have; of a task, which has no log, 0 and the
    committed one. `committed`: None if there is none. `since`: None if nothing was appended since
    that time, or no time was asked for."""

    begin: int
    end: int
    committed: int | None
    since: int | None = None


# ---- the steps ----


class _Phase(Enum):
    RELEASING = auto()
    READING = auto()
    WRITING = auto()
    SHOWING = auto()


@dataclass(slots=True)
class _Rewind:
    epoch: int
    target: int
    events: str
    by: str
    incident: Incident
    reset: bool = False
    committed: int | None = None
    phase: _Phase = _Phase.RELEASING
    not_before: float = 0.0


@dataclass(slots=True)
class Rewinds:
    """The rewinds and resets that this leader has begun. They are not written anywhere: the next
    leader finds each of them either done or not done."""

    fleet: Fleet
    errands: PendingQueries
    _open: dict[Partition, _Rewind] = field(default_factory=dict)

    def begin_rewind(
        self, p: Partition, target: int, events: str, by: str, incident: Incident
    ) -> None:
        """Begin a rewind of a lane that is about to be released: it is held until its offset is set
        back."""
        self._open[p] = _Rewind(self.fleet.partitions[p].epoch, target, events, by, incident)
        self.fleet.held.add(p)

    def begin_reset(
        self,
        p: Partition,
        target: int,
        committed: int | None,
        said: str,
        by: str,
        incident: Incident,
    ) -> None:
        """Begin a reset of a partition that is an orphan or about to be released. `committed`: the
        offset that was found, which must not have changed when it is set. `said`: what the reset
        loses or repeats, for the journal."""
        self._open[p] = _Rewind(
            self.fleet.partitions[p].epoch, target, said, by, incident, True, committed
        )
        self.fleet.held.add(p)

    def is_under_way(self, p: Partition) -> bool:
        return p in self._open

    def advance(self, now: float) -> Iterator[Effect]:
        """The next step of each, if it is due."""
        for p, r in list(self._open.items()):
            s = self.fleet.partitions[p]
            if self.fleet.writing[p] or now < r.not_before:
                continue
            if r.phase is _Phase.RELEASING and self._is_at_streams(p):
                continue  # core/fleet/router_engines.py ends its routers' leases
            if r.phase is _Phase.RELEASING and s.state is State.ORPHAN and s.epoch == r.epoch:
                # An orphan that still names its owner was fenced, not released. That ends a rewind;
                # a reset sets the offset anyway, since the owner is fenced.
                if s.worker and not r.reset:
                    self._end_rewind(
                        p,
                        f"lane {p.n} was NOT rewound, {short_name(s.worker)} ended in the middle: "
                        "running again",
                    )
                else:
                    yield from self._begin_query(
                        p, r, _Phase.READING, ReadCommitted(p), self._write_rewind, now
                    )
            elif r.phase is _Phase.RELEASING and s.epoch != r.epoch:
                self._end_rewind(
                    p, f"{p.label} was NOT {_done_word(r)}, another worker has it: running again"
                )
            elif r.phase is _Phase.WRITING:
                yield from self._begin_query(
                    p, r, _Phase.SHOWING, AwaitCommitted(p, r.target), self._check_shown, now
                )

    def _is_at_streams(self, p: Partition) -> bool:
        return WorkerKind.ROUTER.works(p) and self.fleet.is_streams_live()

    def _begin_query(
        self,
        p: Partition,
        r: _Rewind,
        phase: _Phase,
        what: object,
        then: Callable[[Partition, QueryFinished, float, int], Iterator[Effect]],
        now: float,
    ) -> Iterator[Effect]:
        try:
            errand = self.errands.begin_query(
                what, lambda found, at, at_ms: then(p, found, at, at_ms), now
            )
        except OperatorError:  # too many queries are waiting
            r.not_before = now + RETRY_S
            return
        r.phase = phase
        yield errand

    def _write_rewind(
        self, p: Partition, found: QueryFinished, now: float, now_ms: int
    ) -> Iterator[Effect]:
        r, s = self._open[p], self.fleet.partitions[p]
        if r.reset:
            yield from self._write_reset(p, r, found, now_ms)
            return
        at = found.result
        # What is committed must be what the owner released, and still after the target.
        if found.error or not isinstance(at, tuple) or at[0] != s.offset or not r.target < at[0]:
            why = (
                found.error
                or f"committed is {at[0] if isinstance(at, tuple) else 'nothing'}, released was "
                f"{s.offset}"
            )
            self._end_rewind(p, f"lane {p.n} was NOT rewound ({why}): running again")
            return
        record = record_after_step(
            s,
            Step.REWIND,
            leader_epoch=self.fleet.leader_epoch,
            now_ms=now_ms,
            why=s.why,
            offset=r.target,
        )
        r.phase = _Phase.WRITING
        self.fleet.begin_write([p])
        text = (
            f"lane {p.n} rewound from offset {s.offset:,} to {r.target:,}: {r.events} "
            "processed again"
        )
        told = {"lanes": [p.n], "nodes": [s.worker], "from": s.offset, "to": r.target}
        yield Write(
            {p: record}, offsets={p: (r.target, at[1])}, then=(Note("action", r.by, text, told),)
        )

    def _write_reset(
        self, p: Partition, r: _Rewind, found: QueryFinished, now_ms: int
    ) -> Iterator[Effect]:
        s = self.fleet.partitions[p]
        at, counts = found.result if isinstance(found.result, tuple) else (None, "")
        # The prediction that was confirmed holds only for that offset, or the one just released.
        if found.error or at not in (r.committed, s.offset):
            why = found.error or f"committed is {at}, it was {r.committed}"
            self._end_rewind(p, f"{p.label} was NOT reset ({why}): ask again")
            return
        record = record_after_step(
            s,
            Step.RESET,
            leader_epoch=self.fleet.leader_epoch,
            now_ms=now_ms,
            why="reset",
            offset=r.target,
        )
        r.phase = _Phase.WRITING
        self.fleet.begin_write([p])
        frm = "none" if at is None else f"{at:,}"
        text = f"{p.label} reset from offset {frm} to {r.target:,}: {r.events}"
        told = {
            "lanes": [p.n] if WorkerKind.NODE.works(p) else [],
            "nodes": [s.worker],
            "from": at,
            "to": r.target,
            "partition": p.key,
        }
        yield Write(
            {p: record}, offsets={p: (r.target, counts)}, then=(Note("action", r.by, text, told),)
        )

    def _check_shown(
        self, p: Partition, found: QueryFinished, now: float, now_ms: int
    ) -> Iterator[Effect]:
        if found.error:  # it is set but does not show yet: ask again, no worker may start before
            self._open[p].phase, self._open[p].not_before = _Phase.WRITING, now + RETRY_S
            return
        self._end_rewind(p)
        yield from ()

    def _end_rewind(self, p: Partition, title: str = "") -> None:
        r = self._open.pop(p)
        self.fleet.held.discard(p)
        self.fleet.version += 1  # so that the orphan is placed
        if title:
            r.incident.title = title


def _done_word(r: _Rewind) -> str:
    return "reset" if r.reset else "rewound"
