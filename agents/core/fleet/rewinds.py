"""`lane N rewind TIME|OFFSET`: the lane's committed offset is set back, so that its events are
processed once more; and `reset`: the offset of any partition is set to where its log has it, when
it stands where there is nothing to read.

    released by its owner -> committed offset read -> set back -> seen to be set back -> given out
    again, with a new epoch

No rule of PROTOCOL 2 changes. The lane is released as for any move, so nobody owns it and nobody
may commit for it (2.4, 2.6); it is held here, so nobody is given it (Fleet.held). Then one
transaction of the coordinator's own producer writes the record's offset and commits the consumer
group's: a coordinator that was deposed meanwhile is fenced, and does neither; one that dies has
done both or neither (2.3). A worker begins at what is committed once that is not *below* what it
was told, so it could begin behind a commit that does not show yet: the lane is given to nobody
before the offset shows (2.6, from the other side). Who leads next has called InitProducerId, which
waits for the markers of that transaction, before it reads `placement`. The model has it
(tests/handover_model: BACK_WHOLE, BACK_NOBODYS, BACK_SHOWN). So the worst case is `not rewound` or
`rewound`. What is worked again comes out again, on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from agents.base.errors import OperatorError
from agents.core.effects import Effect, Note, Write
from agents.core.events import QueryFinished
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.handover import Step, step
from agents.core.fleet.incidents import Incident
from agents.core.fleet.queries import PendingQueries
from agents.core.model.placement import State
from agents.core.model.topology import Partition, WorkerKind, short_name

RETRY_S = 1.0
COUNTED_AT_MOST = 200_000
"""Offsets that are read to say how many events lie behind them; of more only that many at most is
said."""

# ---- what the shell is sent for (agents/coordinator/queries.py) ----


@dataclass(frozen=True, slots=True)
class LookBack:
    """Where a partition could be set back to: that offset, or the first that was appended at that
    time or later (epoch ms)."""

    partition: Partition
    offset: int | None = None
    since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """`begin` to `end`: what the broker has; `committed`: -1 where nothing is; `target`: None where
    nothing was appended since that time; `events`: how many lie between target and committed, None
    where they are too many to be counted."""

    begin: int
    end: int
    committed: int
    target: int | None
    events: int | None = None


@dataclass(frozen=True, slots=True)
class ReadCommitted:
    """The committed offset and its metadata, None where there is none."""

    partition: Partition


@dataclass(frozen=True, slots=True)
class AwaitCommitted:
    """Until exactly this offset shows as committed."""

    partition: Partition
    offset: int


@dataclass(frozen=True, slots=True)
class LookOver:
    """Where these partitions stand; `since_ms`: and the first offset that was appended at that time
    or later (epoch ms)."""

    partitions: tuple[Partition, ...]
    since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """`begin` to `end`: what a reader may have; `committed`: None where nothing is; `since`: None
    where nothing was appended since that time, or none was asked for."""

    begin: int
    end: int
    committed: int | None
    since: int | None = None


# ---- what follows ----


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
    """Those that this leader has begun; it remembers them only: who leads next finds them done, or
    not begun."""

    fleet: Fleet
    errands: PendingQueries
    _open: dict[Partition, _Rewind] = field(default_factory=dict)

    def begin(self, p: Partition, target: int, events: str, by: str, incident: Incident) -> None:
        """The lane is about to be asked back; when it is released, nobody else is given it before
        it is set back."""
        self._open[p] = _Rewind(self.fleet.partitions[p].epoch, target, events, by, incident)
        self.fleet.held.add(p)

    def reset(
        self,
        p: Partition,
        target: int,
        committed: int | None,
        said: str,
        by: str,
        incident: Incident,
    ) -> None:
        """It is nobody's, or about to be asked back. `committed`: what was found, and what is to be
        found still; `said`: what it loses or repeats, for the journal."""
        self._open[p] = _Rewind(
            self.fleet.partitions[p].epoch, target, said, by, incident, True, committed
        )
        self.fleet.held.add(p)

    def under_way(self, p: Partition) -> bool:
        return p in self._open

    def advance(self, now: float) -> Iterator[Effect]:
        """What is to be done now for each."""
        for p, r in list(self._open.items()):
            s = self.fleet.partitions[p]
            if self.fleet.writing[p] or now < r.not_before:
                continue
            if r.phase is _Phase.RELEASING and s.state is State.ORPHAN and s.epoch == r.epoch:
                if (
                    s.worker and not r.reset
                ):  # a reset goes where it goes, whoever had it: he is fenced
                    self._end(
                        p,
                        f"lane {p.n} was NOT rewound, {short_name(s.worker)} went in the middle: "
                        "at work again",
                    )
                else:
                    yield from self._send(p, r, _Phase.READING, ReadCommitted(p), self._read, now)
            elif r.phase is _Phase.RELEASING and s.epoch != r.epoch:
                self._end(p, f"{p.label} was NOT {_done(r)}, somebody else has it: at work again")
            elif r.phase is _Phase.WRITING:
                yield from self._send(
                    p, r, _Phase.SHOWING, AwaitCommitted(p, r.target), self._shown, now
                )

    def _send(
        self,
        p: Partition,
        r: _Rewind,
        phase: _Phase,
        what: object,
        then: Callable[[Partition, QueryFinished, float, int], Iterator[Effect]],
        now: float,
    ) -> Iterator[Effect]:
        try:
            errand = self.errands.begin(
                what, lambda found, at, at_ms: then(p, found, at, at_ms), now
            )
        except OperatorError:  # too many wait
            r.not_before = now + RETRY_S
            return
        r.phase = phase
        yield errand

    def _read(
        self, p: Partition, found: QueryFinished, now: float, now_ms: int
    ) -> Iterator[Effect]:
        r, s = self._open[p], self.fleet.partitions[p]
        if r.reset:
            yield from self._read_for_reset(p, r, found, now_ms)
            return
        at = found.result
        if found.error or not isinstance(at, tuple) or at[0] != s.offset or not r.target < at[0]:
            why = (
                found.error
                or f"committed is {at[0] if isinstance(at, tuple) else 'nothing'}, released was "
                f"{s.offset}"
            )
            self._end(p, f"lane {p.n} was NOT rewound ({why}): at work again")
            return
        record = step(
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
            f"lane {p.n} rewound from offset {s.offset:,} to {r.target:,}: {r.events} events "
            "are processed again"
        )
        told = {"lanes": [p.n], "from": s.offset, "to": r.target}
        yield Write(
            {p: record}, offsets={p: (r.target, at[1])}, then=(Note("action", r.by, text, told),)
        )

    def _read_for_reset(
        self, p: Partition, r: _Rewind, found: QueryFinished, now_ms: int
    ) -> Iterator[Effect]:
        s = self.fleet.partitions[p]
        at, counts = found.result if isinstance(found.result, tuple) else (None, "")
        if found.error or at not in (r.committed, s.offset):
            why = found.error or f"committed is {at}, it was {r.committed}"
            self._end(p, f"{p.label} was NOT reset ({why}): ask again")
            return
        record = step(
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
            "lanes": [p.n] if p.kind is WorkerKind.NODE else [],
            "from": at,
            "to": r.target,
            "partition": p.key,
        }
        yield Write(
            {p: record}, offsets={p: (r.target, counts)}, then=(Note("action", r.by, text, told),)
        )

    def _shown(
        self, p: Partition, found: QueryFinished, now: float, now_ms: int
    ) -> Iterator[Effect]:
        if found.error:  # it is set back, and shows some time: until then nobody may begin
            self._open[p].phase, self._open[p].not_before = _Phase.WRITING, now + RETRY_S
            return
        self._end(p)
        yield from ()

    def _end(self, p: Partition, title: str = "") -> None:
        r = self._open.pop(p)
        self.fleet.held.discard(p)
        self.fleet.version += 1  # there is an orphan more to be placed
        if title:
            r.incident.title = title


def _done(r: _Rewind) -> str:
    return "reset" if r.reset else "rewound"
