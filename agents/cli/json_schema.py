"""`geolane json-schema`: what `--json` prints, as a JSON schema."""

from __future__ import annotations

import click


@click.command("json-schema")
def json_schema() -> None:
    """Print the JSON schema of what `ctl`, `dead list` and `nodes list` print with `--json`."""
    import msgspec

    from agents.core.model.answers import make_json_schema

    text = msgspec.json.encode(make_json_schema(), order="sorted")
    click.echo(msgspec.json.format(text, indent=1))
