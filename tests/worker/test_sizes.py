"""How much one request may move: as much as passes well within its time-out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.worker.sizes import SizeBound

FIRST, MOST, TARGET_S, TIMEOUT_S = 256 << 10, 8 << 20, 1.0, 5.0


def ask(bound: SizeBound, rtt_s: float, bytes_per_s: float, batch: int, waiting: int) -> float:
    """One fetch where this much waits: how long it took. A broker sends one batch in any case."""
    size = min(max(bound.bytes, batch), waiting)
    took_s = rtt_s + size / bytes_per_s
    if took_s > TIMEOUT_S:
        bound.note_timeout(int(bytes_per_s * (TIMEOUT_S - rtt_s)), TIMEOUT_S)
        return TIMEOUT_S
    bound.note_passed(size, took_s)
    return took_s


@given(
    rtt_s=st.floats(0, 1),
    bytes_per_s=st.floats(20e3, 1e9),
    batch=st.integers(1, 20_000),
    lulls=st.lists(st.booleans(), max_size=20),
)
def test_what_waits_passes_in_time_and_the_way_is_used(
    rtt_s: float, bytes_per_s: float, batch: int, lulls: list[bool]
) -> None:
    bound = SizeBound(FIRST, MOST, TARGET_S)
    for lull in lulls:
        ask(bound, rtt_s, bytes_per_s, batch, 300 if lull else 1 << 40)
    for _ in range(12):
        ask(bound, rtt_s, bytes_per_s, batch, 1 << 40)
        assert 1 <= bound.bytes <= MOST
    took_s = [ask(bound, rtt_s, bytes_per_s, batch, 1 << 40) for _ in range(4)]
    assert max(took_s) <= rtt_s + 2 * TARGET_S + batch / bytes_per_s
    assert bound.bytes >= min(MOST, bytes_per_s * TARGET_S / 8)


def test_a_way_that_is_quick_soon_carries_the_most() -> None:
    bound = SizeBound(FIRST, MOST, TARGET_S)
    for _ in range(3):
        ask(bound, 0.0005, 100e6, 1, 1 << 40)
    assert bound.bytes == MOST


def test_small_answers_do_not_lower_it() -> None:
    """A few events after a pause of the broker say nothing about the bandwidth."""
    bound = SizeBound(FIRST, MOST, TARGET_S)
    bound.note_passed(300, 0.001)
    bound.note_passed(300, 2.0)
    assert (bound.bytes, bound.bandwidth_bps) == (FIRST, 0.0)


def test_after_a_time_out_it_is_much_smaller_at_once() -> None:
    bound = SizeBound(MOST, MOST, TARGET_S)
    bound.note_timeout(100_000, TIMEOUT_S)
    assert (bound.bytes, bound.timeouts, bound.bandwidth_bps) == (20_000, 1, 20_000)
    bound.note_timeout(0, TIMEOUT_S)
    assert (bound.bytes, bound.timeouts) == (1, 2)
    bound.note_passed(50_000, 2.0)
    assert bound.timeouts == 0
    assert bound.bytes > 1
