"""Figures end when their provider says so, and never last longer."""

from __future__ import annotations

from agents.core.geo.figures import Figure, Figures, GeoFigures, format_figure_source
from agents.core.model.geo import Source


def traffic(
    index: float | None, asked_s: float, valid_s: float, age_s: float = 0.0
) -> Figure[float]:
    source = Source("apple", "Apple Maps", age_s, valid_s)
    return Figure(index, "" if index else "no route", source, asked_s, live=True)


def test_a_lane_without_a_figure_has_no_traffic() -> None:
    assert GeoFigures().index_of(3, 0.0) == 1.0


def test_an_index_counts_until_it_expires() -> None:
    known = GeoFigures()
    known.traffic.put(3, traffic(1.4, 100.0, 300.0))
    assert [known.index_of(3, now) for now in (100.0, 399.9, 400.0)] == [1.4, 1.4, 1.0]


def test_an_answer_without_an_index_is_no_traffic_either() -> None:
    known = GeoFigures()
    known.traffic.put(3, traffic(1.4, 0.0, 300.0))
    known.traffic.put(3, traffic(None, 50.0, 300.0))
    assert known.index_of(3, 60.0) == 1.0
    assert list(known.traffic.known(60.0)) == []


def test_its_age_counts_from_when_it_was_asked_for() -> None:
    assert traffic(1.4, 100.0, 300.0, age_s=20.0).age_s(115.0) == 35.0
    assert format_figure_source(traffic(1.4, 100.0, 300.0, 20.0), 115.0) == "apple, live, 35 s ago"


def test_the_oldest_make_room() -> None:
    some: Figures[int, float] = Figures(2)
    for lane in (1, 2, 1, 3):
        some.put(lane, traffic(1.4, 0.0, 300.0))
    assert [lane for lane, _, _ in some.known(0.0)] == [1, 3]


def test_a_provider_that_is_away_for_a_moment_does_not_end_a_figure() -> None:
    known = GeoFigures()
    known.traffic.put(3, traffic(1.4, 0.0, 300.0))
    known.traffic.put(3, traffic(None, 200.0, 1.5))
    assert [known.index_of(3, now) for now in (201.0, 299.0, 300.0)] == [1.4, 1.4, 1.0]


def test_people_read_a_reason_for_longer_than_it_holds_back_questions() -> None:
    some: Figures[int, float] = Figures(2)
    some.put(3, traffic(None, 0.0, 1.5))
    some.drop_expired(60.0)
    assert some.get(3, 60.0) is None
    told = some.refusal_of(3, 60.0)
    assert told is not None
    assert told.reason == "no route"
    some.drop_expired(601.0)
    assert some.last(3) is None
    some.put(3, traffic(1.4, 700.0, 1.5))
    assert some.refusal_of(3, 702.0) is None
