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


class FullSummaries(click.Group):
    """A group whose help shows the first sentence of each command, wrapped and never cut."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [
            (name, command.get_short_help_str(limit=10_000))
            for name in self.list_commands(ctx)
            if (command := self.get_command(ctx, name)) is not None and not command.hidden
        ]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


class WithTimes(click.Command):
    """A command whose arguments may be times in the past, such as -2h, which is no `-h`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # Any: click's own signature
        kwargs["context_settings"] = {
            "ignore_unknown_options": True,
            "help_option_names": ["--help"],
        }
        super().__init__(*args, **kwargs)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [p for p in self.get_params(ctx) if "--help" in p.opts]
        for option in options:
            option.opts = ["-h", "--help"]  # not for the parser, which would split -2h
        try:
            super().format_options(ctx, formatter)
        finally:
            for option in options:
                option.opts = ["--help"]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["--help" if a == "-h" else a for a in args])


def settings_option(f: Any) -> Any:  # Any: click's decorators are untyped in this direction
    """`--settings FILE`, which is required, and `--set`."""
    return click.option("--settings", type=FILE, required=True, help="The settings file (TOML).")(
        SET(f)
    )


def load_account_settings(
    settings: Path | None, sets: tuple[str, ...], account: str
) -> Any:  # Any: Settings, imported when needed
    """The settings of the file, or else of the running stack, as that account uses them. Passwords
    that they do not name are taken from the folder `secrets` beside the file. Raises
    SettingsError."""
    from agents.local.servers.folder import settings_of_running_stack
    from agents.settings import load_settings, with_passwords_beside

    file = settings or settings_of_running_stack(account)
    return with_passwords_beside(
        load_settings(file, sets), account, file.absolute().parent / "secrets"
    )
