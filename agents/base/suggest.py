"""What somebody may have meant: the known name that is nearest to the one they gave, or the known
names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The name most like `word`, if one is like it at all. Case does not matter."""
    folded = {name.casefold(): name for name in sorted(set(known))}
    near = difflib.get_close_matches(word.casefold(), folded, 1)
    return folded[near[0]] if near else None


def hint(word: str, known: Iterable[str], *, at_most: int = 12) -> str:
    """`Did you mean iad?`, or, when nothing is near, `There are: fra, iad.`; `at_most` names of
    them."""
    names = sorted(set(known))
    if near := nearest(word, names):
        return f"Did you mean {near}?"
    more = " ..." if len(names) > at_most else "."
    return f"There are: {', '.join(names[:at_most])}{more}" if names else "There is none."
