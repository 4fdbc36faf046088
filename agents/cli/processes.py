"""The long-lived processes: `geolane node`, `router`, `analytics`, `geo`, `coordinator`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agents.cli.options import settings_option

if TYPE_CHECKING:
    from agents.base.systemd_notify import Service


@click.command()
@settings_option
@click.option("--name", required=True, help="This node's name in the inventory: iad-1.")
def node(settings: Path, sets: tuple[str, ...], name: str) -> None:
    """Process lanes: consume, run the pipeline, produce, exactly once."""
    service = _start_process(settings, f"node-{name}")
    from agents.base import supervisor
    from agents.node.process import run
    from agents.settings import load_settings

    loaded = load_settings(settings, sets).for_account(f"node-{name}")
    sys.exit(supervisor.run(lambda: run(loaded, name, service), service=service))


@click.command()
@settings_option
@click.option("--name", required=True, help="This router's name in the inventory: 1.")
def router(settings: Path, sets: tuple[str, ...], name: str) -> None:
    """Check raw events and sort them into lanes."""
    service = _start_process(settings, f"router-{name}")
    from agents.base import supervisor
    from agents.router.process import run
    from agents.settings import load_settings

    loaded = load_settings(settings, sets).for_account(f"router-{name}")
    sys.exit(supervisor.run(lambda: run(loaded, name, service), service=service))


@click.command()
@settings_option
@click.option("--name", required=True, help="This worker's name in the inventory: 1.")
def analytics(settings: Path, sets: tuple[str, ...], name: str) -> None:
    """Find hotspots, or stand by until the one that does is gone."""
    service = _start_process(settings, f"analytics-{name}")
    from agents.analytics.process import run
    from agents.base import supervisor
    from agents.settings import load_settings

    loaded = load_settings(settings, sets).for_account(f"analytics-{name}")
    sys.exit(supervisor.run(lambda: run(loaded, name, service), service=service))


@click.command()
@settings_option
@click.option("--name", required=True, help="This worker's name in the inventory: 1.")
def geo(settings: Path, sets: tuple[str, ...], name: str) -> None:
    """Find the coordinates of events that name a place; tell names and traffic."""
    service = _start_process(settings, f"geo-{name}")
    from agents.base import supervisor
    from agents.geo.process import run
    from agents.settings import load_settings

    loaded = load_settings(settings, sets).for_account(f"geo-{name}")
    sys.exit(supervisor.run(lambda: run(loaded, name, service), service=service))


@click.command()
@settings_option
def coordinator(settings: Path, sets: tuple[str, ...]) -> None:
    """Lead the fleet, or stand by until the leader is gone."""
    service = _start_process(settings, "coordinator")
    from agents.base import supervisor
    from agents.coordinator.process import run
    from agents.settings import load_settings

    loaded = load_settings(settings, sets).for_account("geolane")
    sys.exit(supervisor.run(lambda: run(loaded, service), service=service))


def _start_process(settings: Path, process: str) -> Service:
    """What every long-lived process does first. `settings` is named in the first log line."""
    from agents.base import log, supervisor
    from agents.base.systemd_notify import Service

    child = supervisor.die_with_parent()
    log.setup(process)
    log.get_logger("main").info("starting", settings=str(settings))
    return Service.from_environment(os.environ, hands_over=not child)
