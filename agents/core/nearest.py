"""What somebody may have meant: the known name that is nearest to the one they gave, or the known names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def hint(word: str, known: Iterable[str], *, at_most: int = 12) -> str:
    """`Did you mean iad?`, or, when nothing is near, `There are: fra, iad.`; `at_most` names of them. Case does not matter."""
    names = sorted(set(known))
    folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(word.casefold(), folded, 1)
    if near:
        return f"Did you mean {folded[near[0]]}?"
    more = " ..." if len(names) > at_most else "."
    return f"There are: {', '.join(names[:at_most])}{more}" if names else "There is none."
