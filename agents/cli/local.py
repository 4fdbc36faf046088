"""`geolane up`: everything on this machine."""

from __future__ import annotations

import sys
from typing import Any

import click

from agents.cli.options import FILE, FOLDER, SET


@click.command()
@click.option(
    "--events", type=click.IntRange(min=1), help="Stop the replay after this many events."
)
@click.option(
    "--exit",
    "leave",
    is_flag=True,
    help="No live view; end when all events are accounted for, with one line of JSON.",
)
@click.option(
    "--kill-node-at",
    type=click.FloatRange(0, 1),
    help="kill -9 a busy node at this fraction of --events.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=1),
    default=1000.0,
    show_default=True,
    help="Events per second.",
)
@click.option(
    "--stream",
    type=FILE,
    help="Replay this file (an event per line, .gz too) instead of the flights.",
)
@click.option(
    "--no-replay", is_flag=True, help="Replay nothing: your own producers write to events.raw."
)
@click.option("--pipeline", help="Your pipeline, module:function, found from the current folder.")
@click.option(
    "--nodes", type=click.IntRange(min=1), help="Only the first N nodes of the inventory."
)
@click.option(
    "--analytics",
    type=click.Choice(["embedded", "flink", "off"]),
    help="Find hotspots in a process of its own, on Apache Flink (which is installed and started "
    "unless the settings name one), or not (default: embedded; with --kafka or --xmpp: if the "
    "inventory has an [[analytics]]).",
)
@click.option(
    "--router",
    type=click.Choice(["python", "kafka-streams"]),
    help="The routers' engine; kafka-streams is built first, once (default: router.engine of the "
    "settings, which is python).",
)
@click.option(
    "--maps",
    type=click.Choice(["settings", "demo", "off"]),
    help="Find the coordinates of events that name a place: with the providers of the settings "
    "(offline, if they name none), with an Apple Maps that is started here and invents everything, "
    "or not (default: settings; with --kafka or --xmpp: if the inventory has a [[geo]]).",
)
@click.option("--lanes", type=click.IntRange(min=1), help="Lanes of events.lanes (default 32).")
@click.option(
    "--kafka", metavar="HOST:PORT", help="Use this provisioned Kafka instead of starting one."
)
@click.option(
    "--xmpp",
    metavar="DOMAIN",
    help="Use this provisioned XMPP server instead of starting one (needs --secrets).",
)
@click.option(
    "--settings",
    type=FILE,
    help="Settings to start from: SASL and TLS of existing servers, limits.",
)
@SET
@click.option(
    "--secrets", type=FOLDER, help="Folder with a password file (mode 0600) per XMPP account."
)
@click.option(
    "--inventory", type=FILE, help="Inventory (TOML) instead of ten cloud regions of North America."
)
@click.option(
    "--sites",
    metavar="N|NAMES",
    help="Only the nodes of the first N sites of the inventory, or of those named: iad,sfo,mwh.",
)
@click.option(
    "--delays",
    metavar="azure|FILE",
    help="Delay what passes between each site and Kafka as between their regions in this table: "
    "Azure's measured round trips, or those of a CSV file.",
)
@click.option(
    "--broker-at",
    metavar="SITE",
    help="The site where Kafka is, with --delays (default: the first router's).",
)
@click.option(
    "--folder", type=FOLDER, help="Run folder (default: .run in the project, or below /var/tmp)."
)
@click.option(
    "--metrics-from",
    metavar="PORT",
    type=click.IntRange(1, 65535),
    help="Serve metrics on 127.0.0.1: the coordinator's on PORT, each worker's on the next.",
)
@click.option("--no-web", is_flag=True, help="Serve no chat page and no live page.")
def up(**options: Any) -> None:  # Any: click hands over what is declared above; Options checks it
    """Run everything on this machine: servers, agents, a replayed stream; show it live."""
    from agents.local import up as embedded

    sys.exit(embedded.main(embedded.UpOptions.from_options(options)))
