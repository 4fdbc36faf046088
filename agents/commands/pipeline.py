"""`geolane pipeline check`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agents.commands.options import FILE


@click.group()
def pipeline() -> None:
    """Your pipeline's code: tried before it is shipped. `geolane ctl rollout` brings it into a running fleet."""


@pipeline.command("check")
@click.argument("spec", metavar="FILE.py[:FUNCTION]|MODULE:FUNCTION")
@click.option("--events", type=FILE, help="Sample events, one per line, .gz too [default: the packaged flights]")
@click.option("--timeout", type=click.FloatRange(1, 600), default=60.0, show_default=True, help="Seconds.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
def pipeline_check(spec: str, events: Path | None, timeout: float, as_json: bool) -> None:
    """Try a pipeline on sample events. Exit code 0: good to ship; 1: something is wrong; 2: it cannot be tried."""
    import msgspec

    from agents import log
    from agents import pipeline_check as check

    log.setup("pipeline check", "ERROR")
    verdict = check.check(spec, events, timeout)
    click.echo(msgspec.json.encode(verdict) if as_json else "\n".join(check.report(verdict)))
    sys.exit(1 if verdict.wrong else 0)
