"""The picture fits its terminal, whatever that is, and says the same without colours."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from agents.base.text import format_amount
from agents.core.model.feeds import PlacementFigures, Severity, TroubleRow, TroubleRows
from agents.observe.dashboard.figures import HOTSPOT, MOVE, Act, DashboardFigures, SiteOnMap
from agents.observe.dashboard.globe import draw_globe, draw_outlines, view_around
from agents.observe.dashboard.screen import (
    ScreenLayout,
    draw_screen,
    format_act_line,
    format_fleet_line,
    to_plain_text,
)
from agents.observe.dashboard.table import draw_bar
from tests.observe.dashboard.support import DALLAS, row, summary

ACTS = (
    Act(1_000_000.0, "critical", "iad-0 is gone:\nits session closed"),
    Act(1_000_001.0, MOVE, "1 placed: orphans placed"),
)
MANY = tuple(row(i, rate_eps=10.0 * i, state="gone" if i == 7 else "ok") for i in range(40))


def figures(rows: int = 40) -> DashboardFigures:
    some = MANY[:rows]
    gap = PlacementFigures(15204.2, 15180.1, 0.0016, 1, 2.1, 0)
    return DashboardFigures("geolane.test", summary(some), gap, some, ACTS, silent_s=0.4)


def seen(f: DashboardFigures, look: ScreenLayout) -> str:
    shown = draw_screen(f, look)
    assert len(shown) <= look.height
    assert max(cell_len(line.plain) for line in shown) <= look.width
    return to_plain_text(shown)


def test_what_is_wrong_comes_before_all_figures() -> None:
    some = MANY[:3]
    rows = tuple(
        TroubleRow("lane_stopped", f"{n}", Severity.CRITICAL, 74.0, f"lane {n} stands still")
        for n in range(5)
    )
    wrong = replace(summary(some), troubles=TroubleRows(9, rows))
    f = DashboardFigures("geolane.test", wrong, None, some, (), silent_s=0.4)
    shown = seen(f, ScreenLayout(80, 24)).splitlines()
    assert shown[1] == "‼ 74 s: lane 0 stands still"
    assert "6 more troubles" in shown[4]
    assert "critical: lane 0 stands still (and 8 more)" in format_fleet_line(f, 0.0)


def test_on_80_by_24_the_figures_the_trouble_and_how_many_more() -> None:
    text = seen(figures(), ScreenLayout(80, 24))
    for words in (
        "● live",
        "1,001 events/s in",
        "40 lag",
        "94 ms p99",
        "! 39/40 nodes",
        "! 1 orphaned",
        "gap 0.2%",
    ):
        assert words in text
    rows = text.splitlines()
    assert rows[5].startswith("✖ sfo-7 "), "trouble is on top"
    assert "gone" in rows[5]
    assert "and 28 more, all ok" in text
    assert "‼ iad-0 is gone: its session closed" in text
    assert "●sfo" not in text, "no room for a map"


def test_on_200_by_60_every_worker_and_the_map_beside_them() -> None:
    text = seen(figures(), ScreenLayout(200, 60))
    assert all(r.worker.removeprefix("node-") in text for r in MANY)
    assert "more, " not in text
    assert "▲iad" in text or "●iad" in text
    assert "▲ a node gone" in text
    assert any(0x2800 < ord(c) < 0x2900 for c in text), "coasts"


def test_the_map_comes_when_asked_for_and_goes_when_not_wanted() -> None:
    assert "●fra" in seen(figures(), ScreenLayout(80, 24, map=True))
    assert "●fra" not in seen(figures(), ScreenLayout(200, 60, map=False))
    assert "●fra" in seen(figures(3), ScreenLayout(80, 50)), (
        "below the table, where it is high enough"
    )


def test_what_others_add_stands_under_the_head() -> None:
    text = seen(
        figures(),
        ScreenLayout(80, 24, extra=("4,144 in   4,144 clean",), foot="Ctrl-C stops everything"),
    )
    assert text.splitlines()[3] == "4,144 in   4,144 clean"
    assert text.endswith("Ctrl-C stops everything")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"silent_s": 12.0}, "▲ last heard 12 s ago"),
        ({"silent_s": 300.0, "link": "refused"}, "✖ last heard 5 min ago; not connected: refused"),
        ({"silent_s": None, "summary": None, "rows": ()}, "… nothing heard yet"),
        ({"all_rows": False}, "not all have reported yet"),
    ],
)
def test_what_is_not_fresh_says_so(change: dict[str, object], words: str) -> None:
    assert words in seen(replace(figures(), **change), ScreenLayout(80, 24))  # type: ignore[arg-type]


@settings(deadline=None, max_examples=40)  # a new frame is drawn once, in 0.2 s
@given(st.integers(20, 220), st.integers(8, 70), st.integers(0, 40), st.none() | st.booleans())
def test_nothing_is_wider_or_higher_than_the_terminal(
    width: int, height: int, rows: int, map_: bool | None
) -> None:
    seen(figures(rows), ScreenLayout(width, height, map=map_))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), max_size=8),
    st.integers(8, 120),
    st.integers(4, 40),
)
def test_a_map_of_any_places_has_its_size(
    spots: list[tuple[float, float]], columns: int, high: int
) -> None:
    sites = [SiteOnMap(f"s{i}", lat, lon, 0.5, 1, i % 2) for i, (lat, lon) in enumerate(spots)]
    hot = [replace(DALLAS, lat=lon / 2, lon=lat * 2) for lat, lon in spots[::2]]
    shown = draw_globe(sites, columns, high, hot)
    assert len(shown) == high
    assert max(cell_len(line.plain) for line in shown) <= columns
    assert not spots or any(mark in to_plain_text(shown) for mark in "●✖")


def test_a_place_is_drawn_where_it_is() -> None:
    west, east = SiteOnMap("w", 40.0, -120.0, 0.1, 1, 1), SiteOnMap("e", 30.0, -80.0, 0.1, 1, 1)
    f = view_around([west, east], 80, 20)
    (x0, y0), (x1, y1) = f.cell_at(west.lon, west.lat), f.cell_at(east.lon, east.lat)
    assert x0 < 16 < 64 < x1
    assert y0 < y1
    # The coast of Florida: land to both sides of 82 W at 29 N is not water at the frame's edge.
    assert any(
        c != " "
        for c in draw_outlines(f)[f.cell_at(-82.0, 29.0)[1]][
            f.cell_at(-84.0, 29.0)[0] : f.cell_at(-79.0, 29.0)[0]
        ]
    )


def test_numbers_and_bars_fit_their_columns() -> None:
    assert [format_amount(x, 6) for x in (0.4, 12345, 1234567, 9.9e9)] == [
        "0",
        "12,345",
        "1,235k",
        "9,900M",
    ]
    assert [draw_bar(x, 4) for x in (0, 0.5, 1, 7)] == ["    ", "██  ", "████", "████"]


def test_a_log_line_names_who_is_not_well_and_what_is_stale() -> None:
    line = format_fleet_line(replace(figures(), silent_s=9.0), 1_000_000.0)
    assert line.startswith("1970-01-12T13:46:40Z fleet ▲ last heard 9 s ago")
    assert "39/40 nodes, 1 router, 30/32 lanes (1 moving, 1 orphaned)" in line
    assert line.endswith("not ok: sfo-7 gone")
    assert (
        format_act_line(ACTS[0])
        == "1970-01-12T13:46:40Z alert critical: iad-0 is gone: its session closed"
    )
    assert format_act_line(ACTS[1]).endswith("Z move: 1 placed: orphans placed")


def test_a_hotspot_has_a_ring_a_name_and_a_count() -> None:
    f = replace(figures(), hotspots=(DALLAS,))
    text = seen(f, ScreenLayout(160, 50))
    assert "◎Dallas" in text
    assert "◎ a hotspot" in text
    assert "◎ 1 hotspot" in text
    assert "◎" not in seen(figures(), ScreenLayout(160, 50))
    assert "1 hotspot, gap 0.2%" in format_fleet_line(f, 0.0)
    act = Act(1_000_000.0, HOTSPOT, "Hotspot at Dallas, US")
    assert format_act_line(act) == "1970-01-12T13:46:40Z hotspot: Hotspot at Dallas, US"
