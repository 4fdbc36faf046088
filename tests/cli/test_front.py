"""What every sub-command of `geolane` has: -h, whole summaries, completion."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from agents.__main__ import main
from agents.core.operators.registry import COMMANDS


def every_command(
    group: click.Group, *path: str
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from every_command(command, *path, name)
        else:
            yield (*path, name), command


def test_every_command_takes_h_and_shows_whole_summaries() -> None:
    found = dict(every_command(main))
    assert len(found) > 30
    for path, command in found.items():
        done = CliRunner().invoke(main, [*path, "-h"])
        assert done.exit_code == 0, path
        assert done.stdout.startswith("Usage: "), path
        assert "-h, --help" in done.stdout, path
        if isinstance(command, click.Group):
            shown = " ".join(done.stdout.split())
            for name, x in command.commands.items():
                first = " ".join((x.help or "").split("\n\n")[0].split()).partition(". ")[0]
                said = first.partition(" ...")[0].rstrip(".")
                assert f"{name} {said}" in shown, (path, name)


@pytest.mark.parametrize("line", [("replan", "-2h"), ("ctl", "lane", "7", "rewind", "-2h")])
def test_a_time_in_the_past_is_no_request_for_help(line: tuple[str, ...]) -> None:
    given = ("--settings", "/dev/null") if line[0] == "ctl" else ("--journal", "/dev/null")
    assert "Usage: " not in CliRunner().invoke(main, [*line, *given]).stdout


def test_the_help_of_ctl_lists_the_operator_commands_and_explains_one() -> None:
    for option in ("-h", "--help"):
        listed = CliRunner().invoke(main, ["ctl", option]).stdout
        assert [name for name in COMMANDS if f"\n  {name}" not in listed] == []
        one = CliRunner().invoke(main, ["ctl", "--user", "ana", "drain", option]).stdout
        assert one.startswith("Usage: geolane ctl drain NODE\n")
        assert one.endswith("Needs admin.\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(shell: str) -> None:
    done = CliRunner().invoke(main, ["completion", shell])
    assert done.exit_code == 0
    assert f"_GEOLANE_COMPLETE={shell}_complete" in done.stdout
    assert CliRunner().invoke(main, ["completion", "csh"]).exit_code == 2


def test_the_script_for_bash_is_valid() -> None:
    script = CliRunner().invoke(main, ["completion", "bash"]).stdout
    checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert (checked.returncode, checked.stderr) == (0, "")
