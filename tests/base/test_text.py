"""What others wrote, under our name: one line that moves no cursor, turns nothing round and hides
nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.base.text import to_one_line, to_printable


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
