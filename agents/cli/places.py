"""`geolane place`: where a name is, or what is at coordinates."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agents.cli.options import FILE, SET

if TYPE_CHECKING:
    from agents.core.model.places import Place


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}
)  # -33.9,18.4 is a place
@click.argument("words", metavar="NAME|LAT,LON", nargs=-1, required=True)
@click.option("--country", default="", metavar="CODE", help="In this country (ISO 3166): US.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@click.option(
    "--settings",
    type=FILE,
    help="Ask the provider that these settings choose (default: the table of GeoNames, offline).",
)
@SET
def place(
    words: tuple[str, ...],
    country: str,
    as_json: bool,
    settings: Path | None,
    sets: tuple[str, ...],
) -> None:
    """Find a place by its name ("Springfield, Illinois"), or name the one at coordinates
    (39.8,-89.6).

    Exit code 1: there is no such place; 2: the provider cannot be asked now, or the settings are
    wrong."""
    import msgspec

    from agents.base import log
    from agents.base.errors import PlaceUnknown
    from agents.core.model.answers import PlaceData
    from agents.core.model.places import describe_place

    log.setup("place")  # on standard error: that the table is being made takes some seconds
    try:
        found, attribution = asyncio.run(_find_place(" ".join(words), country, settings, sets))
    except PlaceUnknown as e:
        click.echo(f"geolane: {e}", err=True)
        raise SystemExit(1) from None
    if as_json:
        click.echo(msgspec.json.encode(PlaceData.of_place(found, attribution)))
    else:
        click.echo(describe_place(found, attribution))


async def _find_place(
    text: str, country: str, settings: Path | None, sets: tuple[str, ...]
) -> tuple[Place, str]:
    from agents.core.model.places import parse_coordinates
    from agents.geo.providers import open_providers
    from agents.settings import Geo, load_settings

    chosen = load_settings(settings, sets).geo if settings or sets else Geo()
    providers = await asyncio.to_thread(open_providers, chosen)
    try:
        asked = providers.people
        at = parse_coordinates(text)
        found = await (asked.name_at(*at) if at else asked.find(text, country.upper()))
        return found, asked.attribution
    finally:
        await providers.close()
