"""On one's own servers: `geolane install-units`, `provision`, `doctor`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from agents.commands.options import FILE, FOLDER, RESET, SET, settings_option


@click.command("install-units")
@click.option(
    "--root", type=FOLDER, default=Path("/"), show_default=True, help="Write below this folder: for an image."
)
@click.option(
    "--settings", type=click.Path(dir_okay=False, path_type=Path), help="[default: /etc/geolane/geolane.toml]"
)
@click.option("--user", is_flag=True, help="For your own service manager: no other user, less of a sandbox.")
def install_units(root: Path, settings: Path | None, user: bool) -> None:
    """Write the systemd units of coordinator, routers and nodes; the same again changes nothing."""
    from agents.systemd import install

    for line in install.run(root.absolute(), settings, user=user):
        click.echo(line)


@click.command()
@settings_option
@click.option("--inventory", type=FILE, help="Inventory (TOML) with the workers [default: coordinator.inventory].")
@click.option(
    "--people", metavar="NAME:AFFILIATION", multiple=True, help="Who may enter the room: ana:owner (admin, member)."
)
@click.option("--secrets", type=FOLDER, help="Where passwords lie, a file per account [default: secrets beside FILE].")
@click.option("--only", type=click.Choice(["xmpp", "kafka"]), help="One of the two servers.")
@click.option("--lanemap", type=FILE, help="Publish this lane map (geolane lanes build) if there is none.")
@click.option("--sample", type=FILE, help="Make the lane map from this sample, an event per line, if there is none.")
@RESET
@click.option("--dry-run", is_flag=True, help="Look, say what would be done, and do nothing.")
@click.option(
    "--print", "print_", is_flag=True, help="Connect to nothing; print the commands an administrator can run."
)
def provision(settings: Path, sets: tuple[str, ...], **options: Any) -> None:  # Any: as declared above
    """Make accounts, room and feeds on your ejabberd, topics and rights on your Kafka; again, it changes nothing."""
    from agents import log, supervisor
    from agents.provision.options import Options
    from agents.provision.run import run
    from agents.settings import load

    log.setup("provision", "CRITICAL")  # what fails is said once, in the last line
    asked = Options.of(load(settings, sets), settings, options)
    sys.exit(supervisor.run(lambda: run(asked, click.echo), tell=False))


@click.command()
@click.option("--settings", type=FILE, help="The settings file (default: that of the running stack).")
@SET
@click.option("--secrets", type=FOLDER, help="Folder with a password file per account, to be looked at too.")
@click.option("--as", "account", metavar="ACCOUNT", help="geolane, node-iad-1, ana (default: whose password it names).")
@click.option("--json", "as_json", is_flag=True, help="One object: ok, account, counts, findings.")
def doctor(
    settings: Path | None, sets: tuple[str, ...], secrets: Path | None, account: str | None, as_json: bool
) -> None:
    """Look at everything that can be reached, and say what to do: files, this machine, Kafka, XMPP, the fleet.

    It changes nothing and fences nobody. Exit code 0: no fault; 1: at least one; 2: the settings are wrong."""
    from agents import log
    from agents.doctor.run import main as look
    from agents.embedded.folder import default_folder

    log.setup("doctor", "CRITICAL")
    if settings is None:
        run = default_folder()
        file = run / "settings" / f"{account or 'geolane'}.toml"
        settings, secrets = file if file.exists() else None, secrets or run / "secrets"
    sys.exit(look(settings, sets, account, secrets, as_json=as_json))
