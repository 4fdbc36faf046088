"""`geolane watch`: the whole fleet, or the items of one feed."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from agents.base.errors import SettingsError
from agents.cli.options import FILE, SET, load_account_settings


def _complete_feed(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from agents.core.model.feeds import OPERATOR_FEEDS

    return [feed for feed in OPERATOR_FEEDS if feed.startswith(incomplete)]


@click.command()
@click.argument("feed", required=False, shell_complete=_complete_feed)
@click.option(
    "--settings", type=FILE, help="The member's settings file (default: that of the running stack)."
)
@SET
@click.option("--user", default="operator", show_default=True, help="The member's account.")
@click.option(
    "--plain",
    is_flag=True,
    help="Lines for a log; the default where standard output is not a terminal.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="A line of JSON per item of the feed (default: fleet)."
)
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(0.1, 86_400),
    metavar="SECONDS",
    help="--plain: seconds between two lines of the fleet [10].",
)
@click.option(
    "--count", type=click.IntRange(min=1), help="End after this many items, or lines of the fleet."
)
@click.option("--map/--no-map", "map_", default=None, help="The map [where the terminal has room].")
def watch(
    feed: str | None,
    settings: Path | None,
    sets: tuple[str, ...],
    user: str,
    plain: bool,
    as_json: bool,
    every_s: float | None,
    count: int | None,
    map_: bool | None,
) -> None:
    """Show the running fleet: load, lag, every worker, the last moves and alerts, a map. It uses
    only XMPP, as --user.

    With FEED: print what is published on it: fleet, placement, hotspots, geo, alerts."""
    from agents.base import log, supervisor
    from agents.observe.dashboard import run as items
    from agents.observe.dashboard.run import How, Mode, run

    if feed and (plain or every_s is not None or map_ is not None):
        raise SettingsError("--plain, --every and --map are for the whole fleet: leave FEED out")
    if plain and as_json:
        raise SettingsError("--plain and --json contradict each other")
    log.setup("watch", "CRITICAL")  # an error is reported once, in the last line or in the view
    logging.getLogger("slixmpp").setLevel(logging.CRITICAL)
    loaded = load_account_settings(settings, sets, user)
    if feed:
        name = feed
        sys.exit(
            supervisor.run(lambda: items.print_feed(loaded, user, name, count, as_json), tell=False)
        )
    mode = (
        Mode.JSON if as_json else Mode.PICTURE if sys.stdout.isatty() and not plain else Mode.PLAIN
    )
    how = How(mode, every_s or 10.0, count, map_)
    sys.exit(supervisor.run(lambda: run(loaded, user, how), tell=False))
