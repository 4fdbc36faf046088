"""Suggestions for a mistyped name: the nearest known name, or else the list of known names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest_name(word: str, known: Iterable[str]) -> str | None:
    """The name most like `word`, or None if none is similar. Case does not matter."""
    folded = {name.casefold(): name for name in sorted(set(known))}
    near = difflib.get_close_matches(word.casefold(), folded, 1)
    return folded[near[0]] if near else None


def suggest_names(word: str, known: Iterable[str], *, at_most: int = 12) -> str:
    """`Did you mean iad?`, or, if no name is near, `There are: fra, iad.` with at most `at_most`
    names."""
    names = sorted(set(known))
    if near := nearest_name(word, names):
        return f"Did you mean {near}?"
    more = " ..." if len(names) > at_most else "."
    return f"There are: {', '.join(names[:at_most])}{more}" if names else "There is none."
