"""A node's systemd unit on this machine: written as `geolane install-units` does, then enabled and
started."""

from __future__ import annotations

import subprocess
from pathlib import Path

from agents.admin.members.request import MemberRequest
from agents.admin.systemd import install
from agents.base.errors import InstallError
from agents.base.progress import PrintLine

RUNNING = Path("/run/systemd/system")
COMMAND_S = 120.0


def check_unit_works(asked: MemberRequest) -> None:
    """Raises InstallError, before anything is made, if a unit could not work here."""
    if not RUNNING.is_dir():
        raise InstallError(
            "--unit: systemd does not run here (sd_booted(3)); leave --unit out, and start the "
            "node in another way"
        )
    if asked.file.absolute().parent / "secrets" != asked.secrets:
        raise InstallError(
            f"--unit: a unit finds its password in {asked.file.absolute().parent / 'secrets'}, not "
            f"in {asked.secrets}"
        )


def start_commands(name: str) -> tuple[tuple[str, ...], ...]:
    """The commands to run, in this order. Each may be run again."""
    return (
        ("systemctl", "daemon-reload"),
        ("systemctl", "enable", "--now", f"geolane-node@{name}"),
    )


def start_unit(asked: MemberRequest, name: str, say: PrintLine) -> None:
    """Write the units, then enable and start this node's. Raises SettingsError, InstallError."""
    for file, change in install.write_units(
        install.find_place(Path("/"), asked.file.absolute(), user=False)
    ):
        say(f"{change.value}: {file}")
    for command in start_commands(name):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=COMMAND_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as e:
            raise InstallError(f"{' '.join(command)}: {e}") from e
        if done.returncode:
            raise InstallError(
                f"{' '.join(command)}: {done.stderr.strip() or f'exit code {done.returncode}'}"
            )
        say(f"done: {' '.join(command)}")
