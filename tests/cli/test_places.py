"""`geolane place`: a name or coordinates, for people and for programs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from agents.__main__ import main
from agents.core.model.answers import PlaceData
from agents.local.demo.maps.apple_maps import AppleMaps
from tests.cli.held import hold_line


def run(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["place", *words])
    return done.exit_code, done.stdout, done.stderr


def test_a_name_for_people() -> None:
    code, out, _ = run("Springfield, Illinois")
    assert code == 0
    assert out.splitlines() == [
        "Springfield, Illinois, US",
        "39.8017, -89.6437 (precision: city)",
        "The only place of this name in Illinois.",
        "Source: offline, GeoNames (CC BY 4.0)",
    ]


@pytest.mark.parametrize(
    ("at", "name"), [("39.8,-89.6", "Springfield"), ("-33.9,18.4", "Cape Town")]
)
def test_coordinates_for_programs(at: str, name: str) -> None:
    code, out, _ = run(at, "--json")
    assert code == 0
    row = hold_line(out, PlaceData)
    assert (row.name, row.expires_at) == (name, None)
    assert (row.provider, row.attribution) == ("offline", "GeoNames (CC BY 4.0)")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("null",), "stands for no value"),
        (("0,200",), "not a place on Earth"),
        (("Paris", "--country", "JP"), 'no place called "Paris" in Japan is known'),
    ],
)
def test_a_reason_where_there_is_no_place(words: tuple[str, ...], reason: str) -> None:
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert reason in err


def test_a_setting_of_the_command_line_chooses_the_provider_too() -> None:
    code, out, err = run("Paris", "--set", "geo.geocoder=photon")
    assert (code, out) == (2, "")
    assert "geo.photon.url: is missing" in err


async def test_the_provider_of_the_settings_answers_and_is_named(tmp_path: Path) -> None:
    async with AppleMaps.started(tmp_path) as server:
        apple = server.settings
        file = tmp_path / "geolane.toml"
        file.write_text(
            f"""[geo]
geocoder = "apple"
[geo.apple]
url = "{apple.url}"
team_id = "{apple.team_id}"
key_id = "{apple.key_id}"
key_file = "{apple.key_file}"
budget_file = "{apple.budget_file}"
"""
        )
        code, out, err = await asyncio.to_thread(
            run, "Dallas", "--country", "us", "--settings", str(file)
        )
    assert code == 0, err
    assert "Source: invented, invented by geolane's demonstration" in out
    for secret in (apple.team_id, apple.key_id):
        assert secret not in out + err
