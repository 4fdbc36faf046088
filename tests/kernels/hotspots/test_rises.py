"""The scan over all cells finds the rows of the definition, however the rows are cut into calls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.hotspots.rises import FACTORS, Cells, Rule, find_rises
from tests.kernels.hotspots.support import Found, slow_rises

RULE = Rule(since_s=1_000_000_020, floor=12, threshold=18_000_000)
Row = tuple[int, int, int]


def fast_rises(rows: list[Row], rule: Rule, cuts: tuple[int, ...] = ()) -> list[Found]:
    table = np.array(sorted(rows), np.int64).reshape(-1, 3)
    cells, found = Cells.empty(int(table[:, 1].max(initial=0)) + 1), []
    for part in np.split(table, [c for c in sorted(cuts) if c < len(table)]):
        slot, cell, n = (np.ascontiguousarray(column) for column in part.T)
        rises = find_rises(slot, cell, n, cells, rule)
        found += [
            Found(int(slot[r.row]), int(cell[r.row]), *map(int, r[1:]))
            for r in (type(rises)(*x) for x in zip(*rises, strict=True))
        ]
    return found


def made_rows(seed: int, rule: Rule = RULE, cells: int = 5, hours: float = 2.5) -> list[Row]:
    """Poisson counts with bursts, silences and floods."""
    rng = np.random.default_rng(seed)
    rows = []
    seconds = int(hours * 3600)
    for cell in range(cells):
        rate = np.full(seconds, 10 ** rng.uniform(-2.5, 0.7))
        for _ in range(4):
            start, length = rng.integers(seconds), int(10 ** rng.uniform(1, 3.3))
            rate[start : start + length] *= rng.choice([0.0, 2.0, 4.0, 10.0])
        counts = rng.poisson(rate)
        rows += [(rule.since_s + int(s), cell, int(counts[s])) for s in np.nonzero(counts)[0]]
    return rows


@pytest.mark.parametrize("seed", range(6))
def test_the_scan_is_the_definition(seed: int) -> None:
    rows = made_rows(seed)
    fast = fast_rises(rows, RULE)
    assert len(fast) == len(set(fast))
    assert set(fast) == slow_rises(rows, RULE)
    assert {FACTORS[f.factor] for f in fast} == set(FACTORS)  # else this compares nothing


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.integers(0, 9000), st.integers(0, 2)), st.integers(1, 40), max_size=60
    ),
    st.integers(1, 12),
    st.lists(st.integers(0, 60), max_size=3),
)
def test_few_rows_at_any_distance(
    counts: dict[tuple[int, int], int], nats: int, cuts: list[int]
) -> None:
    rule = Rule(1_000_000_020, 1, nats * 1_000_000)
    rows = [(rule.since_s + slot, cell, n) for (slot, cell), n in counts.items()]
    assert sorted(fast_rises(rows, rule, tuple(cuts))) == sorted(slow_rises(rows, rule))


def test_a_usual_figure_is_kept_for_a_day() -> None:
    busy = [(RULE.since_s + s, 0, 1) for s in range(3600)]
    for later_s, usual in ((86_300, 2400), (86_520, 0)):
        flood = (RULE.since_s + 3600 + later_s, 0, 3000)
        last = fast_rises([*busy, flood], RULE)[-1]
        assert (last.at_s, last.usual) == (flood[0], usual)
        assert set(fast_rises([*busy, flood], RULE)) == slow_rises([*busy, flood], RULE)


def test_nothing_is_tested_before_there_is_a_baseline() -> None:
    flood = [(RULE.since_s + s, 0, 100) for s in range(15 * 60 - 20)]
    assert fast_rises(flood, RULE) == []
    assert fast_rises([*flood, (RULE.since_s + 15 * 60 + 40, 1, 100)], RULE)


def test_a_count_beyond_any_real_one_overflows_nothing() -> None:
    rows = [(RULE.since_s + 60 * m + s, 0, 2_000_000_000) for m in range(60) for s in (0, 59)]
    found = fast_rises(rows, RULE)
    assert all(f.usual >= 0 and f.events > 0 for f in found)
    assert sorted(found) == sorted(slow_rises(rows, RULE))
