"""The command `ack [ID]`: a person is at work on a trouble. A reaction to the message that told of
it does the same (Desk.handle_reaction).

It changes nothing in the fleet: the room knows who is at work, and is reminded an hour later
instead of 15 minutes after the trouble began. The next leader reports what lasts anew."""

from __future__ import annotations

from collections.abc import Sequence

from agents.base.errors import OperatorError
from agents.core.fleet.troubles import Trouble
from agents.core.model.answers import Answer, StandingTrouble, TroublesData
from agents.core.model.times import format_duration
from agents.core.operators.arguments import Argument, Type
from agents.core.operators.command import Access, Command, Context


def _acknowledge_trouble(c: Context, args: Sequence[str]) -> Answer:
    standing = c.news.troubles.list_worst_first()
    if not args:
        shown = standing[: c.entries]
        lines = [
            f"{t.id}, for {format_duration(c.now - t.since_s)}"
            f"{f', {t.at_work} is at it' if t.at_work else ''}: {t.text}"
            for t in shown
        ]
        return Answer(
            "\n".join(lines) or "Nothing is wrong.", _troubles_data(c, shown, len(standing))
        )
    if c.access < Access.ACT:
        raise OperatorError("ack ID needs an admin of the ops room.")
    id = args[0].lower()
    known = next((t for t in standing if t.id == id), None)
    if known is None:
        raise OperatorError(
            f"{args[0][:40]!r} is not the id of a trouble that lasts; {c.prefix}ack lists them."
        )
    texts = c.news.acknowledge_troubles([id], c.jid, c.now)
    told = describe_at_work(c.jid, texts[0]) if texts else f"You are at it already: {known.text}"
    if texts and c.reply is None:  # asked elsewhere than in the room
        c.news.add_line(told)
    after = [t for t in c.news.troubles.list_worst_first() if t.id == id]
    return Answer(told, _troubles_data(c, after, len(standing)))


def _troubles_data(c: Context, shown: Sequence[Trouble], total: int) -> TroublesData:
    return TroublesData(
        total=total,
        troubles=tuple(
            StandingTrouble(
                id=t.id,
                kind=t.kind,
                about=t.about,
                severity=t.severity,
                for_s=round(c.now - t.since_s, 1),
                text=t.text,
                at_work=t.at_work or None,
            )
            for t in shown
        ),
    )


def describe_at_work(jid: str, text: str) -> str:
    return f"{jid.partition('@')[0]} is at it: {text}"


ACK = Command(
    "ack",
    (Argument("id", Type.WORD, "which trouble; left out: all that last", optional=True),),
    Access.LOOK,
    "say that you are at work on a trouble; for an ID, needs admin",
    _acknowledge_trouble,
)
