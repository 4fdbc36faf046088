"""Coordinates are filled into an event; everything else keeps its bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core.lanes.records import Event, parse_event
from agents.geo.stage import fill_origin
from tests.geo.support import CHICAGO, PARIS


def test_the_origin_says_where_the_coordinates_are_from() -> None:
    raw = b'{"id":"a","ts":5,"origin":{"place":"Paris","lat":null},"x":[1]}'
    filled = orjson.loads(fill_origin(raw, PARIS))
    assert filled["origin"] == {
        "place": "Paris",
        "lat": 48.85341,
        "lon": 2.3488,
        "geo": {
            "name": "Paris",
            "precision": "city",
            "provider": "table",
            "others": 14,
            "why": "the largest of 15 places",
        },
    }
    event = parse_event(fill_origin(raw, CHICAGO), 10, 1000, 0)
    assert event == Event("a", 5, 41.85, -87.65)


@pytest.mark.parametrize(
    "other",
    [b"1.10", b"1e400", b"12345678901234567890123456789", b'"\\u00e9\\ud83d\\ude00"', b"-0.0"],
)
def test_other_members_keep_their_bytes(other: bytes) -> None:
    raw = b'{"id":"a","x":%s,"origin":{"place":"Paris","y":%s},"ts":5}' % (other, other)
    filled = fill_origin(raw, CHICAGO)
    assert b'"x":%s,' % other in filled
    assert b'"y":%s,' % other in filled


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), JSON, max_size=4), JSON)
def test_any_event_that_a_router_takes_can_be_filled(more: dict[str, Any], inner: object) -> None:
    event = more | {"id": "a", "ts": 5, "origin": {"place": "Paris", "inner": inner}}
    raw = orjson.dumps(event)
    filled = orjson.loads(fill_origin(raw, CHICAGO))
    origin = filled.pop("origin")
    assert filled == {k: v for k, v in event.items() if k != "origin"}
    assert origin.pop("inner") == inner
    assert (origin["lat"], origin["lon"], origin["place"]) == (41.85, -87.65, "Paris")


def test_json_that_is_nested_too_deeply_is_an_error_not_a_crash() -> None:
    deep = b'{"id":"a","ts":5,"origin":{"place":"x","y":%s}}' % (b"[" * 100_000 + b"]" * 100_000)
    with pytest.raises((msgspec.DecodeError, RecursionError)):
        fill_origin(deep, CHICAGO)
