"""Cells to lanes: the same for ever, balanced, compact, and heavy cells spread as Kafka's clients
would."""

from __future__ import annotations

import random

import h3
import orjson
import pytest
from aiokafka.partitioner import murmur2 as kafkas_murmur2
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.base.errors import SettingsError
from agents.core.lanes.lane_map import LaneMap, build_lane_map, murmur2

PLACES = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


def events(places: list[tuple[float, float]]) -> list[bytes]:
    return [
        orjson.dumps({"id": f"e{i}", "ts": 1000 * i, "origin": {"lat": lat, "lon": lon}})
        for i, (lat, lon) in enumerate(places)
    ]


def skewed(cells: int, seed: int = 7) -> list[tuple[float, float]]:
    """Zipf over `cells` airports or so."""
    rng = random.Random(seed)
    at = [(rng.uniform(25, 48), rng.uniform(-122, -70)) for _ in range(cells)]
    return rng.choices(at, [1 / (i + 1) for i in range(cells)], k=5000)


@given(st.binary(max_size=64))
def test_murmur2_is_kafkas(key: bytes) -> None:
    assert murmur2(key) == kafkas_murmur2(key) & 0x7FFFFFFF


def test_a_map_survives_the_topic() -> None:
    made = build_lane_map(events(skewed(100)), 32, 4, 3, total_eps=1000)
    assert LaneMap.decode(made.encode()) == made
    assert sum(made.rate_eps) == pytest.approx(1000, abs=0.01)
    assert all(x == round(x, 5) for at in made.centroid for x in at), "to a metre, not to the bit"


@settings(max_examples=30, deadline=None)
@given(
    st.lists(PLACES, min_size=1, max_size=60), st.integers(1, 40), st.randoms(use_true_random=False)
)
def test_the_order_of_the_sample_does_not_matter(
    places: list[tuple[float, float]], lanes: int, rng: random.Random
) -> None:
    sample = events(places)
    other = list(sample)
    rng.shuffle(other)
    assert (
        build_lane_map(sample, lanes, 3, 1).encode() == build_lane_map(other, lanes, 3, 1).encode()
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(PLACES, min_size=1, max_size=60), st.integers(1, 40))
def test_every_lane_is_of_one_kind_and_in_range(
    places: list[tuple[float, float]], lanes: int
) -> None:
    made = build_lane_map(events(places), lanes, 3, 1)
    slices = [n for cell in made.cell_lanes.values() if len(cell) > 1 for n in cell]
    whole = {cell[0] for cell in made.cell_lanes.values() if len(cell) == 1}
    assert len(set(slices)) == len(slices), "a slice's lane holds one slice"
    assert not whole & set(slices)
    assert all(0 <= n < lanes for n in [*slices, *whole])
    assert set(slices) | whole == set(range(lanes)), "every lane has something"
    assert all(-90 <= lat <= 90 and -180 <= lon <= 180 for lat, lon in made.centroid)
    assert sum(made.rate_eps) > 0


@pytest.mark.parametrize("lanes", [4, 12, 32, 100])
def test_lanes_are_balanced(lanes: int) -> None:
    made = build_lane_map(events(skewed(220)), lanes, 4, 1, total_eps=lanes)
    assert max(made.rate_eps) < 1.5


def test_lanes_are_compact() -> None:
    """A lane of light cells has its centroid near its cells, not in the middle of the continent."""
    made = build_lane_map(events(skewed(220)), 32, 4, 1)
    far = []
    for cell, lanes in made.cell_lanes.items():
        centroid = made.centroid[lanes[0]]
        far.append(h3.great_circle_distance(h3.cell_to_latlng(cell), centroid, unit="km"))
    assert sorted(far)[len(far) // 2] < 600


@given(PLACES, st.binary(max_size=20))
def test_both_ways_to_ask_agree(place: tuple[float, float], key: bytes) -> None:
    made = MAP
    cell, lane = made.locate_event(*place, key)
    assert cell.decode() == h3.latlng_to_cell(*place, 4)
    assert lane == made.lane_of(cell.decode(), key)
    assert made.locate_event(*place, key) == (cell, lane)


MAP = build_lane_map(events([*skewed(50), *[(41.97, -87.9)] * 4000]), 16, 4, 1)


def test_a_heavy_cell_is_spread_by_key() -> None:
    cell = h3.latlng_to_cell(41.97, -87.9, 4)
    lanes = MAP.cell_lanes[cell]
    assert len(lanes) > 3
    hits = [MAP.lane_of(cell, b"k%d" % i) for i in range(4000)]
    assert set(hits) == set(lanes)
    assert max(map(hits.count, lanes)) < 2 * 4000 / len(lanes)
    assert [MAP.locate_event(41.97, -87.9, b"k%d" % i)[1] for i in range(4000)] == hits


def test_an_unknown_cell_has_a_lane_of_its_own_hash() -> None:
    cell = h3.latlng_to_cell(-33.9, 151.2, 4)
    assert cell not in MAP.cell_lanes
    assert MAP.lane_of(cell, b"x") == murmur2(cell.encode()) % 16


def test_what_is_no_event_is_passed_over_but_something_must_be_left() -> None:
    good = events([(1.0, 2.0)])
    unplaced = orjson.dumps({"id": "u", "ts": 1, "origin": {"place": "x"}})
    assert build_lane_map([b"rubbish", unplaced, *good], 2, 4, 1) == build_lane_map(good, 2, 4, 1)
    with pytest.raises(SettingsError, match="no event"):
        build_lane_map([b"rubbish", unplaced], 2, 4, 1)
    with pytest.raises(SettingsError, match="lanes"):
        build_lane_map(good, 0, 4, 1)


def test_a_sample_in_seconds_makes_no_map_and_the_error_says_why() -> None:
    seconds = [
        orjson.dumps({"id": f"e{i}", "ts": 1_700_000_000 + i, "origin": {"lat": 1.0, "lon": 2.0}})
        for i in range(10)
    ]
    with pytest.raises(
        SettingsError, match=r"a sample of 10 lines: 10 bad_ts \(`ts` looks like seconds"
    ):
        build_lane_map(seconds, 2, 4, 1)
    told: list[str] = []
    build_lane_map([*seconds, *events([(1.0, 2.0)])], 2, 4, 1, tell=told.append)
    assert told == [
        "lane map: 10 of 11 lines skipped: "
        "10 bad_ts (`ts` looks like seconds; it must be RFC 3339 or epoch ms, is 1700000000)"
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"cells": {"842664dffffffff": [9]}},
        {"cells": {"842664dffffffff": []}},
        {"cells": {"842664dffffffff": [0, 0]}},
        {"cells": {"nonsense": [0]}},
        {"cells": {"852664c3fffffff": [0]}},
        {"lanes": 0},
        {"rate_eps": [1.0]},
        {"resolution": 16},
        {"more": 1},
        {"version": "1"},
    ],
)
def test_a_broken_map_is_refused(change: dict[str, object]) -> None:
    good: dict[str, object] = {
        "version": 1,
        "resolution": 4,
        "lanes": 2,
        "cells": {"842664dffffffff": [0]},
        "rate_eps": [1.0, 2.0],
        "centroid": [[1.0, 2.0], [3.0, 4.0]],
    }
    LaneMap.decode(orjson.dumps(good))
    with pytest.raises(SettingsError, match="lane map"):
        LaneMap.decode(orjson.dumps({**good, **change}))
    with pytest.raises(SettingsError, match="lane map"):
        LaneMap.decode(b"{")
