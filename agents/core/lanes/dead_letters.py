"""Dead letters: how they are selected and shown, and which headers a letter has when it is sent
back to `events.raw`.

A letter's id is its PARTITION/OFFSET in `events.dead`. A replayed letter stays there and is marked
in `events.dead.replayed`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from agents.base.errors import OperatorError
from agents.base.suggest import suggest_names
from agents.base.text import counted, to_one_line
from agents.core.lanes.records import (
    DETAIL,
    DIED,
    LANE,
    OURS,
    REASON,
    REPLAYS,
    SRC,
    Headers,
    Reason,
    Unread,
    parse_source,
)
from agents.core.model.answers import DeadLetterData, DeadLetterRow, DeadLettersData
from agents.core.model.times import parse_past_time_ms, utc_from_ms

ID = re.compile(r"[0-9]{1,9}/[0-9]{1,18}")
KEPT_BYTES = 4096
GOES = "reason=R since=1h until=10m source=TOPIC/PARTITION lane=N all"


@dataclass(frozen=True, slots=True)
class Letter:
    """`ms`: when it was appended to `events.dead` (the broker's clock). `replayed`: whether it has
    been sent back."""

    partition: int
    offset: int
    ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    replayed: bool = False

    @property
    def id(self) -> str:
        return f"{self.partition}/{self.offset}"

    def header_text(self, name: str) -> str:
        """The last header of this name, as text; empty if there is none."""
        return next(
            (
                v.decode("utf-8", "replace")
                for k, v in reversed(self.headers)
                if k == name and v is not None
            ),
            "",
        )

    @property
    def replays(self) -> int:
        """How often the event was replayed before it became this letter."""
        text = self.header_text(REPLAYS)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0


@dataclass(frozen=True, slots=True)
class LetterQuery:
    """Selects the letters that match every field that is set. Times are epoch ms. `one`: a letter's
    id. `replayed`: include those that were replayed."""

    reason: str = ""
    since_ms: int | None = None
    until_ms: int | None = None
    source: str = ""
    lane: int | None = None
    one: str = ""
    replayed: bool = False

    def matches(self, x: Letter) -> bool:
        return (
            (not self.one or x.id == self.one)
            and (not self.reason or x.header_text(REASON) == self.reason)
            and (self.since_ms is None or x.ms >= self.since_ms)
            and (self.until_ms is None or x.ms <= self.until_ms)
            and (not self.source or x.header_text(SRC).startswith(f"{self.source}/"))
            and (self.lane is None or x.header_text(LANE) == str(self.lane))
            and (self.replayed or not x.replayed)
        )


@dataclass(frozen=True, slots=True)
class LettersFound:
    """The result of reading `events.dead`. `letters`: the newest that match. `reasons`: how many
    match, by reason. `upto`: the offset up to which each partition was read. `whole`: whether all
    of it was read."""

    letters: tuple[Letter, ...]
    reasons: tuple[tuple[str, int], ...]
    upto: tuple[tuple[int, int], ...]
    whole: bool = True

    @property
    def count(self) -> int:
        return sum(n for _, n in self.reasons)


def query_from_words(words: Sequence[str], now_ms: int) -> LetterQuery:
    """The query for words such as `reason=not_json since=1h lane=3`, `0/17` or `all`. Raises
    OperatorError."""
    q = LetterQuery()
    for word in words:
        name, sep, value = word.partition("=")
        name, value = name.lower(), value.strip()
        if not sep and ID.fullmatch(word):
            q = replace(q, one=word, replayed=True)
        elif not sep and name == "all":
            q = replace(q, replayed=True)
        elif not sep and name in set(Reason):
            q = replace(q, reason=name)
        elif name == "reason":
            if value not in set(Reason):
                raise OperatorError(
                    f"{value[:40]!r} is not a valid reason. {suggest_names(value, list(Reason))}"
                )
            q = replace(q, reason=value)
        elif name == "since":
            q = replace(q, since_ms=parse_past_time_ms(value, now_ms))
        elif name == "until":
            q = replace(q, until_ms=parse_past_time_ms(value, now_ms))
        elif name == "source":
            q = replace(q, source=value.rstrip("/"))
        elif name == "lane":
            if not (value.isascii() and value.isdigit() and len(value) < 10):
                raise OperatorError(f"{value[:40]!r} is not a valid lane: give its number.")
            q = replace(q, lane=int(value))
        else:
            raise OperatorError(
                f"{word[:40]!r} is not a valid filter. Filters: {GOES}, or PARTITION/OFFSET."
            )
    return q


class Finder:
    """Takes letters one by one and keeps the newest `most` that match; of long values it keeps only
    the beginning, unless the query names one letter."""

    def __init__(self, query: LetterQuery, most: int) -> None:
        self._query, self._most = query, most
        self._reasons: Counter[str] = Counter()
        self._kept: list[Letter] = []

    def add_letter(self, x: Letter) -> None:
        if not self._query.matches(x):
            return
        reason = x.header_text(REASON)
        self._reasons[reason if reason in set(Reason) else "?"] += 1
        if not self._query.one and x.value is not None:
            x = replace(x, value=x.value[:KEPT_BYTES])
        self._kept.append(x)
        if len(self._kept) >= 2 * self._most:
            self._keep_newest()

    def _keep_newest(self) -> None:
        self._kept = sorted(self._kept, key=lambda x: (-x.ms, x.partition, -x.offset))[: self._most]

    def letters_found(self, upto: Mapping[int, int], *, whole: bool = True) -> LettersFound:
        """The newest first."""
        self._keep_newest()
        by = tuple(sorted(self._reasons.items(), key=lambda item: (-item[1], item[0])))
        return LettersFound(tuple(self._kept), by, tuple(sorted(upto.items())), whole)


def replay_headers(x: Letter, by: str) -> list[tuple[str, bytes | None]]:
    """The headers of a letter that is sent back: its source, so that the event is still counted as
    the same one; how often it was replayed; one line for each death (reason, time, id, and who sent
    it back); and the sender's own headers."""
    theirs = [h for h in x.headers if h[0] not in OURS and type(h[0]) is not Unread]
    deaths = [h for h in x.headers if h[0] == DIED and h[1] is not None]
    story = f"{_escape_word(x.header_text(REASON)) or '?'} {x.ms} events.dead/{x.id} {by}"
    own = next((v for k, v in reversed(x.headers) if k == SRC), None)
    source = parse_source(own) or f"events.dead/{x.id}"
    return [
        (SRC, source.encode()),
        (REPLAYS, b"%d" % (x.replays + 1)),
        *deaths,
        (DIED, story.encode()),
        *theirs,
    ]


# ---- for programs ----


def letters_to_data(found: LettersFound, most: int, *, headers: bool) -> DeadLettersData:
    """The newest `most` of them, with their headers or without."""
    return DeadLettersData(
        count=found.count,
        whole=found.whole,
        reasons=dict(found.reasons),
        letters=tuple(_letter_to_row(x, headers=headers) for x in found.letters[:most]),
    )


def letter_to_data(x: Letter, characters: int) -> DeadLetterData:
    """A letter with its headers and the beginning of its value."""
    return DeadLetterData(
        **msgspec.structs.asdict(_letter_to_row(x, headers=True)),
        key=None if x.key is None else escape_content(x.key, 200),
        value=None if x.value is None else escape_content(x.value, characters),
        value_bytes=0 if x.value is None else len(x.value),
    )


def _letter_to_row(x: Letter, *, headers: bool) -> DeadLetterRow:
    lane = x.header_text(LANE)
    return DeadLetterRow(
        id=x.id,
        ms=x.ms,
        reason=_escape_word(x.header_text(REASON)),
        detail=escape_content(x.header_text(DETAIL).encode(), 200),
        lane=int(lane) if lane.isascii() and lane.isdigit() and len(lane) < 10 else None,
        source=escape_content(x.header_text(SRC).encode(), 200),
        replays=x.replays,
        replayed=x.replayed,
        headers={
            escape_content(name.encode(), 80): escape_content(content, 200)
            for name, content in (x.headers if headers else ())
        },
    )


# ---- for people ----


def describe_found(found: LettersFound) -> str:
    """`12 dead letters: 10 pipeline_error, 2 not_json`."""
    by = ", ".join(f"{n:,} {_escape_word(reason)}" for reason, n in found.reasons)
    more = "" if found.whole else " (more were not read: narrow it down with since=)"
    return f"{counted(found.count, 'dead letter')}{': ' + by if by else ''}{more}"


def describe_letter(x: Letter) -> str:
    """A letter on one line."""
    lane = f" lane {_escape_word(x.header_text(LANE))}" if x.header_text(LANE) else ""
    again = " (replayed)" if x.replayed else f" (failed {x.replays + 1} times)" if x.replays else ""
    return f"{x.id} {_format_time(x.ms)} {_escape_word(x.header_text(REASON)) or '?'}{lane}{again}"


def _format_time(ms: int) -> str:
    """The time for people. A topic that keeps its senders' times may hold any number."""
    try:
        return utc_from_ms(ms).strftime("%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"at {ms} ms"


def _escape_word(text: str) -> str:
    return escape_content(text.encode(), 40)


def describe_letter_fully(x: Letter, characters: int) -> list[str]:
    """A letter with its headers and the beginning of its value; bytes that are not text are
    escaped."""
    lines = [describe_letter(x)]
    for name, content in x.headers:
        lines.append(f"{escape_content(name.encode(), 80)}: {escape_content(content, 200)}")
    if x.key is not None:
        lines.append(f"key: {escape_content(x.key, 200)}")
    size = len(x.value) if x.value is not None else 0
    lines.append(f"value, {size:,} bytes: {escape_content(x.value, characters)}")
    return lines


def escape_content(content: bytes | None, characters: int) -> str:
    if content is None:
        return "none"
    return to_one_line(content[: 4 * characters].decode("utf-8", "backslashreplace"), characters)
