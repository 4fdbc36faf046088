"""The command `ack [ID]`: a person is at work on a trouble. A reaction to the message that told of
it does the same (Desk.handle_reaction).

It changes nothing in the fleet: the room knows who is at work, and is reminded an hour later
instead of 15 minutes after the trouble began. The next leader reports what lasts anew."""

from __future__ import annotations

from collections.abc import Sequence

from agents.base.errors import OperatorError
from agents.core.model.times import format_duration
from agents.core.operators.arguments import Argument, Type
from agents.core.operators.command import Access, Command, Context


def _acknowledge_trouble(c: Context, args: Sequence[str]) -> str:
    standing = c.news.troubles.list_worst_first()
    if not args:
        lines = [
            f"{t.id}, for {format_duration(c.now - t.since_s)}"
            f"{f', {t.at_work} is at it' if t.at_work else ''}: {t.text}"
            for t in standing[: c.entries]
        ]
        return "\n".join(lines) or "Nothing is wrong."
    if c.access < Access.ACT:
        raise OperatorError("ack ID needs an admin of the ops room.")
    id = args[0].lower()
    known = next((t for t in standing if t.id == id), None)
    if known is None:
        raise OperatorError(
            f"{args[0][:40]!r} is not the id of a trouble that lasts; {c.prefix}ack lists them."
        )
    texts = c.news.acknowledge_troubles([id], c.jid, c.now)
    if not texts:
        return f"You are at it already: {known.text}"
    told = describe_at_work(c.jid, texts[0])
    if c.reply is None:  # asked elsewhere than in the room
        c.news.add_line(told)
    return told


def describe_at_work(jid: str, text: str) -> str:
    return f"{jid.partition('@')[0]} is at it: {text}"


ACK = Command(
    "ack",
    (Argument("id", Type.WORD, "which trouble; left out: all that last", optional=True),),
    Access.LOOK,
    "say that you are at work on a trouble; for an ID, needs admin",
    _acknowledge_trouble,
)
