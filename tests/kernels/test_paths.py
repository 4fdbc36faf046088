"""RTTs completed from those that were measured: all finite, what was measured kept, and good
guesses where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.geodata import read_rtt
from kernels.geo import haversine_km_matrix
from kernels.paths import SAME_PLACE_MS, complete_paths, complete_rtts
from kernels.tables import MOST_PATH_MS, Floats

RTT = read_rtt()
KM = haversine_km_matrix(RTT.lat, RTT.lon, RTT.lat, RTT.lon)
COUNT = len(RTT.lat)
NONE = np.full((COUNT, COUNT), np.nan)
PLACES = st.tuples(st.floats(-90, 90), st.floats(-180, 180))
MS = st.none() | st.sampled_from([0.0, 0.3, 12.5, 300.0, MOST_PATH_MS]) | st.floats(0, 500)


def some_of(truth: Floats, probes: int, seed: int) -> Floats:
    """Each place has measured its RTT to this many others."""
    rng = np.random.default_rng(seed)
    known = np.zeros(truth.shape, dtype=bool)
    for i in range(len(truth)):
        others = np.delete(np.arange(len(truth)), i)
        known[i, rng.permutation(others)[:probes]] = True
    return np.where(known | known.T, truth, np.nan)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_paths_are_completed_to_finite_ones_that_keep_what_was_measured(
    data: st.DataObject,
) -> None:
    pool = data.draw(st.lists(PLACES, min_size=1, max_size=5))
    at = data.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=7))
    lat, lon = np.array([p[0] for p in at]), np.array([p[1] for p in at])
    brokers = data.draw(st.integers(0, 4))
    told = data.draw(
        st.lists(
            st.lists(MS, min_size=len(lat), max_size=len(lat)), min_size=brokers, max_size=brokers
        )
    )
    ms = np.array([[np.nan if x is None else x for x in row] for row in told]).reshape(
        brokers, len(lat)
    )
    site = np.array(
        data.draw(st.lists(st.integers(-1, len(lat) - 1), min_size=brokers, max_size=brokers)),
        dtype=np.int32,
    )
    found = complete_paths(ms, lat, lon, site)
    known = np.isfinite(ms)
    assert (found[known] == ms[known]).all()
    nothing = (site < 0) & ~known.any(axis=1)
    assert np.isnan(found[nothing]).all()
    rest = found[~nothing]
    assert (np.isfinite(rest) & (rest >= 0) & (rest <= MOST_PATH_MS)).all()


def test_the_truth_is_found_again_where_rtts_are_a_line_and_what_each_place_adds() -> None:
    rng = np.random.default_rng(1)
    own = rng.uniform(0, 20, COUNT)
    truth = 4.0 + 0.02 * KM + own[:, None] + own[None, :]
    found = complete_rtts(some_of(truth, 6, 2), KM)
    others = ~np.eye(COUNT, dtype=bool)
    assert np.median(np.abs(found - truth)[others] / truth[others]) < 0.03


def test_of_the_measured_regions_a_few_rtts_tell_the_others_better_than_any_line() -> None:
    """Azure's twelve regions: whoever knows five RTTs of each guesses the rest."""
    others = ~np.eye(COUNT, dtype=bool) & RTT.measured
    errors = []
    for seed in range(10):
        taught = some_of(RTT.rtt_ms, 5, seed)
        known = np.isfinite(taught)
        slope, start = np.polyfit(KM[known], taught[known], 1)
        rest = others & ~known
        errors.append(
            [
                np.median((np.abs(guess - RTT.rtt_ms) / RTT.rtt_ms)[rest])
                for guess in (complete_rtts(taught, KM), start + slope * KM)
            ]
        )
    completed, line = np.mean(errors, axis=0)
    assert completed < line < 0.15


def test_where_little_is_known_distance_decides() -> None:
    """Three RTTs, one of them lower than light allows: the sites beside the broker stay the
    nearest, and the order of the unknown ones is that of km."""
    lat, lon = np.zeros(10), np.array([0.0, 2, 9, 17, 26, 36, 47, 59, 72, 86])
    ms = np.full((1, 10), np.nan)
    ms[0, [3, 6, 9]] = [45.0, 20.0, 175.0]
    found = complete_paths(ms, lat, lon, np.array([0], dtype=np.int32))[0]
    assert (np.diff(found[[0, 1, 2, 4, 8]]) > 0).all()


def test_nothing_measured_is_a_line_over_distance() -> None:
    found = complete_rtts(NONE, KM)
    assert (np.diag(found) == SAME_PLACE_MS).all()
    order = KM[0].argsort()[1:]
    assert (np.diff(found[0, order]) >= 0).all()
    assert 10 < found[0, order[-1]] < 100


def test_a_broker_without_a_known_site_is_near_the_site_with_the_lowest_rtt() -> None:
    east = RTT.regions.index("East US")
    ms = np.full((2, COUNT), np.nan)
    ms[:, [0, east, 5]] = RTT.rtt_ms[east, [0, east, 5]]
    found = complete_paths(ms, RTT.lat, RTT.lon, np.array([-1, east], dtype=np.int32))
    assert np.abs(found[0] - found[1]).max() < 5.0
    assert found[0].argmin() == east


def test_brokers_at_one_site_learn_from_one_another_and_keep_their_own() -> None:
    ms = np.full((2, COUNT), np.nan)
    ms[0, 1:] = RTT.rtt_ms[0, 1:]
    ms[1, 1] = 77.0
    found = complete_paths(ms, RTT.lat, RTT.lon, np.zeros(2, dtype=np.int32))
    assert found[1, 1] == 77.0
    assert found[1, 2:].tolist() == RTT.rtt_ms[0, 2:].tolist()


@pytest.mark.parametrize("bad", [-0.1, math.inf, 10_000.5])
def test_bad_rtts_are_refused_by_row_and_column(bad: float) -> None:
    ms = NONE.copy()
    ms[2, 3] = bad
    with pytest.raises(ValueError, match=r"row 2, column 3 is .*: not a number from 0 to 10000 ms"):
        complete_rtts(ms, KM)
    with pytest.raises(ValueError, match="row 2, column 3"):
        complete_paths(ms, RTT.lat, RTT.lon, np.full(COUNT, -1, dtype=np.int32))
    with pytest.raises(ValueError, match=r"rtt_ms is \(12, 12\) and km \(3, 3\)"):
        complete_rtts(NONE, KM[:3, :3])
