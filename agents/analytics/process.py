"""The process `geolane analytics`: a worker that finds hotspots while it owns the one partition of
the topic `hotspots`; otherwise it stands by."""

from __future__ import annotations

from collections.abc import Callable

from agents.analytics.engine import HotspotEngine
from agents.base.errors import SettingsError
from agents.base.systemd_notify import Service
from agents.core.model.topology import WorkerKind
from agents.settings import Settings
from agents.worker.process import run_worker
from agents.worker.worker_engine import WorkerEngine


async def run(settings: Settings, name: str, service: Service | None = None) -> None:
    """Find hotspots as `analytics-NAME` until cancelled or asked to leave. Raises SettingsError,
    and the errors of `run_worker`."""
    if settings.analytics.engine != "embedded":
        raise SettingsError(
            f'analytics.engine = "{settings.analytics.engine}" is not built yet: set "embedded"'
        )

    def make_engine(boot: str, leave: Callable[[], None]) -> WorkerEngine:
        return HotspotEngine(settings.kafka, settings.analytics, boot, leave=leave)

    await run_worker(settings, WorkerKind.ANALYTICS.account(name), make_engine, service)
