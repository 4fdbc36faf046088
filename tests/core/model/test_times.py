"""Times and spans as people write them."""

from __future__ import annotations

import pytest

from agents.base.errors import OperatorError
from agents.core.model.times import parse_past_time_ms, parse_span_s, parse_time_ms

NOW_MS = 1_782_900_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1.5h", 5400), ("3d", 259_200), ("3D", 259_200)],
)
def test_a_span_has_a_unit_and_counts_back_from_now(text: str, seconds: float) -> None:
    assert parse_span_s(text) == seconds
    assert parse_time_ms(f"-{text}", NOW_MS) == NOW_MS - seconds * 1000
    assert parse_past_time_ms(text, NOW_MS) == parse_past_time_ms(f"-{text}", NOW_MS)


@pytest.mark.parametrize("text", ["", "h", "5", "5w", "-5m", "1e3s", "٣d", "5 m"])
def test_anything_else_is_not_a_span(text: str) -> None:
    assert parse_span_s(text) is None


@pytest.mark.parametrize("text", ["9" * 20 + "d", "9" * 400 + "d", "5w"])
def test_a_time_that_no_clock_has_is_refused(text: str) -> None:
    with pytest.raises(OperatorError, match="is not a valid time"):
        parse_past_time_ms(text, NOW_MS)
