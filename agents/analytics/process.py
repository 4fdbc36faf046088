"""The process `geolane analytics`: a worker that finds hotspots while it owns the one partition of
the topic `hotspots`; otherwise it stands by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agents.analytics.engine import HotspotEngine
from agents.analytics.flink_engine import FlinkEngine
from agents.analytics.sql_gateway import connect_flink
from agents.base.systemd_notify import Service
from agents.core.model.topology import WorkerKind
from agents.settings import Settings
from agents.worker.process import run_worker
from agents.worker.worker_engine import WorkerEngine


async def run(settings: Settings, name: str, service: Service | None = None) -> None:
    """Find hotspots as `analytics-NAME` until cancelled or asked to leave. Raises SettingsError,
    and the errors of `run_worker`."""
    kafka, analytics = settings.kafka, settings.analytics
    flink = None
    if analytics.engine == "flink":
        flink = await asyncio.to_thread(connect_flink, analytics.flink)

    def make_engine(boot: str, leave: Callable[[], None]) -> WorkerEngine:
        if flink is not None:
            return FlinkEngine(kafka, analytics, flink, boot, leave=leave)
        return HotspotEngine(kafka, analytics, boot, leave=leave)

    await run_worker(settings, WorkerKind.ANALYTICS.account(name), make_engine, service)
