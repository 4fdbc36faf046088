"""The real stream: the numbers that the README states, and events that the router accepts."""

from __future__ import annotations

import itertools

import orjson

from agents.core.lanes.records import Event, parse_event
from agents.local.demo import flights

NOW_MS = 1_700_000_000_000


def test_the_week_has_the_events_and_airports_that_the_readme_states() -> None:
    events = [parse_event(event, NOW_MS, 1 << 20, 300) for _, event in flights.week_of_events()]
    assert len(events) == 115_309
    assert all(isinstance(e, Event) and e.lat is not None for e in events)
    assert len(flights.read_airports()) == 223


def test_the_week_follows_itself_a_week_later_with_suffixed_ids() -> None:
    turn = 115_309
    around = list(itertools.islice(flights.endless_events(), turn + 2))
    first, *_, last, again, _ = around
    assert [key for key, _ in around[-3:]] == [b"f-0115308", b"f-0000000.k1", b"f-0000001.k1"]
    times = [orjson.loads(event)["ts"] for _, event in (first, last, again)]
    assert times == ["2001-01-08T00:00:00Z", "2001-01-14T23:59:00Z", "2001-01-15T00:00:00Z"]


def test_an_event_is_about_as_long_as_in_the_benchmarks() -> None:
    sizes = [len(event) for event in flights.sample_events()]
    assert 250 < sum(sizes) / len(sizes) < 350
