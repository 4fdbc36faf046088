"""`geolane json-schema`: what `--json` prints, as a JSON schema (2020-12)."""

from __future__ import annotations

import click


@click.command("json-schema")
def json_schema() -> None:
    """Print the JSON schema of what every command prints with `--json`."""
    import msgspec

    text = msgspec.json.encode(make_json_schema(), order="sorted")
    click.echo(msgspec.json.format(text, indent=1))


def list_outputs() -> list[tuple[str, object]]:
    """Each command, with the type of what it prints by line."""
    from agents.admin.doctor.judge.verdict import DoctorAnswer
    from agents.admin.members.changes import InventoryWorker
    from agents.admin.pipeline_check import PipelineVerdict
    from agents.admin.replan import Again, OtherwiseAnswer
    from agents.core.model import feeds
    from agents.core.model.answers import (
        CommandAnswer,
        DeadLetterData,
        DeadLettersData,
        PlaceData,
    )
    from agents.core.model.messages import Telemetry
    from agents.local.headless import RunOutcome
    from agents.observe.dashboard.run import FeedLine
    from agents.settings.show import ShownSetting

    return [
        ("geolane ctl COMMAND --json", CommandAnswer),
        ("geolane dead list --json", DeadLettersData),
        ("geolane dead show --json", DeadLetterData),
        ("geolane doctor --json", DoctorAnswer),
        ("geolane nodes list --json", InventoryWorker),
        ("geolane pipeline check --json", PipelineVerdict),
        ("geolane place --json", PlaceData),
        ("geolane replan --json", Again),
        ("geolane replan --with KEY=VALUE --json", OtherwiseAnswer),
        ("geolane settings show --json", dict[str, ShownSetting]),
        ("geolane up --events N --exit", RunOutcome),
        ("geolane watch --json", FeedLine[feeds.FleetSummary]),
        ("geolane watch placement --json", FeedLine[feeds.PlacementPlan]),
        ("geolane watch placement --json (item `current`)", FeedLine[feeds.PlacementFigures]),
        ("geolane watch alerts --json", FeedLine[feeds.AlertItem]),
        ("geolane watch hotspots --json", FeedLine[feeds.HotspotItem]),
        ("geolane watch geo --json", FeedLine[feeds.GeoItem]),
        ("geolane watch telemetry/WORKER --json", Telemetry),
    ]


def make_json_schema() -> dict[str, object]:
    """The schema of a value that any of them prints."""
    import msgspec

    named = list_outputs()
    shapes, types = msgspec.json.schema_components(
        [kind for _, kind in named], ref_template="#/$defs/{name}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What geolane prints for programs, a value a line",
        "anyOf": [{"title": name, **shape} for (name, _), shape in zip(named, shapes, strict=True)],
        "$defs": types,
    }
