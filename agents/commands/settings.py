"""`geolane settings`: what can be set, and what is in effect."""

from __future__ import annotations

from pathlib import Path

import click

from agents.commands.options import FILE, SET


@click.group("settings")
def settings_group() -> None:
    """What can be set, and what is in effect."""


@settings_group.command("example")
def settings_example() -> None:
    """Print a settings file with every key, its unit, limits and default, commented out."""
    from agents.settings.show import example

    click.echo(example(), nl=False)


@settings_group.command("show")
@click.option("--settings", type=FILE, help="The settings file (TOML).")
@SET
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
def settings_show(settings: Path | None, sets: tuple[str, ...], as_json: bool) -> None:
    """Print the settings in effect, and of each the file, variable or flag that it is from. No password is read."""
    from agents.settings import gather, show

    loaded = gather(settings, sets)
    click.echo(f"{show.as_json(loaded)}\n" if as_json else show.effective(loaded), nl=False)
