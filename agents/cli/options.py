"""Options that several sub-commands take: the settings, and the account that they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
SET = click.option(
    "--set",
    "sets",
    metavar="KEY=VALUE",
    multiple=True,
    help="Overrides file and environment: coordinator.calm.window_s=3.",
)


RESET = click.option(
    "--reset-password",
    is_flag=True,
    help="Replace the password of an account that exists and was not made here.",
)


def settings_option(f: Any) -> Any:  # Any: click's decorators are untyped in this direction
    """`--settings FILE`, which is required, and `--set`."""
    return click.option("--settings", type=FILE, required=True, help="The settings file (TOML).")(
        SET(f)
    )


def load_account_settings(
    settings: Path | None, sets: tuple[str, ...], user: str
) -> Any:  # Any: Settings, imported when needed
    """The settings of the file; without one, those of that account in the running stack. Raises
    SettingsError."""
    from agents.local.servers.folder import settings_of_running_stack
    from agents.settings import load_settings

    return load_settings(settings or settings_of_running_stack(user), sets)
