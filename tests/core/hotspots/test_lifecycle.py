"""When a hotspot opens, grows and ends."""

from __future__ import annotations

import pytest
from h3.api import basic_str as h3
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from agents.core.hotspots import lifecycle
from agents.core.hotspots.areas import area_of, areas_around
from agents.core.hotspots.lifecycle import Lifecycle
from agents.core.model.hotspots import Hotspot, HotspotState, Rise

DALLAS = h3.latlng_to_cell(32.9, -97.0, 5)
SUBURB = next(
    c for c in sorted(h3.grid_disk(DALLAS, 2)) if c != DALLAS and area_of(c) == area_of(DALLAS)
)
TOKYO = h3.latlng_to_cell(35.7, 139.7, 5)
AREA = area_of(DALLAS)
NEXT_DOOR = min(areas_around(AREA) - {AREA})


def rise(cell: str, at_s: int, took_s: int = 10, events: int = 50, usual: int = 240) -> Rise:
    return Rise(at_s, cell, 6.0, at_s - took_s + 1, events, usual, 2400)


def states(changes: list[Hotspot]) -> list[tuple[str, HotspotState]]:
    return [(h.areas[0], h.state) for h in changes]


def test_a_city_is_one_hotspot() -> None:
    life = Lifecycle()
    changes = list(
        life.advance([rise(SUBURB, 101), rise(AREA, 100), rise(DALLAS, 100), rise(TOKYO, 100)], 102)
    )
    assert len(life.open) == 2
    dallas, tokyo = sorted(life.open.values(), key=lambda h: h.areas[0] != AREA)
    assert tokyo.areas == (area_of(TOKYO),)
    assert dallas.id == f"{AREA}-100"
    assert dallas.areas == (AREA,)
    assert set(dallas.cells) == {DALLAS, SUBURB}
    assert [s for a, s in states(changes) if a == AREA] == ["open", "held", "held"]


def test_it_grows_into_a_neighbour_and_not_further() -> None:
    life = Lifecycle()
    list(life.advance([rise(AREA, 100)], 100))
    (grown,) = life.advance([rise(NEXT_DOOR, 110)], 110)
    assert grown.state is HotspotState.GROWN
    assert grown.areas == (AREA, NEXT_DOOR)
    beyond = min(areas_around(NEXT_DOOR) - areas_around(AREA))
    (other,) = life.advance([rise(beyond, 120)], 120)
    assert other.state is HotspotState.OPEN
    assert other.areas == (beyond,)


def test_its_figures_are_those_of_the_highest_excess() -> None:
    life = Lifecycle()
    list(life.advance([rise(DALLAS, 100, took_s=10, events=50)], 100))
    list(life.advance([rise(AREA, 103, took_s=10, events=200, usual=480)], 103))
    list(life.advance([rise(DALLAS, 110, took_s=10, events=60)], 110))
    (hotspot,) = life.open.values()
    assert (hotspot.peak, hotspot.eps, hotspot.usual_eps) == (AREA, 20.0, 0.2)
    assert hotspot.times_usual == 100.0


def test_it_ends_once_it_is_quiet_and_at_its_last_rise() -> None:
    life = Lifecycle()
    (opened,) = life.advance([rise(DALLAS, 1000, took_s=10)], 1000)
    assert opened.quiet_s == 120
    assert list(life.advance([], 1120)) == []
    (ended,) = life.advance([], 1121)
    assert ended.state is HotspotState.ENDED
    assert (ended.id, ended.ended_s, ended.last_s) == (opened.id, 1000, 1000)
    assert not life.open


def test_a_weak_one_may_be_quiet_for_longer() -> None:
    life = Lifecycle()
    (opened,) = life.advance([rise(DALLAS, 5000, took_s=400)], 5000)
    assert opened.quiet_s == 800
    (slow,) = life.advance([rise(TOKYO, 5100, took_s=4000)], 5100)
    assert slow.quiet_s == 3600


def test_a_rise_after_the_quiet_opens_another() -> None:
    life = Lifecycle()
    changes = list(life.advance([rise(DALLAS, 1000), rise(DALLAS, 1121)], 1121))
    assert [h.state for h in changes] == ["open", "ended", "open"]
    assert changes[0].id != changes[2].id


def test_rises_beyond_the_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "MOST_OPEN", 1)
    life = Lifecycle()
    list(life.advance([rise(DALLAS, 100), rise(TOKYO, 101), rise(DALLAS, 102)], 102))
    assert [h.areas[0] for h in life.open.values()] == [AREA]
    assert life.untracked == 1


def test_a_cell_that_is_not_on_earth_opens_nothing() -> None:
    life = Lifecycle()
    wrong = ["8fffffffffffffe", "83fffffffffffff", "80fffffffffffff", "zz", ""]
    assert list(life.advance([rise(cell, 100) for cell in wrong], 100)) == []
    assert life.untracked == len(wrong)


@example([rise(DALLAS, 100, 1), rise(DALLAS, 101, 1), rise(TOKYO, 100, 1)], [221])
@given(
    st.lists(
        st.builds(
            rise,
            st.sampled_from([DALLAS, SUBURB, TOKYO, AREA, NEXT_DOOR]),
            st.integers(100, 2000),
            st.integers(1, 90),
        ),
        max_size=30,
    ),
    st.lists(st.integers(0, 3000), max_size=5),
)
def test_the_same_rises_make_the_same_hotspots_however_they_are_cut(
    rises: list[Rise], cuts: list[int]
) -> None:
    whole, parts = Lifecycle(), Lifecycle()
    expected = list(whole.advance(rises, 9999))
    got: list[Hotspot] = []
    before = -1
    for cut in [*sorted(cuts), 9999]:
        got += parts.advance([r for r in rises if before < r.at_s <= cut], cut)
        before = cut
    assert got == expected
    assert not whole.open
    assert not parts.open
    for hotspot in expected:
        assert Hotspot.decode(hotspot.encode()) == hotspot


def test_it_is_named_after_its_peak() -> None:
    """Where a provider of maps has named that cell; the name comes when it is known."""
    life = Lifecycle()
    weak, strong = rise(DALLAS, 100), rise(SUBURB, 110, events=90)
    (opened,) = life.advance([weak], 100)
    assert (opened.name, opened.named_by) == ("", "")
    (held,) = life.advance([replace(weak, at_s=105, name="Dallas", named_by="offline")], 105)
    assert (held.peak, held.name, held.named_by) == (DALLAS, "Dallas", "offline")
    (held,) = life.advance([replace(weak, at_s=106)], 106)
    assert held.name == "Dallas", "it keeps it"
    (held,) = life.advance([strong], 110)
    assert (held.peak, held.name, held.named_by) == (SUBURB, "", ""), "another place"
    (held,) = life.advance([replace(strong, at_s=111, events=95, name="Irving")], 111)
    assert held.name == "Irving"
    (ended,) = life.advance([], 10_000)
    assert ended.name == "Irving"
