"""The command `dead`: lists, shows and replays dead letters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agents.base.errors import OperatorError
from agents.core.effects import Effect, Note
from agents.core.events import QueryFinished as Answer
from agents.core.lanes.dead_letters import (
    GOES,
    ID,
    LetterQuery,
    LettersFound,
    line,
    query_of,
    shown,
    summed,
)
from agents.core.operators.arguments import Argument, Type
from agents.core.operators.command import Access, Command, Context, Dry, Fetch, Result

SHOWN_CHARACTERS = 300
USAGE = "dead list | show ID | replay, each with filters"


@dataclass(frozen=True, slots=True)
class DeadLook:
    """Find the newest `most` dead letters that match. The answer is LettersFound."""

    query: LetterQuery
    most: int


@dataclass(frozen=True, slots=True)
class DeadReplay:
    """Send back the dead letters that match, none beyond the offsets `upto` (partition, offset).
    The answer is how many were sent."""

    query: LetterQuery
    upto: tuple[tuple[int, int], ...]
    by: str
    now_ms: int


def _dead(c: Context, args: Sequence[str]) -> Result:
    what, words = (args[0].lower(), args[1:]) if args else ("list", ())
    if what not in ("list", "show", "replay"):
        what, words = ("show" if ID.fullmatch(what) else "list"), args
    query = query_of(words, c.now_ms)
    if what == "show":
        if not query.one:
            raise OperatorError("Usage: dead show ID, such as 0/17 (dead list shows the ids).")
        return Fetch(DeadLook(query, 1), _shown)
    if what == "list":
        return Fetch(DeadLook(query, c.rows + 1), _listed)
    if c.access < Access.ACT:
        raise OperatorError("dead replay needs an admin of the ops room.")
    return Fetch(DeadLook(query, 1), lambda then, found: _dry(then, found, query, " ".join(words)))


def _found(found: object) -> LettersFound:
    if not isinstance(found, LettersFound):
        raise TypeError(found)
    return found


def _listed(c: Context, found: object) -> Result:
    f = _found(found)
    if not f.letters:
        return "No dead letters." if f.whole else summed(f)
    more = "\nNarrow it down: reason= since=1h lane= source=." if f.count > c.rows else ""
    return (
        "\n".join([f"{summed(f)}.", "```", *(line(x) for x in f.letters[: c.rows]), "```"]) + more
    )


def _shown(c: Context, found: object) -> Result:
    f = _found(found)
    if not f.letters:
        raise OperatorError("There is no such dead letter; it may have expired.")
    return "\n".join(shown(f.letters[0], SHOWN_CHARACTERS))


def _dry(c: Context, found: object, query: LetterQuery, words: str) -> Dry:
    f = _found(found)
    if not f.count:
        raise OperatorError(
            "Nothing to replay: no dead letter matches, or all were replayed already (all "
            "includes those)."
        )
    if not f.whole:
        raise OperatorError(f"{summed(f)}: too many to predict.")

    def act(done: Context) -> Iterator[Effect]:
        if done.access < Access.ACT:
            raise OperatorError("dead replay needs an admin of the ops room.")

        def told(answer: Answer, now: float, now_ms: int) -> Iterator[Effect]:
            if answer.error:
                done.news.line(f"{done.nick}: replay of dead letters failed: {answer.error}")
            else:
                done.news.line(
                    f"{done.nick}: {answer.result} dead letters were sent back to events.raw."
                )
            yield Note(
                "action", done.jid, f"dead replay {words}: {answer.error or answer.result}", {}
            )

        yield done.errands.begin(DeadReplay(query, f.upto, done.jid, done.now_ms), told, done.now)

    text = (
        f"Replay {summed(f)}. Each goes back to events.raw once, with its reason in a header; one "
        "that fails again becomes a dead letter again."
    )
    return Dry(f"dead replay {words}".strip(), text, act)


LETTERS = (
    Command(
        "dead",
        (
            Argument(
                "do",
                Type.WORD,
                "what to do with dead letters",
                optional=True,
                choices=("list", "show", "replay"),
            ),
            Argument("which", Type.WORD, f"an ID, or {GOES}", optional=True, many=True),
        ),
        Access.LOOK,
        f"dead letters: {USAGE} ({GOES}); replay needs admin",
        _dead,
        goes=USAGE,
    ),
)
