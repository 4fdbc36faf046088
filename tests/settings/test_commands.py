"""`geolane settings`, and `--set` of every command that takes settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from agents.__main__ import main
from agents.local.up import UpOptions
from agents.settings.show import example_file
from agents.settings.sources import PREFIX


@pytest.fixture(autouse=True)
def no_settings_of_who_runs_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def _commands(command: click.Command, name: str = "geolane") -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for below, inner in command.commands.items():
            yield from _commands(inner, f"{name} {below}")


def test_every_command_that_takes_a_settings_file_takes_set() -> None:
    options = {name: {o for p in c.params for o in p.opts} for name, c in _commands(main)}
    taking = {name for name, of in options.items() if "--settings" in of}
    assert {
        "geolane node",
        "geolane router",
        "geolane analytics",
        "geolane geo",
        "geolane coordinator",
        "geolane up",
        "geolane watch",
    } <= taking
    writing = {"geolane install-units"}  # it only writes the file's name down
    assert {name for name in taking if "--set" not in options[name]} <= writing


def test_the_example_is_printed() -> None:
    done = CliRunner().invoke(main, ["settings", "example"])
    assert (done.exit_code, done.output) == (0, example_file())


def test_what_is_in_effect_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[worker]\nbatch_records = 9\n")
    done = CliRunner().invoke(
        main,
        [
            "settings",
            "show",
            "--settings",
            str(file),
            "--set",
            "xmpp.domain=x.org",
            "--set",
            "xmpp.port=1",
        ],
        env={"GEOLANE_XMPP__HOST": "h"},
    )
    assert done.exit_code == 0
    for line in (
        f"batch_records = 9                               # {file}\n",
        'domain = "x.org"    # --set xmpp.domain\n',
        'host = "h"          # GEOLANE_XMPP__HOST\n',
        "port = 1            # --set xmpp.port\n",
    ):
        assert line in done.output


def test_a_mistake_ends_the_command_with_2_and_its_line() -> None:
    done = CliRunner().invoke(main, ["settings", "show", "--set", "worker.batch=9"])
    assert done.exit_code == 2
    assert done.stderr == (
        "geolane: --set worker.batch: there is no such key. Did you mean worker.batch_records?\n"
    )


def test_flags_and_environment_are_where_up_starts_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOLANE_COORDINATOR__KERNEL", "numpy")
    base = UpOptions.from_options(
        {"sets": ("coordinator.raw_partitions=2",), "lanes": 3}
    ).read_base_settings()
    assert (base.coordinator.kernel, base.coordinator.raw_partitions, base.coordinator.lanes) == (
        "numpy",
        2,
        3,
    )
