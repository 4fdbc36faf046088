"""Makes one key of all the ways to write a name: without case, accents, punctuation and marks of
direction, with the usual abbreviations written out.

Both the table and what people write pass through here, so a rule only has to be consistent."""

from __future__ import annotations

import re
import unicodedata
from hashlib import blake2b

# Accents of Latin, Greek and Cyrillic; vowel points of Arabic and Hebrew. Those of Indic scripts
# are part of the letter and stay. Then marks of direction and width, and all kinds of apostrophe.
_DROPPED = re.compile(
    "[\u0300-\u036f\u064b-\u0652\u0640\u0591-\u05c7"
    "\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
    "'\u2019\u02bb\u02bc`\u00b4\u2018\u02b9]+"
)
_BETWEEN_WORDS = re.compile(r"[^\w\n]+|_")
_ABBREVIATION = re.compile(r"\b(?:ste?|mt|ft)\b")
_WRITTEN_OUT = {"st": "saint", "ste": "sainte", "mt": "mount", "ft": "fort"}
_LETTERS = str.maketrans(
    {
        "ø": "o",
        "đ": "d",
        "ł": "l",
        "æ": "ae",
        "œ": "oe",
        "þ": "th",
        "ð": "d",
        "ħ": "h",
        "\u0131": "i",  # without its dot
    }
)
_SINGLE_LETTERS = re.compile(r"\b(\w) (?=\w\b)")


def fold_names(text: str) -> str:
    """The key of a name, or of several that are separated by line ends."""
    return _ABBREVIATION.sub(lambda found: _WRITTEN_OUT[found[0]], _fold_letters(text))


def _fold_letters(text: str) -> str:
    bare = _DROPPED.sub("", unicodedata.normalize("NFKD", text.casefold()))
    return _BETWEEN_WORDS.sub(" ", unicodedata.normalize("NFC", bare).translate(_LETTERS))


def fold_name(text: str) -> str:
    """The key of one name, with single spaces and none at its ends."""
    return " ".join(fold_names(text).split())


def fold_code(text: str) -> str:
    """Like `fold_name`, but an abbreviation stays one, and its letters are one word: `D.C.` is
    `dc`, and `MT` is Montana."""
    return _SINGLE_LETTERS.sub(r"\1", " ".join(_fold_letters(text).split()))


def hash_key(key: str) -> bytes:
    """Eight bytes for a key. Two of two million keys share theirs with a probability of 1 to 10
    million."""
    return blake2b(key.encode("utf-8", "replace"), digest_size=8).digest()
