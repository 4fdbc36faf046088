"""`geolane up`: makes a run from its options, shows it, and leaves nothing running whatever
happens."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import resource
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from agents.base import json_lines, log, supervisor
from agents.base.errors import SettingsError
from agents.base.progress import PrintLine
from agents.local import headless, screen
from agents.local.demo import flights
from agents.local.demo.replay import KeyedValue, Replay
from agents.local.servers.folder import RunFolder, default_folder
from agents.local.stack import (
    ANALYTICS_EMBEDDED,
    ANALYTICS_FLINK,
    INVENTORY,
    MAPS_OF_SETTINGS,
    Stack,
    StackPlan,
)
from agents.node.runner import try_pipeline
from agents.settings import DEFAULT, Analytics, Settings, gather_settings

SAMPLE = 20_000
STOP_S = 75.0
FOR_FLIGHTS = {"lateness_s": 3600.0, "threshold_nats": 50.0}
"""For the stream of flights: at 1,000 events/s a day takes 16 s, so that what the routers read a
second later is half an hour older; and a hotspot every few days is enough to see."""
MIN_FILES = 1024
"""Kafka has 300 files open with 32 lanes, and more with each segment."""


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The options of `geolane up`, named as on the command line."""

    events: int | None = None
    leave: bool = False
    kill_node_at: float | None = None
    rate: float = 1000.0
    stream: Path | None = None
    no_replay: bool = False
    pipeline: str | None = None
    nodes: int | None = None
    analytics: str | None = None
    router: str | None = None
    maps: str | None = None
    lanes: int | None = None
    kafka: str | None = None
    xmpp: str | None = None
    settings: Path | None = None
    sets: tuple[str, ...] = ()
    secrets: Path | None = None
    inventory: Path | None = None
    folder: Path | None = None
    metrics_from: int | None = None
    no_web: bool = False
    delays: str | None = None
    sites: str | None = None
    broker_at: str | None = None

    @classmethod
    def from_options(
        cls, given: Mapping[str, Any]
    ) -> UpOptions:  # Any: click's values, typed by its declarations
        """Raises SettingsError for options that contradict each other."""
        options = cls(**given)
        if options.leave and options.events is None:
            raise SettingsError("--exit needs --events: how many are to be accounted for")
        if options.kill_node_at is not None and not options.leave:
            raise SettingsError("--kill-node-at is for --events N --exit")
        if options.no_replay and (options.events or options.stream):
            raise SettingsError("--no-replay contradicts --events and --stream")
        if options.xmpp and not options.secrets:
            raise SettingsError(
                "--xmpp needs --secrets: the folder with the accounts' password files"
            )
        if options.broker_at and not options.delays:
            raise SettingsError("--broker-at needs --delays: without it nothing is far away")
        if options.delays and options.kafka:
            raise SettingsError(
                "--delays is for a Kafka that is started here; omit --kafka, or --delays"
            )
        return options

    @property
    def replays_flights(self) -> bool:
        return self.stream is None and not self.no_replay

    def read_base_settings(self) -> Settings:
        """The settings that every process's file is made from. Raises SettingsError."""
        loaded = gather_settings(self.settings, self.sets)
        settings = loaded.settings
        if self.pipeline:
            settings = flights.with_pipeline(settings, self.pipeline)
        elif self.replays_flights and loaded.origins["worker.pipeline"] == DEFAULT:
            settings = flights.with_pipeline(settings)
        analytics = settings.analytics
        untouched = Analytics(engine=analytics.engine, flink=analytics.flink)
        if self.replays_flights and analytics == untouched:
            analytics = msgspec.structs.replace(analytics, **FOR_FLIGHTS)
        if self.analytics in (ANALYTICS_EMBEDDED, ANALYTICS_FLINK):
            analytics = msgspec.structs.replace(analytics, engine=self.analytics)
        settings = msgspec.structs.replace(settings, analytics=analytics)
        if self.router:
            router = msgspec.structs.replace(settings.router, engine=self.router)
            settings = msgspec.structs.replace(settings, router=router)
        if self.lanes:
            settings = msgspec.structs.replace(
                settings,
                coordinator=msgspec.structs.replace(settings.coordinator, lanes=self.lanes),
            )
        return settings

    def make_plan(self) -> StackPlan:
        base = self.read_base_settings()
        set_by = gather_settings(self.settings, self.sets).origins["coordinator.data_at"]
        return StackPlan(
            base=base,
            data_at="" if set_by == DEFAULT else base.coordinator.data_at,
            inventory=self.inventory or INVENTORY,
            nodes=self.nodes,
            # Existing servers have accounts and rights only for what their inventory names.
            analytics=self.analytics or ("" if self.kafka or self.xmpp else ANALYTICS_EMBEDDED),
            maps=self.maps or ("" if self.kafka or self.xmpp else MAPS_OF_SETTINGS),
            kafka=self.kafka,
            xmpp=self.xmpp,
            secrets=self.secrets,
            metrics_from=self.metrics_from,
            web=not self.no_web,
            sites=self.sites or "",
            delays=self.delays or "",
            broker_at=self.broker_at or "",
        )

    def sample_events(self) -> Iterator[bytes]:
        """Events to make the lane map from: of the user's own stream, if there is one."""
        if self.stream is None:
            yield from flights.sample_events()
            return
        with self.stream.open("rb") as file:
            yield from itertools.islice(json_lines.read_events(file), SAMPLE)

    def read_events(self) -> Iterator[KeyedValue]:
        if self.stream is None:
            yield from flights.endless_events()
            return
        with self.stream.open("rb") as file:
            yield from json_lines.read_keyed_events(file)


def main(options: UpOptions) -> int:
    """Run until done, Ctrl-C or SIGTERM. Returns the exit code."""
    log.setup("up", "WARNING")
    require_open_files()
    # Errors in settings or pipeline are reported before anything starts. The user's pipeline is
    # found from the user's current folder.
    sys.path.insert(0, os.getcwd())
    try_pipeline(options.read_base_settings().worker.pipeline)
    options.make_plan().read_delays()
    return supervisor.run(lambda: run(options), stop_s=STOP_S, tell=False)


def require_open_files() -> None:
    """Raise the soft limit if it is too low; child processes inherit it. Raises SettingsError if
    the hard limit is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not 0 <= soft < MIN_FILES:  # -1: no limit
        return
    if not 0 <= hard < MIN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (MIN_FILES, hard))
        return
    raise SettingsError(
        f"a process may open {hard:,} files here, but `geolane up` needs at least {MIN_FILES:,}: "
        "first run `ulimit -n 4096`; if the shell refuses that, raise the hard limit (nofile in "
        "/etc/security/limits.conf, LimitNOFILE= in a unit)"
    )


async def run(options: UpOptions) -> int:
    """One run in its folder. Raises GeolaneError if it cannot start."""
    say: PrintLine = headless.print_progress if options.leave else screen.print_step
    with RunFolder(options.folder or default_folder()) as folder:
        say(f"run folder {folder.path}")
        if not options.leave and screen.console.is_terminal:
            _redirect_logs_to(folder.log / "up.log")  # the view has the terminal
        stack = Stack(folder, options.make_plan(), say)
        try:
            await stack.start(options.sample_events(), options.rate)
            return await _run_beside(stack.run(), _run_job(options, stack, say))
        finally:
            say("stopping")
            await asyncio.shield(stack.stop())


def _redirect_logs_to(file: Path) -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(file.open("a", encoding="utf-8"))


async def _run_job(options: UpOptions, stack: Stack, say: PrintLine) -> int:
    await stack.wait_until_ready()
    replay = None
    if not options.no_replay:
        raw = options.read_base_settings().coordinator.raw_partitions
        replay = Replay(stack.base.kafka, options.read_events(), raw, options.rate, options.events)
    if options.leave and replay and options.events:
        return await headless.run(stack, replay, options.events, options.kill_node_at)
    await screen.run(stack, replay)
    return 0


async def _run_beside(keeping: Any, job: Any) -> int:  # Any: coroutines
    """Run the job while the rest is kept running. When either ends, both end."""
    kept, done = asyncio.create_task(keeping), asyncio.create_task(job)
    try:
        await asyncio.wait({kept, done}, return_when=asyncio.FIRST_COMPLETED)
        if kept.done():
            await kept
        return int(await done)
    finally:
        done.cancel()
        await asyncio.wait({done})
        kept.cancel()
        await asyncio.gather(done, kept, return_exceptions=True)
