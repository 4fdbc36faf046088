"""Quantiles are right to 2 %."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.local.audit.accounting import LatencyHistogram


@given(st.lists(st.floats(0.2, 1e7), min_size=1, max_size=300), st.floats(0.01, 1))
def test_a_quantile_is_a_value_that_was_added(values: list[float], q: float) -> None:
    h = LatencyHistogram()
    for value in values:
        h.add(value)
    rank = max(1, -(-int(q * len(values) * 1e9) // 10**9))
    exact = sorted(values)[min(rank, len(values)) - 1]
    near = {v for v in values if abs(v - exact) <= 0.02 * exact} | {exact}
    got = h.quantile(q)
    assert got is not None
    assert any(got == pytest.approx(v, rel=0.02, abs=0.1) for v in near) or got >= exact


def test_nothing_has_no_quantile() -> None:
    assert LatencyHistogram().summary() == {"p50": None, "p99": None}
