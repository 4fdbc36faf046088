"""The command `history`: entries of the leader's journal that match the filters, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.base.errors import OperatorError
from agents.base.text import clip_words
from agents.core.model.answers import Answer, HistoryData, HistoryRow
from agents.core.model.times import format_clock, parse_past_time_ms, utc_from_ms
from agents.core.model.topology import WorkerKind
from agents.core.operators.arguments import (
    PAGE,
    Argument,
    Type,
    check_page,
    find_lane,
    find_node,
    parse_page,
    split_keyed_words,
)
from agents.core.operators.command import Context, Fetch, Remembered
from agents.core.operators.tables import say_more

KINDS = ("action", "decision", "alert", "hotspot")
WIDTH = 90  # of a line in a chat

ARGUMENTS = (
    PAGE,
    Argument(
        "kind", Type.WORD, "only entries of this kind", optional=True, keyed=True, choices=KINDS
    ),
    Argument("by", Type.WORD, "who asked for it", optional=True, keyed=True),
    Argument("lane", Type.LANE, "about which lane", optional=True, keyed=True),
    Argument("node", Type.WORKER, "about which worker", optional=True, keyed=True),
    Argument(
        "since",
        Type.WORD,
        "since when: 1h, 10:00 (today, UTC), 2026-07-01T10:00:00Z",
        optional=True,
        keyed=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Search:
    """A query of the journal (agents/journal/store.py); an empty filter or None matches anything.
    `by`: a bare JID or its first part. `worker`: an account. `lane_key`: the partition's key.
    `page`: from 1, of `rows` entries each."""

    page: int
    rows: int
    kind: str = ""
    by: str = ""
    lane: int | None = None
    lane_key: str = ""
    worker: str = ""
    since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Entries:
    """One page of the `total` entries that match, newest first; empty beyond the last page."""

    total: int
    page: int
    pages: int
    rows: tuple[Remembered, ...]


def query_history(c: Context, args: Sequence[str]) -> Fetch:
    """The query of the journal. Raises OperatorError for an invalid filter."""
    plain, by = split_keyed_words(ARGUMENTS, args)
    if len(plain) > 1 or (plain and "=" in plain[0]):
        known = ", ".join(f"{a.name}=" for a in ARGUMENTS if a.keyed)
        raise OperatorError(f"{plain[-1][:40]!r} is not a page or a filter; filters are {known}.")
    lane = find_lane(c.fleet, by["lane"]).n if "lane" in by else None
    worker = ""
    if "node" in by:
        name = by["node"].strip().lower()
        worker = name if name in c.fleet.views else find_node(c.fleet, name).spec.worker
    since = by.get("since", "")
    what = Search(
        parse_page(plain),
        c.entries,
        by.get("kind", ""),
        by.get("by", ""),
        lane,
        WorkerKind.NODE.partition(lane).key if lane is not None else "",
        worker,
        parse_past_time_ms(since, c.now_ms) if since else None,
    )
    filters = [f"{name}={value}" for name, value in by.items()]
    return Fetch(what, lambda then, found: _show_entries(then, found, filters))


def _show_entries(c: Context, found: object, filters: Sequence[str]) -> Answer:
    if not isinstance(found, Entries):
        raise OperatorError("The journal cannot be read.")
    of = f" with {' '.join(filters)}" if filters else ""
    check_page(found.page, found.pages)
    data = HistoryData(
        page=found.page,
        pages=found.pages,
        total=found.total,
        rows=tuple(
            HistoryRow(at=utc_from_ms(r.ms), kind=r.kind, by=r.who, text=r.text) for r in found.rows
        ),
    )
    if not found.rows:
        return Answer(f"No entries{of}." if of else "Nothing has happened yet.", data)
    if more := say_more(found.pages, "history", found.page, c.prefix):
        more = " ".join([more, *filters])
    day = "" if len({r.ms // 86_400_000 for r in found.rows}) == 1 else ", over several days"
    lines = [
        f"{format_clock(r.ms)} {r.who.partition('@')[0] + ': ' if r.who else ''}{r.text}"
        for r in found.rows
    ]
    if c.chat:
        lines = [clip_words(line, WIDTH) for line in lines]
    first = "The newest" if found.page == 1 else f"Page {found.page} of {found.pages}"
    head = f"{first} of {found.total:,} entries{of} (UTC{day}).{more}"
    return Answer("\n".join([head, *lines]), data)
