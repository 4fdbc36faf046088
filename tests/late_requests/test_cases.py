"""Exactly once whichever request arrives late: a sample of the 144 cases
(docs/chaos-requests.md)."""

from __future__ import annotations

from collections import Counter

from tests.late_requests.cases import cases

SEED = 4


def test_there_are_144_cases_and_a_third_loses_its_worker() -> None:
    everything = cases(SEED)
    assert len({(c.request, c.do, c.place) for c in everything}) == 144
    assert Counter(c.loss for c in everything) == {"": 96, "killed": 24, "fenced": 24}
    assert cases(SEED) == everything
