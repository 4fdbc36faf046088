"""On your own servers: `geolane install-units`, `provision`, `doctor`; also `pipeline check` and
`settings`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from agents.base.errors import SettingsError
from agents.cli.options import FILE, FOLDER, RESET, SET, FullSummaries, settings_option


@click.command("install-units")
@click.option(
    "--root",
    type=FOLDER,
    default=Path("/"),
    show_default=True,
    help="Write below this folder: for an image.",
)
@click.option(
    "--settings",
    type=click.Path(dir_okay=False, path_type=Path),
    help="[default: /etc/geolane/geolane.toml]",
)
@click.option(
    "--user", is_flag=True, help="For your own service manager: no other user, less of a sandbox."
)
def install_units(root: Path, settings: Path | None, user: bool) -> None:
    """Write the systemd units of coordinator, routers and nodes; running it again changes
    nothing."""
    from agents.admin.systemd import install

    for line in install.run(root.absolute(), settings, user=user):
        click.echo(line)


@click.command("live-page")
@click.argument("folder", type=FOLDER)
@click.option("--domain", required=True, help="The XMPP domain of people, such as example.org.")
@click.option(
    "--websocket",
    default="/ws",
    show_default=True,
    help="Address for XMPP over WebSocket, such as wss://xmpp.example.org/ws, or its path on the "
    "page's own host.",
)
def live_page(folder: Path, domain: str, websocket: str) -> None:
    """Write the live page of a fleet into FOLDER, for any web server to serve."""
    from agents.local.servers.livepage import LivePlace, install_live_page

    if not install_live_page(folder, LivePlace(domain, websocket)):
        raise SettingsError(
            "the page's libraries are not installed here: run `make install` in a clone of "
            "geolane, and there `.venv/bin/geolane live-page ...`"
        )
    click.echo(f"{folder}: serve this folder; it is opened by {folder / 'index.html'}")


@click.command()
@settings_option
@click.option(
    "--inventory",
    type=FILE,
    help="Inventory (TOML) with the workers [default: coordinator.inventory].",
)
@click.option(
    "--people",
    metavar="NAME:AFFILIATION",
    multiple=True,
    help="Who may enter the room: ana:owner (admin, member).",
)
@click.option(
    "--secrets",
    type=FOLDER,
    help="Folder of the passwords, a file per account [default: secrets beside FILE].",
)
@click.option("--only", type=click.Choice(["xmpp", "kafka"]), help="Only one of the two servers.")
@click.option(
    "--lanemap", type=FILE, help="Publish this lane map (geolane lanes build) if there is none."
)
@click.option(
    "--sample",
    type=FILE,
    help="Make the lane map from this sample, an event per line, if there is none.",
)
@RESET
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option(
    "--print",
    "print_",
    is_flag=True,
    help="Connect to nothing; print the commands an administrator can run.",
)
def provision(
    settings: Path, sets: tuple[str, ...], **options: Any
) -> None:  # Any: as declared above
    """Make accounts, room and feeds on your ejabberd, topics and rights on your Kafka; running it
    again changes nothing."""
    from agents.admin.provision.options import ProvisionOptions
    from agents.admin.provision.run import run
    from agents.base import log, supervisor
    from agents.settings import load_settings

    log.setup("provision", "CRITICAL")  # an error is reported once, in the last line
    asked = ProvisionOptions.from_options(load_settings(settings, sets), settings, options)
    sys.exit(supervisor.run(lambda: run(asked, click.echo), tell=False))


@click.command()
@click.option(
    "--settings", type=FILE, help="The settings file (default: that of the running stack)."
)
@SET
@click.option(
    "--secrets",
    type=FOLDER,
    help="Folder with a password file per account, to be checked too [default: secrets beside the "
    "settings].",
)
@click.option(
    "--as",
    "account",
    metavar="ACCOUNT",
    help="geolane, node-iad-1, ana (default: whose password it names).",
)
@click.option("--json", "as_json", is_flag=True, help="One object: ok, account, counts, findings.")
def doctor(
    settings: Path | None,
    sets: tuple[str, ...],
    secrets: Path | None,
    account: str | None,
    as_json: bool,
) -> None:
    """Look at everything that can be reached, and say what to do: files, this machine, Kafka, XMPP,
    the fleet.

    It changes nothing and fences no worker. Exit code 0: no fault; 1: at least one; 2: the settings
    are wrong."""
    from agents.admin.doctor.run import main as look
    from agents.base import log
    from agents.local.servers.folder import default_folder

    log.setup("doctor", "CRITICAL")
    if settings is None:
        run = default_folder()
        file = run / "settings" / f"{account or 'geolane'}.toml"
        settings, secrets = file if file.exists() else None, secrets or run / "secrets"
    elif secrets is None and (beside := settings.absolute().parent / "secrets").is_dir():
        secrets = beside
    sys.exit(look(settings, sets, account, secrets, as_json=as_json))


# `geolane pipeline check`.


@click.group(cls=FullSummaries)
def pipeline() -> None:
    """Try your pipeline's code before you ship it. `geolane ctl rollout` brings it into a
    running fleet."""


@pipeline.command("check")
@click.argument("spec", metavar="FILE.py[:FUNCTION]|MODULE:FUNCTION")
@click.option(
    "--events",
    type=FILE,
    help="Sample events, one per line, .gz too [default: the packaged flights]",
)
@click.option(
    "--timeout", type=click.FloatRange(1, 600), default=60.0, show_default=True, help="Seconds."
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
def pipeline_check(spec: str, events: Path | None, timeout: float, as_json: bool) -> None:
    """Try a pipeline on sample events. Exit code 0: good to ship; 1: something is wrong; 2: it
    cannot be tried."""
    import msgspec

    from agents.admin import pipeline_check as check
    from agents.base import log

    log.setup("pipeline check", "ERROR")
    verdict = check.check_pipeline(spec, events, timeout)
    click.echo(msgspec.json.encode(verdict) if as_json else "\n".join(check.report_lines(verdict)))
    sys.exit(1 if verdict.wrong else 0)


# `geolane settings`.


@click.group("settings", cls=FullSummaries)
def settings_group() -> None:
    """What can be set, and what is in effect."""


@settings_group.command("example")
def settings_example() -> None:
    """Print a settings file with every key, its unit, limits and default, commented out."""
    from agents.settings.show import example_file

    click.echo(example_file(), nl=False)


@settings_group.command("show")
@click.option("--settings", type=FILE, help="The settings file (TOML).")
@SET
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
def settings_show(settings: Path | None, sets: tuple[str, ...], as_json: bool) -> None:
    """Print the settings in effect, each with the file, variable or flag that it comes from. It
    reads no password."""
    from agents.settings import gather_settings, show

    loaded = gather_settings(settings, sets)
    click.echo(
        f"{show.settings_to_json(loaded)}\n" if as_json else show.effective_file(loaded), nl=False
    )
