"""The command `geolane`. Its sub-commands are in agents/cli, by what they are for; each imports
what it runs."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any, NoReturn

import click

from agents.base import standard_streams
from agents.base.errors import GeolaneError
from agents.cli import (
    completion,
    dead_letters,
    json_schema,
    local,
    nodes,
    operator,
    places,
    plans,
    processes,
    servers,
    transactions,
    watch,
)
from agents.cli.options import FullSummaries


class _Group(FullSummaries):
    """An error of ours is one line on standard error and exit code 2; so is a file, or standard
    output, that the system refuses."""

    def main(self, *args: Any, **kwargs: Any) -> Any:  # Any: click's own signature
        standard_streams.prepare_streams()
        try:
            return super().main(*args, **kwargs)
        except OSError as e:
            standard_streams.discard_buffered(e)
            try:
                os.getcwd()
            except FileNotFoundError:
                _end("the current folder no longer exists; cd to another")
            if e.filename is None:
                raise
            _end(f"{e.filename}: {e.strerror}")

    def invoke(self, ctx: click.Context) -> Any:  # Any: click's own signature
        try:
            return super().invoke(ctx)
        except GeolaneError as e:
            _end(str(e))


def _end(why: str) -> NoReturn:
    with suppress(OSError):  # of standard error: there is nobody to tell
        click.echo(f"geolane: {why}", err=True)
    sys.exit(2)


@click.group(
    cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="geolane", prog_name="geolane")
def main() -> None:
    """Streaming ETL that stays close to its data, steered from an XMPP chat room."""


for command in (
    local.up,
    processes.node,
    processes.router,
    processes.analytics,
    processes.geo,
    processes.coordinator,
    servers.provision,
    servers.install_units,
    servers.doctor,
    servers.live_page,
    nodes.nodes,
    nodes.invite,
    servers.settings_group,
    watch.watch,
    operator.ctl,
    dead_letters.dead,
    json_schema.json_schema,
    servers.pipeline,
    plans.lanes,
    plans.replan,
    places.place,
    transactions.abort_transaction,
    completion.completion,
):
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="geolane")
