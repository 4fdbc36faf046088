"""The shipped RTT table is what it says, and a wrong one is refused by file, line and column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agents.base.errors import SettingsError
from agents.geodata import RTT_TABLE, read_rtt


def test_shipped_table_has_twelve_regions_measured_both_ways() -> None:
    rtt = read_rtt()
    assert len(rtt.regions) == 12
    assert rtt.regions[0] == "Canada Central"
    assert (np.diag(rtt.rtt_ms) == 1.0).all()
    east, west = rtt.regions.index("East US"), rtt.regions.index("West US")
    assert (rtt.rtt_ms[east, west], rtt.rtt_ms[west, east]) == (71.0, 73.0)
    assert (rtt.measured ^ np.eye(12, dtype=bool)).all()


def test_fit_is_the_least_squares_line_of_the_shipped_table() -> None:
    rtt = read_rtt()
    assert 0 < rtt.a_ms < 15
    assert 1000 * rtt.b_ms_per_km == pytest.approx(
        17, abs=1
    )  # ms per 1,000 km; twice light in fibre is about 20


LINE = "region,lat,lon,a,b,c\n"
ROWS = ["a,0,0,,20,30\n", "b,0,10,20,,\n", "c,0,20,30,12,\n"]


def table(folder: Path, text: str) -> Path:
    file = folder / "rtt.csv"
    file.write_text(text, "utf-8")
    return file


def test_pair_that_was_not_measured_gets_the_line(tmp_path: Path) -> None:
    rtt = read_rtt(table(tmp_path, LINE + "".join(ROWS)))
    assert not rtt.measured[1, 2]
    km = 1111.95
    assert rtt.rtt_ms[1, 2] == pytest.approx(rtt.a_ms + rtt.b_ms_per_km * km, rel=1e-4)
    assert rtt.rtt_ms[2, 1] == 12


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "first line"),
        ("place,lat,lon,a\n", "first line"),
        (LINE + "".join(reversed(ROWS)), "same order"),
        (LINE + ROWS[0] + ROWS[1] + "c,0,20,30\n", "4 columns"),
        (LINE + ROWS[0] + ROWS[1] + "c,0,nan,30,12,\n", "c: lon"),
        (LINE + ROWS[0] + ROWS[1] + "c,91,20,30,12,\n", "not a valid position"),
        (LINE + ROWS[0] + ROWS[1] + "c,0,20,-3,12,\n", "c to a: '-3' is not a positive number"),
        (LINE + ROWS[0] + ROWS[1] + "c,0,20,inf,12,\n", "c to a"),
        (LINE + "a,0,0,,60,30\nb,0,10,60,,60\nc,0,20,30,60,\n", "does not grow"),
        ("region,lat,lon,a,b\na,0,0,,9\nb,0,1,9,\n", "three regions"),
        ("region,lat,lon,a,a\na,0,0,,9\na,0,1,9,\n", "listed twice"),
    ],
)
def test_wrong_table_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as e:
        read_rtt(table(tmp_path, text))
    assert "rtt.csv" in str(e.value)


def test_missing_or_binary_file_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_rtt(tmp_path / "nowhere.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00region")
    with pytest.raises(SettingsError, match="is UTF-16"):
        read_rtt(tmp_path / "b.csv")


def test_readme_names_source_and_licence() -> None:
    text = RTT_TABLE.with_name("README.md").read_text("utf-8")
    assert RTT_TABLE.name in text
    assert "CC BY 4.0" in text
