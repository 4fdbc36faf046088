"""Whether each record came out, and once. A test that finds otherwise is not tried again
(tests/__main__.py): it is no question of speed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

SHOWN = 5


class NotOnceError(AssertionError):
    """Records are missing, or are there twice."""


class Books(Protocol):
    """What agents/local/audit counts."""

    @property
    def events_in(self) -> int: ...
    @property
    def open(self) -> int: ...
    @property
    def duplicates(self) -> int: ...


def require_once(found: Iterable[str], expected: Iterable[str]) -> None:
    """The records by their names, in any order. Raises NotOnceError."""
    is_, should_be = Counter(found), Counter(expected)
    missing, extra = should_be - is_, is_ - should_be
    if missing or extra:
        raise NotOnceError(
            f"{missing.total()} missing: {list(missing)[:SHOWN]}; "
            f"{extra.total()} too many: {list(extra)[:SHOWN]}"
        )


def require_settled(books: Books, sent: int) -> None:
    """All that was sent has come out. Raises NotOnceError."""
    found = (books.events_in, books.open, books.duplicates)
    if found != (sent, 0, 0):
        raise NotOnceError(f"(in, open, duplicates) are {found}, and {sent} were sent")
