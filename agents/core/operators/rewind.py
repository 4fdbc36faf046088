"""The command `lane N rewind TIME|OFFSET`; core/fleet/rewinds.py carries it out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agents.base.errors import OperatorError
from agents.base.text import counted
from agents.core.effects import Effect
from agents.core.fleet.placing_inputs import Target
from agents.core.fleet.rewinds import LookBack, Past
from agents.core.model.times import format_utc, parse_time_ms
from agents.core.model.topology import short_name
from agents.core.operators.arguments import find_lane
from agents.core.operators.command import Context, Dry, Fetch

REWIND = "rewind"


def query_rewind(c: Context, args: Sequence[str]) -> Fetch:
    """The query for the lane's offsets; its answer is a dry run. `args`: LANE rewind TO. Raises
    OperatorError."""
    p = find_lane(c.fleet, args[0])
    if args[1].lower() != REWIND:
        raise OperatorError(
            f"{args[1][:40]!r} cannot be done to a lane. Usage: lane N rewind TIME|OFFSET"
        )
    if len(args) < 3:
        raise OperatorError(
            "Rewind to when? -10m, 10:00 (today, UTC), 2026-07-01T10:00:00Z, or an offset."
        )
    text = args[2].strip()
    if text.isascii() and text.isdigit() and len(text) < 19:
        look = LookBack(p, offset=int(text))
    else:
        look = LookBack(p, since_ms=parse_time_ms(text, c.now_ms))
    return Fetch(look, lambda then, found: _predict_rewind(then, look, found, text))


def _predict_rewind(c: Context, look: LookBack, found: object, text: str) -> Dry:
    if not isinstance(found, Past):
        raise OperatorError("Its offsets cannot be read.")
    p, target = look.partition, _check_target(look, found)
    if not c.placing.can_move(p):
        raise OperatorError(
            f"Lane {p.n} cannot be rewound now: it is {c.fleet.partitions[p].state}. Wait until "
            "it is assigned."
        )
    owner = short_name(c.fleet.partitions[p].worker)
    again = (
        counted(found.events, "event")
        if found.events is not None
        else f"up to {counted(found.committed - target, 'event')}"
    )
    since = f", appended {format_utc(look.since_ms)} or later" if look.since_ms is not None else ""
    said = (
        f"Rewind lane {p.n} from offset {found.committed:,} to {target:,}{since}.\n"
        f"{again} will be processed again; events.clean will have them twice (dead letters "
        "too), each with the same geolane-src.\n"
        f"{owner} releases the lane, its offset is set back, and it is assigned again: it stops "
        "for a moment."
    )

    def rewind_lane(done: Context) -> Iterator[Effect]:
        if not done.placing.can_move(p):
            raise OperatorError(f"Lane {p.n} cannot be rewound now; ask again.")
        title = f"rewind lane {p.n} to offset {target:,} ({again} again)"
        incident = done.news.open_command_incident(
            title, [p], done.nick, done.now, reply=done.reply
        )
        done.rewinds.begin_rewind(p, target, again, done.jid, incident)
        who = done.nick.partition("@")[0]
        back = Target(
            done.fleet.partitions[p].worker, f"rewind to {target}, asked by {who}", done.jid
        )
        yield from done.placing.begin_moves({p: back}, done.now_ms)

    return Dry(f"lane {p.n} {REWIND} {text}", said, rewind_lane, lanes=(p.n,))


def _check_target(look: LookBack, found: Past) -> int:
    if found.committed < 0:
        raise OperatorError(
            f"Lane {look.partition.n} has no committed offset yet: there is nothing to rewind. "
            f"If it had one: reset {look.partition.n}."
        )
    if found.target is None:
        raise OperatorError(
            f"Nothing was appended to lane {look.partition.n} since then: there is nothing to "
            "rewind."
        )
    has = f"the broker has {found.begin:,} to {found.end:,}, and {found.committed:,} is committed"
    if look.offset is not None and not found.begin <= look.offset <= found.end:
        raise OperatorError(
            f"Offset {look.offset:,} is not in the log: {has}."
            + (
                ""
                if found.begin <= found.committed <= found.end
                else f" reset {look.partition.n} fixes that."
            )
        )
    if found.target > found.committed:
        raise OperatorError(
            f"Offset {found.target:,} is ahead: the events before it would be lost ({has})."
        )
    if found.target == found.committed:
        raise OperatorError(
            f"Lane {look.partition.n} is at {found.committed:,}: nothing to process again ({has})."
        )
    return found.target
