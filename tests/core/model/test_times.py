"""Times and spans as people write them."""

from __future__ import annotations

import time

import pytest

from agents.base.errors import OperatorError
from agents.core.model.times import (
    format_duration,
    format_took,
    parse_past_time_ms,
    parse_span_s,
    parse_time_ms,
)

NOW_MS = 1_782_900_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1.5h", 5400), ("3d", 259_200), ("3D", 259_200)],
)
def test_a_span_has_a_unit_and_counts_back_from_now(text: str, seconds: float) -> None:
    assert parse_span_s(text) == seconds
    assert parse_time_ms(f"-{text}", NOW_MS) == NOW_MS - seconds * 1000
    assert parse_past_time_ms(text, NOW_MS) == parse_past_time_ms(f"-{text}", NOW_MS)


def test_a_time_without_a_zone_is_utc_wherever_the_reader_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        for text in ("2026-07-01T10:00:00", "2026-07-01T10:00:00Z", "2026-07-01T12:00:00+02:00"):
            assert parse_time_ms(text, NOW_MS) == NOW_MS
        assert parse_time_ms("10:00:00", NOW_MS) == NOW_MS
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["", "h", "5", "5w", "-5m", "1e3s", "٣d", "5 m"])
def test_anything_else_is_not_a_span(text: str) -> None:
    assert parse_span_s(text) is None


@pytest.mark.parametrize("text", ["9" * 20 + "d", "9" * 400 + "d", "5w"])
def test_a_time_that_no_clock_has_is_refused(text: str) -> None:
    with pytest.raises(OperatorError, match="is not a valid time"):
        parse_past_time_ms(text, NOW_MS)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "< 1 s"),
        (0.9, "< 1 s"),
        (1.0, "1 s"),
        (119.0, "119 s"),
        (120.0, "2 min"),
        (7140.0, "119 min"),
        (7200.0, "2 h"),
        (47 * 3600.0, "47 h"),
        (48 * 3600.0, "2 d"),
    ],
)
def test_a_duration_is_in_the_largest_unit_of_which_it_has_two(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "< 0.1 s"),
        (0.42, "0.4 s"),
        (3.44, "3.4 s"),
        (9.96, "10 s"),
        (74.2, "74 s"),
        (600.0, "10 min"),
    ],
)
def test_how_long_it_took_has_two_digits_that_matter(seconds: float, text: str) -> None:
    assert format_took(seconds) == text
