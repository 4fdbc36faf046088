"""The planner offline: `geolane lanes build`, `geolane replan`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from agents.base.errors import GeolaneError
from agents.cli.options import FILE, FullSummaries, WithTimes


@click.group(cls=FullSummaries)
def lanes() -> None:
    """The lane map: which cell of the map belongs to which lane."""


@lanes.command("build")
@click.argument("file", type=click.File("rb"))
@click.option("--lanes", "count", type=click.IntRange(min=1), default=32, show_default=True)
@click.option(
    "--resolution", type=click.IntRange(0, 15), default=4, show_default=True, help="H3 resolution."
)
@click.option("--version", type=click.IntRange(min=1), default=1, show_default=True)
def lanes_build(
    file: Any, count: int, resolution: int, version: int
) -> None:  # Any: an open file, gzip or plain
    """Print a lane map made from FILE, a sample with one event per line (.gz too; - is standard
    input)."""
    from agents.base.json_lines import read_events
    from agents.core.lanes.lane_map import build_lane_map

    def tell(line: str) -> None:
        click.echo(f"geolane: {line}", err=True)

    click.echo(build_lane_map(read_events(file), count, resolution, version, tell=tell).encode())


@click.command(cls=WithTimes)
@click.argument("from_", metavar="FROM")
@click.argument("to", metavar="[TO]", default="now")
@click.option(
    "--with",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="What other settings would have done.",
)
@click.option(
    "--journal", type=FILE, help="The coordinator's journal (default: that of the running stack)."
)
@click.option(
    "--kernel",
    default="auto",
    show_default=True,
    help="Kernels to plan with: auto, gpu, cpu, numpy.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N plans.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
def replan(
    from_: str,
    to: str,
    settings: tuple[str, ...],
    journal: Path | None,
    kernel: str,
    limit: int | None,
    as_json: bool,
) -> None:
    """Make the plans from FROM to TO again, from the journal: are they the same, byte for byte?

    Times are 2026-07-01T10:00:00Z, or 10:00:00 (today, UTC), or -10m (s, m, h, d), or now. Exit
    code 0: all the same; 1: some are not; 2: an error. With --with it shows what those settings
    would have done, and exits with 0."""
    from datetime import UTC, datetime

    from agents.admin.replan import count_plans, parse_pairs, parse_span, run
    from agents.base.progress import progress_bar
    from agents.local.servers.folder import default_folder
    from kernels.scoring.choose import choose_numerics

    span = parse_span(from_, to, limit, datetime.now(UTC))
    path = journal or default_folder() / "journal.sqlite3"
    chosen = parse_pairs(settings)
    total = count_plans(path, span)  # fail before kernels are compiled
    total = total if limit is None else min(total, limit)
    try:
        numerics = choose_numerics(kernel)
    except ValueError as e:
        raise GeolaneError(f"--kernel {kernel}: {e}") from e
    with progress_bar(total, "plans") as step:
        code = run(path, span, numerics, chosen, json=as_json, say=click.echo, step=step)
    sys.exit(code)
