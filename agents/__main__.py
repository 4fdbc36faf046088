"""The command `geolane`: a sub-command per process, and `up`, `settings`, `lanes`, `replan`, `watch`, `ctl`, `doctor`.
Each imports what it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agents.errors import GeolaneError
from agents.nodes.command import invite, nodes

if TYPE_CHECKING:
    from agents.systemd.notify import Service

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


class _Group(click.Group):
    """An error of ours is one line on standard error and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:  # Any: click's own signature
        try:
            return super().invoke(ctx)
        except GeolaneError as e:
            click.echo(f"geolane: {e}", err=True)
            sys.exit(2)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="geolane", prog_name="geolane")
def main() -> None:
    """Streaming ETL that stays close to its data, steered from an XMPP chat room."""


_SET = click.option(
    "--set", "sets", metavar="KEY=VALUE", multiple=True, help="Over file and environment: coordinator.calm.window_s=3."
)


def _settings_option(f: Any) -> Any:  # Any: click's decorators are untyped in this direction
    return click.option("--settings", type=_FILE, required=True, help="The settings file (TOML).")(_SET(f))


@main.command()
@_settings_option
@click.option("--name", required=True, help="This node's name in the inventory: iad-1.")
def node(settings: Path, sets: tuple[str, ...], name: str) -> None:
    """Work lanes: consume, run the pipeline, produce, exactly once."""
    service = _start(settings, f"node-{name}")
    from agents import supervisor
    from agents.node.process import run
    from agents.settings import load

    loaded = load(settings, sets).of(f"node-{name}")
    sys.exit(supervisor.run(lambda: run(loaded, name, service), service=service))


@main.command()
@_settings_option
@click.option("--name", required=True, help="This router's name in the inventory: 1.")
def router(settings: Path, sets: tuple[str, ...], name: str) -> None:
    """Check raw events and sort them into lanes."""
    service = _start(settings, f"router-{name}")
    from agents import supervisor
    from agents.router.process import run
    from agents.settings import load

    loaded = load(settings, sets).of(f"router-{name}")
    sys.exit(supervisor.run(lambda: run(loaded, name, service), service=service))


@main.command()
@_settings_option
def coordinator(settings: Path, sets: tuple[str, ...]) -> None:
    """Lead the fleet, or stand by until the leader is gone."""
    service = _start(settings, "coordinator")
    from agents import supervisor
    from agents.coordinator.process import run
    from agents.settings import load

    loaded = load(settings, sets).of("geolane")
    sys.exit(supervisor.run(lambda: run(loaded, service), service=service))


def _start(settings: Path, process: str) -> Service:
    """What every long-lived process does first; `settings` is named in the first log line."""
    from agents import log, supervisor
    from agents.systemd.notify import Service

    child = supervisor.die_with_parent()
    log.setup(process)
    log.get("main").info("starting", settings=str(settings))
    return Service.of(os.environ, hands_over=not child)


@main.command()
@click.option("--events", type=click.IntRange(min=1), help="Stop the replay after this many events.")
@click.option(
    "--exit", "leave", is_flag=True, help="No live view; end when all events are accounted for, with one line of JSON."
)
@click.option("--kill-node-at", type=click.FloatRange(0, 1), help="kill -9 a busy node at this fraction of --events.")
@click.option("--rate", type=click.FloatRange(min=1), default=1000.0, show_default=True, help="Events per second.")
@click.option("--stream", type=_FILE, help="Replay this file (an event per line, .gz too) instead of the flights.")
@click.option("--no-replay", is_flag=True, help="Replay nothing: your own producers write to events.raw.")
@click.option("--pipeline", help="Your pipeline, module:function, found from the current folder.")
@click.option("--nodes", type=click.IntRange(min=1), help="Only the first so many nodes of the inventory.")
@click.option("--lanes", type=click.IntRange(min=1), help="Lanes of events.lanes (default 32).")
@click.option("--kafka", metavar="HOST:PORT", help="Use this provisioned Kafka instead of starting one.")
@click.option(
    "--xmpp", metavar="DOMAIN", help="Use this provisioned XMPP server instead of starting one (needs --secrets)."
)
@click.option("--settings", type=_FILE, help="Settings to start from: SASL and TLS of existing servers, limits.")
@_SET
@click.option("--secrets", type=_FOLDER, help="Folder with a password file (mode 0600) per XMPP account.")
@click.option("--inventory", type=_FILE, help="Inventory (TOML) instead of ten cloud regions of North America.")
@click.option("--folder", type=_FOLDER, help="Run folder (default: .run in the project, or below /var/tmp).")
@click.option(
    "--metrics-from",
    metavar="PORT",
    type=click.IntRange(1, 65535),
    help="Serve metrics on 127.0.0.1: the coordinator's on PORT, each worker's on the next.",
)
@click.option("--no-web", is_flag=True, help="Serve no chat page.")
def up(**options: Any) -> None:  # Any: click hands over what is declared above; Options checks it
    """Run everything on this machine: servers, agents, a replayed stream; show it live."""
    from agents.embedded import up as embedded

    sys.exit(embedded.main(embedded.Options.of(options)))


@main.group("settings")
def settings_group() -> None:
    """What can be set, and what is in effect."""


@settings_group.command("example")
def settings_example() -> None:
    """Print a settings file with every key, its unit, limits and default, commented out."""
    from agents.settings.show import example

    click.echo(example(), nl=False)


@settings_group.command("show")
@click.option("--settings", type=_FILE, help="The settings file (TOML).")
@_SET
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
def settings_show(settings: Path | None, sets: tuple[str, ...], as_json: bool) -> None:
    """Print the settings in effect, and of each the file, variable or flag that it is from. No password is read."""
    from agents.settings import gather, show

    loaded = gather(settings, sets)
    click.echo(f"{show.as_json(loaded)}\n" if as_json else show.effective(loaded), nl=False)


@main.command("install-units")
@click.option(
    "--root", type=_FOLDER, default=Path("/"), show_default=True, help="Write below this folder: for an image."
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


@main.command()
@_settings_option
@click.option("--inventory", type=_FILE, help="Inventory (TOML) with the workers [default: coordinator.inventory].")
@click.option(
    "--people", metavar="NAME:AFFILIATION", multiple=True, help="Who may enter the room: ana:owner (admin, member)."
)
@click.option("--secrets", type=_FOLDER, help="Where passwords lie, a file per account [default: secrets beside FILE].")
@click.option("--only", type=click.Choice(["xmpp", "kafka"]), help="One of the two servers.")
@click.option("--lanemap", type=_FILE, help="Publish this lane map (geolane lanes build) if there is none.")
@click.option("--sample", type=_FILE, help="Make the lane map from this sample, an event per line, if there is none.")
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


@main.group()
def lanes() -> None:
    """The lane map: which cell of the map belongs to which lane."""


@lanes.command("build")
@click.argument("file", type=click.File("rb"))
@click.option("--lanes", "count", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--resolution", type=click.IntRange(0, 15), default=4, show_default=True, help="H3 resolution.")
@click.option("--version", type=click.IntRange(min=1), default=1, show_default=True)
def lanes_build(file: Any, count: int, resolution: int, version: int) -> None:  # Any: an open file, gzip or plain
    """Print a lane map made from FILE, a sample with one event per line (.gz too; - is standard input)."""
    from agents.core.lanemap import build
    from agents.embedded.lines import events

    click.echo(build(events(file), count, resolution, version).encode())


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})  # -2h is a time
@click.argument("from_", metavar="FROM")
@click.argument("to", metavar="[TO]", default="now")
@click.option("--with", "settings", metavar="KEY=VALUE", multiple=True, help="What other settings would have done.")
@click.option("--journal", type=_FILE, help="The coordinator's journal (default: that of the running stack).")
@click.option("--kernel", default="auto", show_default=True, help="Kernels to plan with: auto, gpu, cpu, numpy.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many plans.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
def replan(
    from_: str, to: str, settings: tuple[str, ...], journal: Path | None, kernel: str, limit: int | None, as_json: bool
) -> None:
    """Make the plans from FROM to TO again, from the journal: are they the same, byte for byte?

    Times are 2026-07-01T10:00:00Z, or 10:00:00 (today, UTC), or -10m (s, m, h, d), or now. Exit code 0: all the same;
    1: some are not; 2: an error. With --with it shows what those settings would have done, and exits with 0."""
    from datetime import UTC, datetime

    from agents.coordinator.replan import look, pairs, run, span_of
    from agents.embedded.folder import default_folder
    from kernels.choose import choose

    span = span_of(from_, to, limit, datetime.now(UTC))
    path = journal or default_folder() / "journal.sqlite3"
    chosen = pairs(settings)
    look(path, span)  # before kernels are compiled
    try:
        numerics = choose(kernel)
    except ValueError as e:
        raise GeolaneError(f"--kernel {kernel}: {e}") from e
    sys.exit(run(path, span, numerics, chosen, json=as_json, say=click.echo))


@main.group()
def pipeline() -> None:
    """Your pipeline's code: tried before it is shipped. `geolane ctl rollout` brings it into a running fleet."""


@pipeline.command("check")
@click.argument("spec", metavar="FILE.py[:FUNCTION]|MODULE:FUNCTION")
@click.option("--events", type=_FILE, help="Sample events, one per line, .gz too [default: the packaged flights]")
@click.option("--timeout", type=click.FloatRange(1, 600), default=60.0, show_default=True, help="Seconds.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
def pipeline_check(spec: str, events: Path | None, timeout: float, as_json: bool) -> None:
    """Try a pipeline on sample events. Exit code 0: good to ship; 1: something is wrong; 2: it cannot be tried."""
    import msgspec

    from agents import pipeline_check as check

    verdict = check.check(spec, events, timeout)
    click.echo(msgspec.json.encode(verdict) if as_json else "\n".join(check.report(verdict)))
    sys.exit(1 if verdict.wrong else 0)


@main.group()
def dead() -> None:
    """Dead letters: list them, show one, send them back.

    FILTERs: reason=R since=1h until=10m source=TOPIC/PARTITION lane=N, or PARTITION/OFFSET; `all` takes those too that went
    back already. Reads and writes Kafka with the account of the settings."""


_KAFKA = click.option(
    "--settings", type=_FILE, help="A settings file with [kafka] (default: that of the running stack)."
)


def _kafka(settings: Path | None, sets: tuple[str, ...]) -> Any:  # Any: settings.Kafka, imported when needed
    return _ctl_settings(settings, sets, "operator").kafka


@dead.command("list")
@click.argument("filters", metavar="[FILTER]...", nargs=-1)
@_KAFKA
@_SET
@click.option("--count", type=click.IntRange(1, 1000), default=20, show_default=True, help="So many, the newest.")
@click.option("--json", "as_json", is_flag=True, help="One object, with headers.")
def dead_list(
    filters: tuple[str, ...], settings: Path | None, sets: tuple[str, ...], count: int, as_json: bool
) -> None:
    """List the newest, and count all by reason."""
    from agents import dead as letters

    sys.exit(letters.listed(_kafka(settings, sets), filters, count, as_json=as_json))


@dead.command("show")
@click.argument("letter", metavar="PARTITION/OFFSET")
@_KAFKA
@_SET
@click.option("--raw", is_flag=True, help="Its value alone, byte for byte.")
def dead_show(letter: str, settings: Path | None, sets: tuple[str, ...], raw: bool) -> None:
    """Show one with its headers."""
    from agents import dead as letters

    sys.exit(letters.show(_kafka(settings, sets), letter, raw=raw))


@dead.command("replay")
@click.argument("filters", metavar="[FILTER]...", nargs=-1)
@_KAFKA
@_SET
@click.option("--yes", is_flag=True, help="Do not ask.")
def dead_replay(filters: tuple[str, ...], settings: Path | None, sets: tuple[str, ...], yes: bool) -> None:
    """Send them back to events.raw, each exactly once."""
    import getpass

    from agents import dead as letters

    sys.exit(letters.replay(_kafka(settings, sets), filters, getpass.getuser(), yes=yes))


@main.command()
@click.argument("feed")
@click.option("--settings", type=_FILE, help="The member's settings file (default: that of the running stack).")
@_SET
@click.option("--user", default="operator", show_default=True, help="The member's account.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many items.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON per item.")
def watch(feed: str, settings: Path | None, sets: tuple[str, ...], user: str, count: int | None, as_json: bool) -> None:
    """Print what is published on FEED: fleet, placement, alerts, telemetry/node-iad-1 ..."""
    from agents import log, supervisor
    from agents.embedded.folder import default_folder
    from agents.embedded.watch import run
    from agents.settings import load

    log.setup("watch")
    loaded = load(settings or default_folder() / "settings" / f"{user}.toml", sets)
    sys.exit(supervisor.run(lambda: run(loaded, user, feed, count, as_json), tell=False))


def _ctl_settings(
    settings: Path | None, sets: tuple[str, ...], user: str
) -> Any:  # Any: Settings, imported when needed
    from agents.embedded.folder import default_folder
    from agents.settings import load

    return load(settings or default_folder() / "settings" / f"{user}.toml", sets)


def _complete_command(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    from click.shell_completion import CompletionItem

    from agents.ctl import command_names

    return [CompletionItem(name, help=text) for name, text in command_names(incomplete)]


def _complete_argument(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from agents.ctl import argument_values

    p = ctx.params
    words = [p.get("command") or "", *(p.get("args") or ())]
    return argument_values(
        words, incomplete, lambda: _ctl_settings(p.get("settings"), p.get("sets") or (), p.get("user") or "operator")
    )


@main.command(context_settings={"ignore_unknown_options": True})  # -10m is a time
@click.argument("command", shell_complete=_complete_command)
@click.argument("args", nargs=-1, shell_complete=_complete_argument)
@click.option("--settings", type=_FILE, help="The person's settings file (default: that of the running stack).")
@_SET
@click.option("--user", default="operator", show_default=True, help="The person's account.")
@click.option("--yes", is_flag=True, help="Confirm what the dry run predicts.")
@click.option("--json", "as_json", is_flag=True, help="One object: command, ok, text, fields.")
def ctl(
    command: str,
    args: tuple[str, ...],
    settings: Path | None,
    sets: tuple[str, ...],
    user: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Give an operator command: status, drain NODE ... (`geolane ctl help` lists them), with the rights of --user.

    What changes the fleet shows its dry run and asks. Exit code 0: done; 1: refused, or an error in the command; 2:
    cannot connect, or wrong settings; 3: not confirmed, and nothing done."""
    from agents import ctl as front
    from agents import log

    log.setup("ctl", "WARNING")
    sys.exit(front.main(lambda: _ctl_settings(settings, sets, user), user, [command, *args], yes=yes, as_json=as_json))


@main.command()
@click.option("--settings", type=_FILE, help="The settings file (default: that of the running stack).")
@_SET
@click.option("--secrets", type=_FOLDER, help="Folder with a password file per account, to be looked at too.")
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


main.add_command(nodes)
main.add_command(invite)


if __name__ == "__main__":
    main(prog_name="geolane")
