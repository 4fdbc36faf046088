"""`up --exit` says why events are missing or dead, and what to do."""

from __future__ import annotations

from pathlib import Path

from agents.core.model.feeds import Severity, TroubleRow, TroubleRows
from agents.local.headless import describe_shortfall

LOG = Path("/run/log")
STOPPED = TroubleRow(
    "lane_stopped",
    "main/events.lanes/3",
    Severity.CRITICAL,
    40.0,
    "lane 3 has stopped on iad-1: pipeline failed 100 times in a row: KeyError: 'destination'.",
)


def test_lanes_that_stopped_are_named_with_the_reason_and_the_command() -> None:
    said = describe_shortfall(
        2649, {"pipeline_error": 3000}, TroubleRows(30, (STOPPED,)), "mine.py", LOG
    )
    assert said[:4] == [
        "2,649 events did not come out:",
        f"critical: {STOPPED.text}",
        "and 29 more troubles; the logs are in /run/log",
        "Dead letters: 3,000 pipeline_error.",
    ]
    assert "geolane pipeline check mine.py --events FILE" in said[4]


def test_events_that_nothing_explains_are_said_to_be_so() -> None:
    said = describe_shortfall(1, {}, TroubleRows(0, ()), "", LOG)
    assert said == ["1 event did not come out, and no trouble was told; see /run/log"]


def test_bad_events_need_no_other_pipeline() -> None:
    (dead, more) = describe_shortfall(0, {"not_json": 2}, TroubleRows(0, ()), "mine.py", LOG)
    assert dead == "Dead letters: 2 not_json."
    assert "geolane dead show" in more
