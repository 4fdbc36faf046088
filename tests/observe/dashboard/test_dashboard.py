"""Items become figures: shares of rows make a whole, what was told is not told twice, silence is
seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import pytest

from agents.cli.json_schema import list_outputs
from agents.core.model.feeds import (
    ALERTS,
    FLEET,
    GEO,
    HOTSPOTS,
    PLACEMENT,
    AlertItem,
    FeedElement,
    FeedItem,
    GeoItem,
    LaneTrafficRow,
    MoveItem,
    PlacementFigures,
    PlacementPlan,
    Severity,
)
from agents.core.model.hotspots import HotspotState
from agents.core.model.messages import Telemetry
from agents.observe.dashboard.figures import Dashboard, order_rows, sites_on_map
from agents.observe.dashboard.run import FeedLine, format_item
from plugins.feeds import Published, item_to_entry
from plugins.telemetry import telemetry_to_xml
from tests.cli.held import hold_line
from tests.observe.dashboard.support import DALLAS, hot_item, item, row, summary

PLAN = PlacementPlan(
    7,
    "drain",
    "ana@geolane.test",
    (MoveItem(3, "a", "b", 2, 0.0), MoveItem(1, "a", "b", 2, 0.0), MoveItem(5, "", "c", 1, 0.0)),
)
MOVED = FeedItem(PLACEMENT, "plan-4-7", "3 placed: drain", "", PLAN, 4)


def test_shares_of_rows_make_a_whole_and_the_newest_of_each_counts() -> None:
    board = Dashboard("geolane.test")
    board.take_item(item(summary([row(0), row(1)], turn=0, turns=2)), 10.0, 1000.0)
    f = board.figures_at(10.0)
    assert (len(f.rows), f.all_rows) == (2, False)
    board.take_item(item(summary([row(2)], turn=1, turns=2)), 11.0, 1001.0)
    board.take_item(item(summary([row(0), row(1, state="gone")], turn=0, turns=2)), 12.0, 1002.0)
    f = board.figures_at(12.0)
    assert f.all_rows
    assert {r.worker: r.state for r in f.rows} == {
        "node-iad-0": "ok",
        "node-sfo-1": "gone",
        "node-fra-2": "ok",
    }
    board.take_item(item(summary([row(0)])), 13.0, 1003.0)
    assert [r.worker for r in board.figures_at(13.0).rows] == ["node-iad-0"], (
        "who has left is not shown"
    )


def test_an_old_coordinator_tells_of_no_worker() -> None:
    board = Dashboard("geolane.test")
    board.take_item(item(replace(summary([row(0)]), workers=None)), 10.0, 1000.0)
    f = board.figures_at(10.0)
    assert f.summary is not None
    assert (f.rows, f.all_rows) == ((), False)


def test_silence_is_seen_and_a_greeting_does_not_break_it() -> None:
    board = Dashboard("geolane.test")
    assert board.figures_at(10.0).silent_s is None
    board.take_item(item(summary([row(0)])), 10.0, 1000.0)
    assert not board.figures_at(14.0).stale
    assert board.figures_at(22.0).silent_s == 12.0
    assert board.figures_at(22.0).stale
    board.take_item(item(summary([row(0)])), 22.0, 1000.0)  # the same again
    assert board.figures_at(22.0).silent_s == 12.0
    board.take_item(item(summary([row(0)])), 23.0, 1013.0)
    assert board.figures_at(23.0).silent_s == 0.0


def test_what_the_service_kept_is_as_old_as_it_says() -> None:
    board = Dashboard("geolane.test")
    board.take_item(item(summary([row(0)])), 10.0, 1000.0, age_s=300.0)
    assert board.figures_at(10.0).silent_s == 300.0


def test_a_move_and_an_alert_are_told_once_and_in_words() -> None:
    board = Dashboard("geolane.test")
    act = board.take_item(MOVED, 10.0, 1000.0)
    assert act is not None
    assert act.text == "3 placed: drain, by ana; a to b: 1, 3; orphan to c: 5"
    assert board.take_item(MOVED, 11.0, 1000.0) is None
    gone = FeedItem(
        ALERTS, "alert-4-1", "x is gone", "", AlertItem(Severity.CRITICAL, "node_gone", "node-x"), 4
    )
    board.take_item(gone, 12.0, 990.0)
    assert [a.kind for a in board.figures_at(12.0).acts] == ["critical", "move"], (
        "by their own time"
    )


def test_a_site_is_as_loaded_as_what_is_left_of_it() -> None:
    rows = [
        row(0, rate_eps=500),
        row(3, state="gone", rate_eps=0),
        row(1, state="sick"),
        row(9, kind="router"),
        row(8, kind="streams"),
    ]
    iad, sfo = sites_on_map(rows)
    assert (iad.name, iad.workers, iad.well, iad.load) == ("iad", 2, 1, 0.25)
    assert (sfo.name, sfo.well, sfo.load) == ("sfo", 0, 0.0)


def test_trouble_comes_first_and_load_only_where_not_all_fit() -> None:
    rows = [row(0), row(1, rate_eps=1900), row(2, state="gone")]
    assert [r.worker for r in order_rows(rows, 3)] == ["node-fra-2", "node-iad-0", "node-sfo-1"]
    assert [r.worker for r in order_rows(rows, 2)] == ["node-fra-2", "node-sfo-1"]


def test_a_hotspot_is_shown_until_it_has_ended() -> None:
    board = Dashboard("geolane.test")
    act = board.take_item(hot_item(DALLAS), 10.0, 1000.0)
    assert act is not None
    assert (act.kind, act.text) == ("hotspot", "open: Dallas, US")
    assert board.take_item(hot_item(DALLAS), 11.0, 1000.0) is None, "the service sends it again"
    larger = replace(DALLAS, id="x-1", place="Paris, FR", eps=90.0)
    board.take_item(hot_item(larger), 12.0, 1001.0)
    assert [h.place for h in board.figures_at(12.0).hotspots] == ["Paris, FR", "Dallas, US"]
    over = replace(DALLAS, state=HotspotState.ENDED, ended_s=1060)
    board.take_item(hot_item(over), 13.0, 1002.0)
    assert board.figures_at(13.0).hotspots == (larger,)
    assert board.figures_at(12.0 + 86_401.0).hotspots == ()
    board.take_item(hot_item(DALLAS), 14.0, 1003.0, age_s=90_000.0)
    assert board.figures_at(14.0).hotspots == (larger,), "nothing was heard of it for a day"


def test_an_item_is_printed_with_its_own_time() -> None:
    at = datetime(2026, 11, 22, 22, 8, 12, tzinfo=UTC)
    figures = PlacementFigures(2.0, 1.0, 0.01, 3, 4.0, 0)
    made = FeedItem(PLACEMENT, "current", "a plan", "a plan; planned in 4 ms", figures, 4)
    item = Published(PLACEMENT, "current", "", item_to_entry(made, at), kept=True)
    assert format_item(item, as_json=False) == (
        "2026-11-22T22:08:12Z  a plan\n    a plan; planned in 4 ms"
    )
    said = hold_line(format_item(item, as_json=True), FeedLine[PlacementFigures])
    assert (said.updated, said.item_id, said.element.gap) == (at, "current", 0.01)


LANE_TRAFFIC = LaneTrafficRow(3, 1.25, True, "apple", 3.0, 60.0, "Ohio")


@pytest.mark.parametrize(
    ("command", "feed", "item_id", "element"),
    [
        ("watch --json", FLEET, "current", summary([row(0)])),
        ("watch placement --json", PLACEMENT, "plan-4-7", PLAN),
        (
            "watch placement --json (item `current`)",
            PLACEMENT,
            "current",
            PlacementFigures(2.0, 1.0, 0.01, 3, 4.0, 0),
        ),
        ("watch alerts --json", ALERTS, "a1", AlertItem(Severity.WARNING, "node_gone", "node-1")),
        ("watch hotspots --json", HOTSPOTS, DALLAS.id, DALLAS),
        ("watch geo --json", GEO, "current", GeoItem(1, 3, 100, (LANE_TRAFFIC,))),
    ],
)
def test_every_feed_is_printed_as_the_schema_says(
    command: str, feed: str, item_id: str, element: FeedElement
) -> None:
    at = datetime(2026, 11, 22, 22, 8, 12, tzinfo=UTC)
    entry = item_to_entry(FeedItem(feed, item_id, "a title", "in words", element, 4), at)
    text = format_item(Published(feed, item_id, "", entry, kept=True), as_json=True)
    line = cast("type[FeedLine[FeedElement]]", dict(list_outputs())[f"geolane {command}"])
    assert hold_line(text, line).element == element


def test_telemetry_is_printed_as_the_schema_says() -> None:
    said = Telemetry("b1", 7, "2026-11-22T22:08:12Z", 0.25, 40.0)
    feed = "telemetry/node-iad-0"
    text = format_item(Published(feed, "", "", telemetry_to_xml(said), kept=False), as_json=True)
    assert hold_line(text, Telemetry) == said
