"""What the benchmark of distance says of its figures, and when it does not measure."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks import distance, distance_live


def test_a_busy_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (2.1, 0.0, 0.0))
    with pytest.raises(SystemExit, match=r"load is 2\.1: above 2 nothing is measured"):
        distance.wait_until_quiet(0.01)
    monkeypatch.setattr("os.getloadavg", lambda: (1.9, 0.0, 0.0))
    assert distance.wait_until_quiet(0.01) == 1.9


def test_a_spread_is_the_mean_with_students_t() -> None:
    assert distance.spread([]) == ""
    assert distance.spread([7.0]) == "7"
    assert distance.spread([90.0, 95.0, 100.0, 105.0, 110.0]) == "100 (90 to 110)"
    assert distance.spread([90.0, float("inf"), 100.0]) == "none in 1 of 3 rounds"


def test_a_part_of_the_page_is_replaced_and_the_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distance, "PAGE", tmp_path / "distance.md")
    distance.write({"backlog": "first"})
    distance.write({"policies": "second"})
    distance.write({"backlog": "third"})
    text = distance.PAGE.read_text("utf-8")
    assert "first" not in text
    assert text.index("third") < text.index("second")
    assert text.count("<!-- end -->") == distance.HEAD.count("<!-- end -->") == 3


def test_each_way_and_version_has_its_row() -> None:
    found = {("visible p50", distance.NOW, ms): [1.0 * ms] for ms in distance.RTTS_MS}
    text = distance.table("visible", found, has_before=False)
    assert "| visible, p50, ms: as it is | 0 | 20 | 80 | 150 | 300 |" in text
    assert ": as it was |" not in text
    assert ": as it was |" in distance.table("visible", found, has_before=True)
    ways = {
        way: {
            q: [100.0, 200.0] if way == "robin" else [10.0, 20.0] for q in distance_live.QUANTILES
        }
        for way in distance_live.WHAT
    }
    live = distance_live.Measured(ways, {way: [0.5] for way in ways}, 0, 0)
    row = next(
        line
        for line in distance_live.table(live, distance.spread).splitlines()
        if line.startswith("| round robin")
    )
    assert row.endswith("| 50% | 0.10 |")


def test_the_plot_is_the_same_file_for_the_same_figures(tmp_path: Path) -> None:
    dice = random.Random(1)
    ways = {
        way: {q: [dice.random() for _ in range(5)] for q in distance_live.QUANTILES}
        for way in distance_live.WHAT
    }
    live = distance_live.Measured(ways, {}, 0, 0)
    files = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for file in files:
        distance_live.draw(live, file)
    assert files[0].read_bytes() == files[1].read_bytes()
