"""The hotspot benchmark on a few areas: limits, bursts, calibration, scores."""

from __future__ import annotations

import numpy as np
import pytest

from agents.core.model.hotspots import Rise
from benchmarks.hotspot_map import (
    APART_S,
    DAY_S,
    WARM_S,
    Area,
    Burst,
    draw_area,
    draw_bursts,
    made_up_areas,
    profile,
    usual_by_minute,
    with_limit,
)
from benchmarks.hotspot_methods import METHODS, Alarms, Method, row_of
from benchmarks.hotspot_speed import measure_size, measure_speed, speed_tables
from benchmarks.hotspots import (
    LADDER_NATS,
    OURS,
    OURS_CALIBRATED,
    Day,
    Result,
    Sizes,
    Trial,
    as_rises,
    count_false,
    figures_of,
    find_ours,
    find_threshold,
    interpolate_threshold,
    opened,
    page,
    recall_lead,
    rows_of,
    score_day,
)

AREAS = list(made_up_areas(np.random.default_rng(1), set(), 3))
AREA = AREAS[0]._replace(eps=np.full_like(AREAS[0].eps, 0.5))
STRONG = Burst(0, (0,), WARM_S + 30_000, 300, 10.0, "step", "cell", 0)


def test_a_step_in_one_cell_shows_after_the_known_limit() -> None:
    weak = with_limit(AREA, STRONG._replace(factor=3.0, duration_s=600))
    assert weak.limit_s == pytest.approx(25 * 3 / (0.5 * 4), abs=1)
    assert with_limit(AREA, weak._replace(duration_s=30)).limit_s == 0


def test_a_ramp_shows_later_and_a_city_sooner_than_a_step_in_a_cell() -> None:
    step = with_limit(AREA, STRONG).limit_s
    assert with_limit(AREA, STRONG._replace(shape="ramp")).limit_s > step
    city = STRONG._replace(cells=tuple(range(len(AREA.cells))), extent="city")
    assert with_limit(AREA, city).limit_s < step


def test_a_moving_burst_is_in_one_cell_at_a_time() -> None:
    times = profile(STRONG._replace(cells=(0, 3, 5), extent="moving"))
    assert ((times > 1).sum(axis=0) == 1).all()
    assert ((times > 1).sum(axis=1) == 100).all()


def test_bursts_of_an_area_are_apart_and_the_seed_decides_them() -> None:
    bursts = draw_bursts(np.random.default_rng(5), AREAS, 12)
    assert bursts == draw_bursts(np.random.default_rng(5), AREAS, 12)
    for area in range(len(AREAS)):
        ordered = sorted(b.start_s for b in bursts if b.area == area)
        assert (np.diff(ordered) > APART_S).all()
    assert all(b.start_s >= WARM_S and b.end_s < WARM_S + DAY_S for b in bursts)


def test_events_have_the_rates_of_the_map_and_of_its_bursts() -> None:
    events = draw_area(AREA, [STRONG], seed=3)
    assert (events == draw_area(AREA, [STRONG], seed=3)).all()
    assert events[1:].mean() == pytest.approx(0.5, rel=0.02)
    burst = events[0, STRONG.start_s : STRONG.end_s]
    assert burst.mean() == pytest.approx(5.0, rel=0.1)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_raises_an_alarm_in_a_strong_burst(method: Method) -> None:
    events = draw_area(AREA, [STRONG], seed=3)
    row = row_of(events[0], usual_by_minute(AREA)[0])
    score = method.run(row, method.lowest, True).score.max()
    found = method.run(row, score * 0.7, False).at
    assert len(found)
    assert STRONG.start_s < found[0] < STRONG.end_s


def test_ours_finds_it_before_it_is_twice_as_long_as_its_limit() -> None:
    burst = with_limit(AREA, STRONG)
    rises = {
        area.name: [
            rise
            for cell, row in rows_of(area, [burst] if area is AREA else [], seed=3)
            for rise in find_ours(cell, row, 18.0)
        ]
        for area in (AREA, *AREAS[1:])
    }
    day = score_day([AREA, *AREAS[1:]], [burst], rises)
    assert day.false == 0
    assert 0 < day.trials[0].delay_s <= 2 * burst.limit_s


def test_an_alarm_far_from_a_burst_is_false_and_one_soon_after_it_is_neither() -> None:
    def rise(t: int, area: Area) -> list[Rise]:
        return list(as_rises(area.name, Alarms(np.array([t]), np.array([1.0]))))

    def score(t: int, area: Area) -> Day:
        return score_day(
            [AREA, *AREAS[1:]], [STRONG], {a.name: [] for a in AREAS} | {area.name: rise(t, area)}
        )

    assert score(STRONG.start_s + 9, AREA).trials[0].delay_s == 10
    assert score(STRONG.start_s + 9, AREAS[1]).false == 1
    assert score(STRONG.start_s - 9, AREA).false == 1
    after = score(STRONG.end_s + 60, AREA)
    assert (after.false, after.trials[0].delay_s) == (0, 0)


def test_alarms_soon_after_each_other_are_one_hotspot_for_both_counts() -> None:
    at = np.array([6000, 6030, 6100, 9000])
    alarms = Alarms(at, np.array([3.0, 4.0, 5.0, 6.0]))
    assert count_false([(np.zeros(4, np.int64), alarms)], 2.0) == 2
    assert len(opened(as_rises(AREA.name, alarms))) == 2


def test_the_threshold_leaves_one_alarm_a_day() -> None:
    scores = np.random.default_rng(0).exponential(1.0, 2000)
    at = np.arange(2000) * 1000
    day = (np.zeros(2000, np.int64), Alarms(at, scores))
    threshold = find_threshold([day, day], 0.0)
    assert count_false([day, day], threshold) == 2
    assert count_false([day, day], threshold - 1e-6) > 2


def test_the_ladder_is_interpolated_between_its_steps() -> None:
    falling = [10.0 ** (4 - i) for i in range(len(LADDER_NATS))]
    assert interpolate_threshold(falling) == LADDER_NATS[4]
    assert interpolate_threshold([0.0] * len(LADDER_NATS)) == LADDER_NATS[0]


def test_the_figures_are_of_the_bursts_above_the_limit() -> None:
    burst = STRONG._replace(limit_s=10)
    below = STRONG._replace(limit_s=0)
    days = [Day([Trial(burst, 12), Trial(burst, 0), Trial(below, 40)], 1)]
    figures = figures_of(days)
    assert (figures.above, figures.recall, figures.delay_s, figures.of_limit) == (2, 0.5, 12, 1.2)
    assert (figures.precision, figures.false_a_day) == (2 / 3, 1)
    assert recall_lead(days, days) == (0, 0, 0)


def test_speed_and_size_are_measured() -> None:
    speed = measure_speed(cells=200, slots=20, each=50, rounds=1)
    size = measure_size(cells=3000, rounds=1)
    assert size.cells == 3000 + 47  # 64 cells of resolution 5 in an area
    assert "3,047" in speed_tables([speed], [size])


def test_the_page_has_a_row_of_each_method_and_of_each_duration() -> None:
    days = [Day([Trial(STRONG._replace(area=238, limit_s=10), 12)], 1)]
    names = (OURS, OURS_CALIBRATED, *(method.name for method in METHODS))
    result = Result(dict.fromkeys(names, 9.0), dict.fromkeys(names, days), [1.0] * 9)
    text = page(result, "the tables of speed", Sizes(days=1), took_s=1.0, cpu_s=2.0)
    assert all(f"{name} | 0.500 | 1.000 | 12 s | 1.20 |" in text for name in names[1:])
    none = "none above the limit | " * 3
    assert f"| 300 s | {none}1.00 of 1, 1.20 |" in text
