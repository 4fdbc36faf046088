"""The command `reset`: it sets the committed offset of partitions whose log does not have it, so
that they can continue; core/fleet/rewinds.py carries it out.

Without `to` no event is lost that is still there: a partition continues at the first event that may
not have been processed. A task (`hotspots`) has no log; its committed offset is set to the last
count that is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agents.base.errors import OperatorError
from agents.base.text import counted
from agents.core.effects import Effect
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.incidents import format_partitions
from agents.core.fleet.placing_inputs import Target
from agents.core.fleet.rewinds import LookOver, Standing
from agents.core.fleet.topic_checks import why_offset_unusable
from agents.core.model.placement import State
from agents.core.model.times import parse_time_ms
from agents.core.model.topology import Partition, WorkerKind, kind_of
from agents.core.operators.arguments import Argument, Type, find_lane, split_keyed_words
from agents.core.operators.command import Access, Command, Context, Dry, Fetch

ALL, BEGIN, END = "all", "begin", "end"
GOES = "reset LANE ... | raw N ... | unplaced N ... | hotspots | all [to=begin|end|OFFSET|TIME]"
SHOWN = 3  # partitions that a prediction names


@dataclass(frozen=True, slots=True)
class Setting:
    """The offset that a partition is set to, and what follows. `lost`: offsets that are never
    processed. `again`: at most this many are processed once more. `fresh`: this many, of a log that
    was made again, are processed for the first time. All include transaction markers."""

    partition: Partition
    committed: int | None
    target: int
    lost: range
    again: int
    fresh: int

    @property
    def consequences(self) -> str:
        parts = []
        if self.lost:
            parts.append(f"events {self.lost.start:,} to {self.lost.stop - 1:,} are lost")
        if self.again:
            parts.append(f"up to {counted(self.again, 'event')} repeated")
        if self.fresh:
            parts.append(f"{counted(self.fresh, 'event')} of the new log processed")
        return ", ".join(parts) or "nothing is lost or repeated"


def _query_reset_offsets(c: Context, args: Sequence[str]) -> Fetch:
    """The query for the partitions' offsets; its answer is a dry run. Raises OperatorError."""
    words, keyed = split_keyed_words(ARGUMENTS, args)
    every = [w.lower() for w in words] == [ALL]
    some = tuple(_list_partitions(c.fleet) if every else _parse_partitions(c.fleet, words))
    to = keyed.get("to", "").lower()
    if to and not every and (tasks := [p.label for p in some if kind_of(p).tasks]):
        raise OperatorError(f"{tasks[0]} has no log to choose an offset of: leave out to=.")
    timed = to and to not in (BEGIN, END) and not _is_offset(to)
    look = LookOver(some, parse_time_ms(keyed["to"], c.now_ms) if timed else None)
    title = f"reset {' '.join(words)}{f' to={to}' if to else ''}"
    return Fetch(
        look, lambda then, found: _predict_reset(then, look, found, to, title, every=every)
    )


def _list_partitions(fleet: Fleet) -> Iterator[Partition]:
    """Every partition of a kind that the fleet has."""
    return (p for kind in fleet.inventory.kinds_in_use() for p in fleet.partitions_of(kind))


def _is_offset(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _parse_partitions(fleet: Fleet, words: Sequence[str]) -> Iterator[Partition]:
    tasks = {p.label: p for p in _list_partitions(fleet) if kind_of(p).tasks}
    logs = {p.unit: kind_of(p) for p in _list_partitions(fleet) if not kind_of(p).tasks}
    kind = WorkerKind.NODE
    for word in words:
        if (task := tasks.get(word.lower())) is not None:
            yield task
        elif word.lower() in logs:
            kind = logs[word.lower()]
        elif kind == WorkerKind.NODE:
            yield find_lane(fleet, word)
        else:
            p = kind.partition(int(word)) if _is_offset(word) else None
            there = fleet.partitions_of(kind)
            if p is None or p not in there:
                raise OperatorError(
                    f"There is no {there[0].unit} partition {word[:40]!r}: they are 0 to "
                    f"{len(there) - 1}."
                )
            yield p


def choose_setting(p: Partition, at: Standing, known: int, to: str) -> Setting:
    """The offset that `p` is set to, and what follows. `known`: the offset up to which it was
    processed at least, by everything that was seen of it.

    Raises OperatorError for an offset `to` that its log does not have."""
    if kind_of(p).tasks:
        return Setting(p, at.committed, max(known, at.committed or 0), range(0), 0, 0)
    was = known if at.committed is None else at.committed
    anew = was > at.end  # the log was made again: it does not have what was processed
    if to == BEGIN:
        target = at.begin
    elif to == END:
        target = at.end
    elif _is_offset(to):
        target = int(to)
        if not at.begin <= target <= at.end:
            raise OperatorError(
                f"Offset {target:,} is not in the log of {p.label}: it has {at.begin:,} to "
                f"{at.end:,}."
            )
    elif to:
        target = at.end if at.since is None else at.since
    else:
        target = at.begin if anew else max(was, at.begin)
    start = at.begin if anew else was
    upto = at.end if at.committed is None and not anew else start
    return Setting(
        p,
        at.committed,
        target,
        lost=range(start, target) if target > start else range(0),
        again=0 if anew else max(0, upto - target),
        fresh=at.end - target if anew else 0,
    )


def _predict_reset(
    c: Context, look: LookOver, found: object, to: str, title: str, *, every: bool
) -> Dry:
    if not isinstance(found, Mapping):
        raise OperatorError("Their offsets cannot be read.")
    settings = []
    for p in look.partitions:
        at: Standing = found[p]
        written = (
            c.fleet.last_worked_offset(p) if at.committed is None else c.fleet.partitions[p].offset
        )
        if (to and not every) or why_offset_unusable(at.begin, at.end, at.committed, written):
            settings.append(choose_setting(p, at, written, to))
    if not settings:
        which = "Every partition" if every else _name_partitions(look.partitions).capitalize()
        raise OperatorError(
            f"{which} can continue: nothing to reset. Name partitions and give to= to set them "
            "anyway."
        )
    # A partition with a step under way is left out now; the confirmation checks the others again.
    busy = [s.partition for s in settings if not _can_reset(c, s.partition)]
    settings = [s for s in settings if s.partition not in busy]
    if not settings:
        raise OperatorError(
            f"{_name_partitions(busy).capitalize()} cannot be reset now, a step is under way: try "
            "again."
        )
    return Dry(
        title,
        "\n".join(_describe_settings(settings, busy, streams=c.fleet.is_streams_live())),
        lambda done: _reset_partitions(done, title, settings),
        lanes=tuple(s.partition.n for s in settings if WorkerKind.NODE.works(s.partition)),
    )


def _describe_settings(
    settings: Sequence[Setting], busy: Sequence[Partition], *, streams: bool
) -> Iterator[str]:
    """`streams`: whether Kafka Streams works the raw partitions."""
    name = _name_partitions(s.partition for s in settings)
    yield f"Reset {name} (offsets include transaction markers):"
    for s in settings[:SHOWN]:
        was = "none" if s.committed is None else f"{s.committed:,}"
        yield f"{s.partition.label}: {was} -> {s.target:,}; {s.consequences}"
    if settings[SHOWN:]:
        yield f"and {len(settings) - SHOWN} more"
    if busy:
        yield f"Not {_name_partitions(busy)}: a step is under way; ask again."
    if streams and any(WorkerKind.ROUTER.works(s.partition) for s in settings):
        yield "All routers start again, since Kafka Streams would not see a new offset."
    if settings[1:]:
        lost, again = sum(len(s.lost) for s in settings), sum(s.again for s in settings)
        yield f"In total, up to {lost:,} events are lost and up to {again:,} repeated."


def _reset_partitions(c: Context, title: str, settings: Sequence[Setting]) -> Iterator[Effect]:
    if any(not _can_reset(c, s.partition) for s in settings):
        raise OperatorError("A step is under way with one of them; ask again.")
    incident = c.news.open_command_incident(
        title, [s.partition for s in settings], c.nick, c.now, reply=c.reply
    )
    back: dict[Partition, Target] = {}
    for s in settings:
        p, placed = s.partition, c.fleet.partitions[s.partition]
        c.rewinds.begin_reset(p, s.target, s.committed, s.consequences, c.jid, incident)
        if placed.state is State.ASSIGNED:  # an owner must release it first
            back[p] = Target(placed.worker, f"reset, asked by {c.nick.partition('@')[0]}", c.jid)
    yield from c.placing.begin_moves(back, c.now_ms)


def _can_reset(c: Context, p: Partition) -> bool:
    """Whether `p` can be reset now: it is an orphan, being released, or at an owner that can
    release it, and neither a write nor a rewind of it is under way."""
    if c.fleet.writing[p] or c.rewinds.is_under_way(p):
        return False
    return c.fleet.partitions[p].state is not State.ASSIGNED or c.placing.can_move(p)


def _name_partitions(some: Iterable[Partition]) -> str:
    parts = set(some)
    topics = sorted({p.topic for p in parts})
    return " and ".join(format_partitions(p for p in parts if p.topic == topic) for topic in topics)


ARGUMENTS = (
    Argument(
        "what",
        Type.WORD,
        "lanes by number, raw N or unplaced N, hotspots, or all (of what has stopped)",
        many=True,
    ),
    Argument(
        "to",
        Type.WORD,
        "begin, end, an offset or a time; left out: where nothing is lost",
        optional=True,
        keyed=True,
    ),
)
RESET = Command(
    "reset",
    ARGUMENTS,
    Access.TUNE,
    "set offsets that are not in their log to where the partitions can continue",
    _query_reset_offsets,
    goes=GOES,
)
