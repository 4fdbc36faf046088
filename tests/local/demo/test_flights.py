"""The real stream: the numbers that the README states, and events that the router accepts."""

from __future__ import annotations

import itertools

from agents.core.lanes.records import Event, parse_event
from agents.local.demo import flights

NOW_MS = 1_700_000_000_000


def test_the_week_has_the_events_and_airports_that_the_readme_states() -> None:
    events = [parse_event(event, NOW_MS, 1 << 20, 300) for _, event in flights.week_of_events()]
    assert len(events) == 115_309
    assert all(isinstance(e, Event) and e.lat is not None for e in events)
    assert len(flights.read_airports()) == 223


def test_the_week_follows_itself_with_suffixed_ids() -> None:
    turn = 115_309
    keys = [key for key, _ in itertools.islice(flights.endless_events(), turn - 1, turn + 2)]
    assert keys == [b"f-0115308", b"f-0000000.k1", b"f-0000001.k1"]


def test_an_event_is_about_as_long_as_in_the_benchmarks() -> None:
    sizes = [len(event) for event in flights.sample_events()]
    assert 250 < sum(sizes) / len(sizes) < 350
