"""`geolane ctl` without the network: its arguments, its exit codes, its completion."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from agents.__main__ import main
from agents.base.errors import OperatorError
from agents.cli.operator_console import fields_from_words
from agents.core.operators.registry import COMMANDS
from agents.local.stack import INVENTORY


def complete(*words: str, incomplete: str = "") -> set[str]:
    found = ShellComplete(main, {}, "geolane", "_GEOLANE_COMPLETE").get_completions(
        list(words), incomplete
    )
    return {item.value for item in found}


@pytest.fixture
def settings(tmp_path: Path) -> str:
    file = tmp_path / "ana.toml"
    file.write_text(f'[coordinator]\ninventory = "{INVENTORY}"\n', "utf-8")
    return str(file)


def test_words_become_fields() -> None:
    assert fields_from_words(COMMANDS["move"], ["3", "iad-1"]) == {"lane": "3", "node": "iad-1"}
    assert fields_from_words(COMMANDS["whatif"], ["lose", "East", "US"]) == {
        "change": "lose",
        "what": "East US",
    }
    assert fields_from_words(COMMANDS["lanes"], []) == {}
    with pytest.raises(OperatorError, match="Usage: move LANE NODE"):
        fields_from_words(COMMANDS["move"], ["3"])


def test_settings_that_are_missing_exit_with_2_in_json_too(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("[xmpp]\nnonsense = 1\n", "utf-8")
    done = CliRunner().invoke(main, ["ctl", "status", "--json", "--settings", str(file)])
    assert done.exit_code == 2
    said = json.loads(done.stdout)
    assert (said["command"], said["ok"], said["fields"]) == ("status", False, {})
    assert "nonsense" in said["text"]


def test_where_no_server_is_it_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / "secret").touch(mode=0o600)
    (tmp_path / "secret").write_text("x\n", "ascii")
    file = tmp_path / "x.toml"
    file.write_text(
        f'[xmpp]\nhost = "127.0.0.1"\nport = 1\npassword_file = "{tmp_path / "secret"}"\n', "utf-8"
    )
    done = CliRunner().invoke(main, ["ctl", "status", "--settings", str(file)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("geolane: ")


def test_a_command_that_does_not_exist_needs_no_server(settings: str) -> None:
    done = CliRunner().invoke(main, ["ctl", "statsu", "--settings", settings])
    assert (done.exit_code, "Did you mean status?" in done.stdout) == (1, True)
    done = CliRunner().invoke(main, ["ctl", "confirm", "ab12", "--settings", settings])
    assert (done.exit_code, "only for the chat" in done.stdout) == (1, True)


def test_commands_nodes_and_choices_are_completed_without_the_network(settings: str) -> None:
    assert complete("ctl", incomplete="re") == {"resume", "rebalance", "reset"}
    assert "confirm" not in complete("ctl")
    given = ("ctl", "--settings", settings)
    assert complete(*given, "drain", incomplete="iad") == {"iad-1"}
    assert "router-1" in complete(*given, "node")
    assert "router-1" not in complete(*given, "drain")
    assert "iad-1" in complete(*given, "move", "3")
    assert complete(*given, "whatif", incomplete="l") == {"lose"}
    assert "drain" in complete(*given, "help")
    assert complete(*given, "drain", "iad-1") == set(), "it takes one"
