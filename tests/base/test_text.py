"""What others wrote, under our name: one line that moves no cursor, turns nothing round and hides
nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.base.text import clip_words, format_amount, to_one_line, to_printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("well", "well"),
        ("two\nlines\r\x0b\u2028\u2029\x85", "two\\nlines\\r\\x0b\\u2028\\u2029\\x85"),
        ("\x1b[2J\x9b31m\x07\x00", "\\x1b[2J\\x9b31m\\x07\\x00"),
        ("\u202egnp.exe\u2066x\u2069\u200f", "\\u202egnp.exe\\u2066x\\u2069\\u200f"),
        ("a\u200bb\ufeff\u00ad", "a\\u200bb\\ufeff\\xad"),
        ("```hidden```", "'''hidden'''"),
        ("\ud800", "\\ud800"),
        ("größe 東京 ☀", "größe 東京 ☀"),
        ("a" + "\u0301" * 100, "a" + "\u0301" * 4),
        ("x" * 300, "x" * 196 + " ..."),
    ],
)
def test_one_line(text: str, shown: str) -> None:
    assert to_one_line(text) == shown


@given(st.text(max_size=80), st.integers(4, 100))
def test_it_is_printable_bounded_and_stays_as_it_is(text: str, at_most: int) -> None:
    once = to_one_line(text, at_most)
    assert once.isprintable()
    assert len(once) <= at_most
    assert "`" not in once
    assert to_one_line(once, at_most) == once


def test_lines_that_we_compose_stay_lines() -> None:
    assert to_printable("one\n\ttwo\x1b") == "one\n two\\x1b"


def test_a_long_text_ends_with_a_whole_word() -> None:
    assert clip_words("as it is", 8) == "as it is"
    assert clip_words("lanes 3, 7 and 12 moved", 18) == "lanes 3, 7 and ..."
    assert clip_words("x" * 30, 10) == "xxxxxx ...", "a word that is longer than all is cut"
    assert clip_words("KeyError: " + "x" * 90, 40) == "KeyError: " + "x" * 26 + " ..."


@given(st.text("ab ,\n\\", max_size=60), st.integers(4, 60))
def test_what_is_clipped_fits_and_is_the_beginning(text: str, at_most: int) -> None:
    clipped = clip_words(text, at_most)
    assert len(clipped) <= at_most
    assert clipped == text or text.startswith(clipped.removesuffix(" ..."))


@given(st.floats(0, 1e14), st.integers(4, 9))
def test_a_figure_is_never_cut(value: float, width: int) -> None:
    shown = format_amount(value, width)
    assert len(shown) <= width
    times = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}.get(shown[-1], 1.0)
    meant = float(shown.rstrip("kMGT").replace(",", "")) * times
    assert abs(meant - value) <= times / 2 * 1.001
