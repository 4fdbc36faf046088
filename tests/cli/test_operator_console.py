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
from agents.core.model.feeds import OPERATOR_FEEDS
from agents.core.operators.registry import COMMANDS
from agents.local.servers import folder
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


def test_commands_nodes_and_choices_are_completed_without_the_network(settings: str) -> None:
    assert complete("ctl", incomplete="re") == {"resume", "rebalance", "reset"}
    assert "confirm" in complete("ctl"), "of what another person asked for"
    given = ("ctl", "--settings", settings)
    assert complete(*given, "drain", incomplete="iad") == {"iad-1"}
    assert "router-1" in complete(*given, "node")
    assert "router-1" not in complete(*given, "drain")
    assert "iad-1" in complete(*given, "move", "3")
    assert complete(*given, "whatif", incomplete="l") == {"lose"}
    assert "drain" in complete(*given, "help")
    assert complete(*given, "drain", "iad-1") == set(), "it takes one"
    assert complete("watch") == complete(*given, "follow") == set(OPERATOR_FEEDS)


@pytest.mark.parametrize(
    "words",
    [
        ("ctl", "status"),
        ("watch", "--plain", "--count", "1"),
        ("watch", "placement"),
        ("dead", "list"),
        ("nodes", "list"),
        ("abort-transaction", "events.lanes", "0", "7"),
    ],
)
def test_where_nothing_runs_it_says_so_and_how_to_start_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Whether or not an earlier run has left its settings there."""
    monkeypatch.setattr(folder, "default_folder", lambda: tmp_path / "run")
    with folder.RunFolder(tmp_path / "run") as run:
        (run.settings / "operator.toml").touch(mode=0o600)
        (run.settings / "geolane.toml").touch(mode=0o600)
        assert folder.is_in_use(run.path)
    done = CliRunner().invoke(main, list(words))
    assert done.exit_code == 2
    assert done.stderr == (
        f"geolane: no geolane stack runs here (in {tmp_path / 'run'}). Start one with `geolane "
        "up`, or name the settings file of your fleet with --settings FILE\n"
    )


def settings_with_password(folder: Path, xmpp: str, more: str = "") -> str:
    (folder / "secret").touch(mode=0o600)
    (folder / "secret").write_text("x\n", "ascii")
    file = folder / "x.toml"
    file.write_text(f'[xmpp]\n{xmpp}\npassword_file = "{folder / "secret"}"\n{more}', "utf-8")
    return str(file)


@pytest.mark.parametrize("command", [("ctl", "status"), ("watch", "placement"), ("watch",)])
def test_a_server_that_is_not_there_is_named_with_its_setting(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    given = ("--settings", settings_with_password(tmp_path, 'host = "127.0.0.1"\nport = 1'))
    done = CliRunner().invoke(main, [*command, *given])
    assert done.exit_code == 2
    assert "cannot connect to 127.0.0.1 port 1 (xmpp.host): connection refused" in done.stderr
    wrong = settings_with_password(tmp_path, 'host = "no.such.invalid"\ndomain = "example.org"')
    done = CliRunner().invoke(main, [*command, "--settings", wrong])
    assert done.exit_code == 2
    assert "no host is called no.such.invalid (xmpp.host)" in done.stderr
    for noise in ("Errno", "DNS record"):
        assert noise not in done.stderr


def test_a_kafka_that_is_not_there_is_named_with_its_setting(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('[kafka]\nbootstrap = "127.0.0.1:1"\n', "utf-8")
    done = CliRunner().invoke(main, ["dead", "list", "--settings", str(file)])
    assert done.exit_code == 2
    assert "no broker answers at 127.0.0.1:1 (kafka.bootstrap)" in done.stderr
    assert "AddressFamily" not in done.stderr
