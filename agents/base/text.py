"""Text from others, made safe to show under our name: in a room, a log, a terminal or a journal
(PROTOCOL 4); and counts in words.

Everything from a worker, a record or a stranger's nick passes through `to_one_line` where it comes
in."""

from __future__ import annotations

import unicodedata

CUT = " ..."
SHOWN_AT_MOST = 200  # characters of others' text
_ODD = {
    "C",
    "Z",
}  # Unicode's general categories: control, format (bidi overrides), surrogates; separators
_MARKS_AT_MOST = 4  # combining marks on one letter
_FENCE = str.maketrans({"`": "'"})  # a code block of XEP-0393 would hide what follows


def counted(n: int, noun: str, plural: str = "") -> str:
    """`1 lane`, `1,200 lanes`. `plural`: if it is not `noun` with an s."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def clip_words(text: str, at_most: int) -> str:
    """`text` in at most `at_most` characters; a longer one ends with ` ...`, after a whole word
    unless that would lose more than a third of what fits."""
    if len(text) <= at_most:
        return text
    room = max(0, at_most - len(CUT))
    whole = text[: max(text.rfind(gap, 0, room + 1) for gap in " \n") + 1].rstrip(" \n,;:")
    return (whole if len(whole) * 3 >= room * 2 else text[:room].rstrip("\\")) + CUT


def format_amount(value: float, width: int) -> str:
    """A number in at most `width` characters: in thousands, millions and so on if it must be, never
    cut."""
    text = f"{value:,.0f}"
    for unit in ("k", "M", "G", "T"):
        if len(text) <= width:
            break
        value /= 1000
        text = f"{value:,.0f}{unit}"
    return text


def to_one_line(text: str, at_most: int = SHOWN_AT_MOST) -> str:
    """`text` as one line of at most `at_most` characters, cut as `clip_words` does.

    Line ends, control characters, bidi overrides, zero-width characters and the like are shown by
    their number (`\\x1b`, `\\u202e`), backticks as apostrophes."""
    text = text[: at_most + 1]
    out = text if text.isascii() and text.isprintable() else "".join(_escape_odd_characters(text))
    out = out.translate(_FENCE)
    return clip_words(out, at_most)


def to_printable(text: str, at_most: int = 4000) -> str:
    """As `to_one_line`, but keeps line ends; tabs become spaces. Only for text that we compose."""
    return "\n".join(to_one_line(line, at_most) for line in text.replace("\t", " ").split("\n"))


def _escape_odd_characters(text: str) -> list[str]:
    out: list[str] = []
    marks = 0
    for c in text:
        category = unicodedata.category(c)
        marks = marks + 1 if category[0] == "M" else 0
        if c == " ":
            out.append(c)
        elif category[0] in _ODD:
            out.append(" " if category == "Zs" else c.encode("unicode_escape").decode("ascii"))
        elif marks <= _MARKS_AT_MOST:
            out.append(c)
    return out
