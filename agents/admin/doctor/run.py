"""The whole examination: all checks in the order in which they are shown, and the command
`geolane doctor`. Its exit codes:

0  no fault        1  at least one        2  the settings are wrong, and nothing else was examined
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from agents.admin.doctor.check import Check, run_checks
from agents.admin.doctor.files import Files, read_inventory_or_none
from agents.admin.doctor.fleet import FleetCheck
from agents.admin.doctor.flink import FlinkCheck
from agents.admin.doctor.host import Host
from agents.admin.doctor.judge.roles import Whom, with_passwords
from agents.admin.doctor.judge.verdict import Finding, Level, Report, ReportText
from agents.admin.doctor.kafka import KafkaCheck
from agents.admin.doctor.maps import MapsCheck
from agents.admin.doctor.streams import StreamsCheck
from agents.admin.doctor.xmpp import XmppCheck
from agents.base.errors import SettingsError
from agents.base.progress import PrintLine, line_of_waiting
from agents.kafka.rights import COORDINATOR
from agents.settings import Loaded, gather_settings


def _say_nothing(line: str) -> None:
    pass


def list_checks(
    loaded: Loaded, who: Whom, secrets: Path | None, now: Callable[[], float] = time.time
) -> list[Check]:
    """All checks. `now`: this machine's clock, in epoch seconds."""
    settings = loaded.settings
    inventory = read_inventory_or_none(settings)
    kafka = KafkaCheck(loaded, who, now, inventory)
    return [
        *Files(loaded, who, secrets).list_checks(),
        *Host(settings, who).list_checks(),
        *kafka.list_checks(),
        *XmppCheck(settings, who, inventory, now).list_checks(),
        *FleetCheck(settings, who, inventory, kafka, now).list_checks(),
        *StreamsCheck(settings, who).list_checks(),
        *FlinkCheck(settings).list_checks(),
        *MapsCheck(settings.geo, who, now, inventory).list_checks(),
    ]


async def make_report(
    loaded: Loaded,
    who: Whom,
    secrets: Path | None,
    now: Callable[[], float] = time.time,
    say: PrintLine = _say_nothing,
    running: set[str] | None = None,
) -> Report:
    """Run all checks at once. Takes about ten seconds at most. `say`: prints the lines of the
    report as they come. `running`: as `run_checks` keeps it."""
    checks = list_checks(loaded, who, secrets, now)
    text = ReportText((check.name for check in checks), _style)

    def tell(finding: Finding) -> None:
        for line in text.add(finding):
            say(line)

    report = Report(who.account, await run_checks(checks, tell, running))
    for line in (*text.end(), report.last_line):
        say(line)
    return report


_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.FAULT: "red"}


def _style(text: str, level: Level) -> str:
    # click.echo removes the colours if the output is not a terminal.
    if os.environ.get("NO_COLOR"):
        return text
    if level is Level.SKIPPED:
        return click.style(text, dim=True)
    return click.style(text, _COLOURS[level], bold=True)


def _describe_running(running: set[str]) -> str:
    return f"checking {', '.join(sorted(running))} ..." if running else "..."


def report_settings_error(error: SettingsError, account: str | None) -> Report:
    """The report if the settings are wrong: one finding per error."""
    findings = [
        Finding("files", "settings", Level.FAULT, line, "docs/settings.md")
        for line in str(error).splitlines()
    ]
    return Report(account or COORDINATOR, findings, settings_wrong=True)


def main(
    settings: Path | None,
    sets: Sequence[str],
    account: str | None,
    secrets: Path | None,
    *,
    as_json: bool,
) -> int:
    """Print the report and return the exit code."""
    from agents.base import supervisor

    for library in (
        "aiokafka",
        "slixmpp",
        "asyncio",
    ):  # the report explains their faults better
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    reports: list[Report] = []

    async def add_report() -> None:
        if as_json:
            reports.append(await make_report(loaded, who, secrets))
            return
        running: set[str] = set()
        with line_of_waiting(lambda: _describe_running(running)) as say:
            reports.append(await make_report(loaded, who, secrets, say=say, running=running))

    try:
        if settings is None:
            raise SettingsError(
                "no stack of `geolane up` has run here; name a file with --settings"
            )
        loaded = gather_settings(settings, sets)
        who = Whom.from_settings(loaded.settings, account)
        loaded = Loaded(with_passwords(loaded.settings, who, secrets), loaded.origins)
        supervisor.run(add_report, tell=False)
    except SettingsError as e:
        reports.append(report_settings_error(e, account))
        if not as_json:
            click.echo(reports[0].to_text())
    if not reports:  # interrupted
        return 1
    if as_json:
        click.echo(reports[0].to_json())
    return reports[0].code
