"""A bucket allows a burst, then its rate."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.base.token_bucket import TokenBucket


def test_a_burst_passes_then_one_each_time_a_token_is_refilled() -> None:
    bucket = TokenBucket(burst=2, per_s=0.5)
    assert [bucket.try_take(100.0) for _ in range(3)] == [True, True, False]
    assert [bucket.try_take(t) for t in (101.0, 102.0, 103.0, 104.0)] == [False, True, False, True]
    assert [bucket.try_take(1000.0) for _ in range(3)] == [True, True, False], (
        "never above the burst"
    )


@given(
    st.integers(1, 10),
    st.floats(0.1, 50),
    st.lists(st.floats(0, 100), min_size=1, max_size=100).map(sorted),
)
def test_no_more_pass_than_burst_and_rate_allow(
    burst: int, per_s: float, times: list[float]
) -> None:
    bucket = TokenBucket(burst, per_s)
    passed = sum([bucket.try_take(t) for t in times])
    assert passed <= burst + (times[-1] - times[0]) * per_s + 1e-6
    assert passed >= 1
