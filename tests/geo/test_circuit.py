"""A circuit opens after faults, for a random and growing time, and one request tries it out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.geo.circuit import FIRST_S, MOST_S, OPEN_AFTER, TRIAL_S, Circuit


def opened(now: float = 100.0, dice: float = 1.0) -> Circuit:
    circuit = Circuit()
    for _ in range(OPEN_AFTER):
        assert circuit.admit(now) == 0
        circuit.fail(now, dice)
    return circuit


def test_some_faults_do_not_open_it() -> None:
    circuit = Circuit()
    for _ in range(3 * OPEN_AFTER):
        circuit.fail(0, 1)
        circuit.succeed()
    assert (circuit.is_open, circuit.admit(0)) == (False, 0)


def test_faults_in_a_row_open_it_for_a_random_time() -> None:
    assert opened(100, 1.0).admit(100) == FIRST_S
    assert opened(100, 0.0).admit(100) == FIRST_S / 2


def test_one_request_tries_it_out_while_the_others_wait() -> None:
    circuit = opened(100)
    assert [circuit.admit(100 + FIRST_S), circuit.admit(100 + FIRST_S)] == [0, TRIAL_S]
    assert circuit.succeed()
    assert (circuit.is_open, circuit.admit(101)) == (False, 0)


def test_a_trial_that_was_given_up_leaves_room_for_the_next() -> None:
    circuit = opened(100)
    circuit.admit(103)
    circuit.release()
    assert circuit.admit(103) == 0


def test_requests_from_before_it_opened_do_not_keep_it_open_for_longer() -> None:
    circuit = opened(100)
    assert [circuit.fail(100.5, 1) for _ in range(8)] == [0.0] * 8
    assert circuit.admit(100 + FIRST_S) == 0


@given(st.lists(st.floats(0, 1), max_size=40))
def test_it_opens_for_longer_each_time_and_never_for_more_than_minutes(dice: list[float]) -> None:
    circuit, now = opened(0, 1), FIRST_S
    for number, roll in enumerate(dice, start=1):
        assert circuit.admit(now) == 0
        open_s = circuit.fail(now, roll)
        longest = min(MOST_S, FIRST_S * 2**number)
        assert longest / 2 <= open_s <= longest
        now += open_s
