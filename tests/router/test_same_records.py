"""Both engines make the same of every record, byte for byte: lanes, dead letters with reason,
detail and headers, unplaced records."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import pytest

from agents.core.lanes.lane_map import build_lane_map
from agents.core.lanes.records import DETAIL, REASON, Reason
from agents.local.demo import flights
from tests.router.hostile import Hostile
from tests.router.streams import Out, Raw, Rules, needs_jars, sorted_by_java, sorted_by_python
from tests.worker.support import event

pytestmark = [needs_jars, pytest.mark.timeout(300)]
RULES = Rules(build_lane_map([event(i) for i in range(10)], 4, 4, 7))
OUT_OF_MEMORY = b"failed to allocate memory"
"""What orjson says of a document with hundreds of brackets that are not closed, by how much memory
it takes for its length: there alone the details differ."""


def without_unequal_details(
    python: Sequence[Out], java: Sequence[Out]
) -> tuple[list[Out], list[Out]]:
    """Both, without the details that depend on memory."""
    odd = {
        i
        for i, x in enumerate(python)
        if (dict(x.headers).get(DETAIL) or b"").startswith(OUT_OF_MEMORY)
    }

    def strip_odd(found: Sequence[Out]) -> list[Out]:
        return [
            replace(x, headers=tuple(h for h in x.headers if h[0] != DETAIL)) if i in odd else x
            for i, x in enumerate(found)
        ]

    return strip_odd(python), strip_odd(java)


def _assert_same(records: Sequence[Raw], rules: Rules, n: int = 0) -> list[Out]:
    python, java = sorted_by_python(records, rules, n), sorted_by_java(records, rules, n)
    assert len(python) == len(java) == len(records)
    expected, found = without_unequal_details(python, java)
    for record, one, other in zip(records, expected, found, strict=True):
        assert one == other, record
    return python


@pytest.mark.parametrize("seed", range(3))
def test_hostile_records(seed: int) -> None:
    found = _assert_same(list(Hostile(seed).records(8_000)), RULES, n=seed)
    seen = Counter((dict(x.headers).get(REASON) or b"").decode() for x in found)
    others = {Reason.UNREADABLE, Reason.UNKNOWN_PLACE, Reason.PIPELINE_ERROR, Reason.TOO_LARGE}
    assert seen.keys() >= {x.value for x in Reason if x not in others} | {""}
    assert {x.topic for x in found} == {"events.lanes", "events.unplaced", "events.dead"}


def test_real_records() -> None:
    values = list(islice(flights.sample_events(), 20_000))
    rules = Rules(build_lane_map(values[:5_000], 32, 4, 3))
    found = _assert_same([Raw(value, None, (), i) for i, value in enumerate(values)], rules)
    assert len({x.n for x in found}) > 20


def test_places_are_spread_and_cells_are_found_everywhere() -> None:
    rng = random.Random(1)
    values = [
        b'{"id":"e%d","ts":%d,"origin":{"lat":%r,"lon":%r}}'
        % (i, i, rng.uniform(-90, 90), rng.uniform(-180, 180))
        if i % 3
        else b'{"id":"e%d","ts":5,"origin":{"place":"Chicago"}}' % i
        for i in range(30_000)
    ]
    rules = replace(RULES, unplaced_partitions=7)
    found = _assert_same([Raw(value, None, (), i) for i, value in enumerate(values)], rules)
    assert {x.n for x in found if x.topic == "events.unplaced"} == set(range(7))


def test_large_records() -> None:
    sizes = (100, 1_000_000, 1_048_500, 1_048_576, 1_048_577, 9_432_900, 9_433_200, 12_000_000)
    records = [
        Raw(event(1, pad="x" * size), key, headers, i)
        for size in sizes
        for i, (key, headers) in enumerate(
            (
                (None, []),
                (b"k" * 300, [(b"mine", b"x" * 200)]),
                (b"", [(b"gr\xf6\xdfe", b"1"), (b"geolane-died", b"once")]),
            )
        )
    ]
    found = _assert_same(records, RULES)
    assert any(x.value is None for x in found), "some are larger than the dead letters' topic takes"
