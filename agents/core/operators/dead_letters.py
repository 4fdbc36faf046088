"""The command `dead`: lists, shows and replays dead letters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agents.base.errors import OperatorError
from agents.core.effects import Effect, Note
from agents.core.events import QueryFinished
from agents.core.lanes.dead_letters import (
    GOES,
    ID,
    LetterQuery,
    LettersFound,
    describe_found,
    describe_letter,
    describe_letter_fully,
    letter_to_data,
    letters_to_data,
    query_from_words,
)
from agents.core.model.answers import Answer
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


def _query_dead_letters(c: Context, args: Sequence[str]) -> Result:
    what, words = (args[0].lower(), args[1:]) if args else ("list", ())
    if what not in ("list", "show", "replay"):
        what, words = ("show" if ID.fullmatch(what) else "list"), args
    query = query_from_words(words, c.now_ms)
    if what == "show":
        if not query.one:
            raise OperatorError("Usage: dead show ID, such as 0/17 (dead list shows the ids).")
        return Fetch(DeadLook(query, 1), _show_letter)
    if what == "list":
        return Fetch(DeadLook(query, c.entries + 1), _show_letter_list)
    if c.access < Access.ACT:
        raise OperatorError("dead replay needs an admin of the ops room.")
    return Fetch(
        DeadLook(query, 1), lambda then, found: _predict_replay(then, found, query, " ".join(words))
    )


def _expect_letters(found: object) -> LettersFound:
    if not isinstance(found, LettersFound):
        raise TypeError(found)
    return found


def _show_letter_list(c: Context, found: object) -> Result:
    f = _expect_letters(found)
    data = letters_to_data(f, c.entries, headers=False)
    if not f.letters:
        return Answer("No dead letters." if f.whole else describe_found(f), data)
    more = "\nNarrow it down: reason= since=1h lane= source=." if f.count > c.entries else ""
    rows = [describe_letter(x) for x in f.letters[: c.entries]]
    return Answer("\n".join([f"{describe_found(f)}.", "```", *rows, "```"]) + more, data)


def _show_letter(c: Context, found: object) -> Result:
    f = _expect_letters(found)
    if not f.letters:
        raise OperatorError("There is no such dead letter; it may have expired.")
    (letter, *_) = f.letters
    text = "\n".join(describe_letter_fully(letter, SHOWN_CHARACTERS))
    return Answer(text, letter_to_data(letter, SHOWN_CHARACTERS))


def _predict_replay(c: Context, found: object, query: LetterQuery, words: str) -> Dry:
    f = _expect_letters(found)
    if not f.count:
        raise OperatorError(
            "Nothing to replay: no dead letter matches, or all were replayed already (all "
            "includes those)."
        )
    if not f.whole:
        raise OperatorError(f"{describe_found(f)}: too many to predict.")

    def replay_letters(done: Context) -> Iterator[Effect]:
        if done.access < Access.ACT:
            raise OperatorError("dead replay needs an admin of the ops room.")

        def tell_outcome(answer: QueryFinished, now: float, now_ms: int) -> Iterator[Effect]:
            if answer.error:
                done.news.add_line(
                    f"{done.nick}: replay of dead letters failed: {answer.error}", done.reply
                )
            else:
                done.news.add_line(
                    f"{done.nick}: {answer.result} dead letters were sent back to events.raw.",
                    done.reply,
                )
            yield Note(
                "action", done.jid, f"dead replay {words}: {answer.error or answer.result}", {}
            )

        yield done.errands.begin_query(
            DeadReplay(query, f.upto, done.jid, done.now_ms), tell_outcome, done.now
        )

    text = (
        f"Replay {describe_found(f)}. Each goes back to events.raw once, with its reason in a "
        "header; one that fails again becomes a dead letter again."
    )
    return Dry(f"dead replay {words}".strip(), text, replay_letters)


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
        _query_dead_letters,
        goes=USAGE,
        may_change=True,
    ),
)
