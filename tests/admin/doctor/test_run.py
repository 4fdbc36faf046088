"""The report as it is printed: while checks still run, in colour on a terminal."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from agents.admin.doctor.check import Check, run_checks
from agents.admin.doctor.judge.verdict import (
    DoctorAnswer,
    Finding,
    Level,
    ReportText,
    Verdict,
    ok,
    skipped,
)
from agents.base import ports
from agents.cli.servers import doctor
from tests.cli.held import hold_line


async def test_findings_are_told_while_a_later_check_still_runs() -> None:
    told: list[str] = []
    first_told = asyncio.Event()

    def tell(finding: Finding) -> None:
        told.append(finding.name)
        first_told.set()

    async def quick() -> Verdict:
        return ok("fine")

    async def slow() -> Verdict:
        await first_told.wait()
        return ok("fine")

    async with asyncio.timeout(5):
        await run_checks([Check("g", "quick", quick), Check("g", "slow", slow)], tell)
    assert told == ["quick", "slow"]


async def test_it_is_known_what_is_being_checked() -> None:
    running: set[str] = set()
    seen: list[set[str]] = []

    async def look() -> Verdict:
        seen.append({*running})
        return ok("fine")

    checks = [Check("g", "a", look), Check("g", "b", look, after=("g a",))]
    await run_checks(checks, running=running)
    assert seen == [{"g a"}, {"g b"}]
    assert not running


def test_skipped_checks_wait_for_the_end_of_their_group_and_share_a_line() -> None:
    text = ReportText(["a", "b", "c", "d"])
    why = skipped("it is away").found
    lines = [
        list(text.add(Finding("g", "a", Level.SKIPPED, why))),
        list(text.add(Finding("g", "b", Level.OK, "fine"))),
        list(text.add(Finding("g", "c", Level.SKIPPED, why))),
        list(text.add(Finding("h", "d", Level.OK, "fine"))),
        list(text.end()),
    ]
    assert lines == [
        ["g"],
        ["  ok       b  fine"],
        [],
        [f"  skipped  2 checks  {why}: a, c", "h", "  ok       d  fine"],
        [],
    ]


@pytest.fixture
def settings(tmp_path: Path) -> str:
    """Of servers that do not run."""
    kafka, xmpp = ports.find_free_port(), ports.find_free_port()
    file = tmp_path / "geolane.toml"
    file.write_text(
        f'[kafka]\nbootstrap = "127.0.0.1:{kafka}"\n[xmpp]\nhost = "127.0.0.1"\nport = {xmpp}\n'
    )
    return f"--settings={file}"


@pytest.mark.parametrize("wanted", [True, False])
def test_levels_have_colours_on_a_terminal_only_and_none_with_no_color(
    settings: str, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    fault = "\x1b[31m\x1b[1mfault   \x1b[0m brokers"
    assert (fault in CliRunner().invoke(doctor, [settings], color=wanted).output) is wanted
    monkeypatch.setenv("NO_COLOR", "1")
    plain = CliRunner().invoke(doctor, [settings], color=wanted).output
    assert "  fault    brokers" in plain
    assert "\x1b" not in plain


def test_json_is_one_object_and_nothing_else(settings: str) -> None:
    said = CliRunner().invoke(doctor, [settings, "--json"])
    assert said.exit_code == 1
    answer = hold_line(said.output, DoctorAnswer)
    assert (answer.ok, answer.counts[Level.FAULT] >= 2) == (False, True)
