"""The example is made from the code, and what is shown as being in effect is."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agents.settings import Settings, gather_settings, load_settings
from agents.settings.show import ShownSetting, effective_file, example_file, settings_to_json
from agents.settings.sources import all_keys
from tests.cli.held import hold_line

FILE = Path(__file__).parents[2] / "docs" / "settings.example.toml"


def test_the_example_in_docs_is_what_the_code_makes() -> None:
    assert FILE.read_text("utf-8") == example_file(), (
        "run: geolane settings example > docs/settings.example.toml"
    )


def test_the_example_changes_nothing_with_its_keys_commented_out_or_not(tmp_path: Path) -> None:
    assert load_settings(FILE, environ={}) == Settings()
    whole = tmp_path / "whole.toml"
    whole.write_text(re.sub(r"(?m)^#(?=\w+ = )", "", example_file()), "utf-8")
    found = gather_settings(whole, environ={})
    assert found.settings == Settings()
    assert set(found.origins.values()) == {str(whole)}


def test_the_example_says_of_every_key_what_it_does_its_unit_and_its_variable() -> None:
    text = " ".join(line.removeprefix("# ") for line in example_file().splitlines())
    for key in all_keys().values():
        assert key.text in text
        unit = f"Unit: {key.unit}. " if key.unit else ""
        assert f"{unit}{key.wants[0].upper()}{key.wants[1:]}. Default: " in text
        assert f"{key.variable} #{key.name} = " in text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_shown_can_be_loaded_again(name: str) -> None:
    shown = effective_file(gather_settings(None, [f"kafka.username={name}"], {}))
    assert tomllib_of(shown)["kafka"]["username"] == name


def test_what_is_shown_says_where_each_value_is_from(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[kafka]\nbootstrap = "a:1"\n')
    loaded = gather_settings(file, ["coordinator.lanes=7"], {"GEOLANE_XMPP__PORT": "6222"})
    lines = [re.sub(" +", " ", line) for line in effective_file(loaded).splitlines()]
    for line in (
        f'bootstrap = "a:1" # {file}',
        "port = 6222 # GEOLANE_XMPP__PORT",
        "lanes = 7 # --set coordinator.lanes",
        'kernel = "auto" # default',
    ):
        assert line in lines
    shown = hold_line(settings_to_json(loaded), dict[str, ShownSetting])
    assert shown["coordinator.lanes"] == ShownSetting(7, "--set coordinator.lanes")


def tomllib_of(text: str) -> dict[str, dict[str, object]]:
    import tomllib

    return tomllib.loads(text)
