"""The process `geolane geo`: a worker that finds the coordinates of events that name a place, and
answers the leader's questions about places and traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agents.base import log
from agents.base.errors import KafkaUnavailable
from agents.base.supervisor import first_leaf_error
from agents.base.systemd_notify import Service
from agents.core.model.topology import WorkerKind
from agents.geo.desk import GeoDesk
from agents.geo.lookups import Lookups
from agents.geo.providers import Providers, open_providers
from agents.geo.stage import GeoStage
from agents.kafka.geo_context import GeoContextWriter
from agents.observe.metrics import declared as m
from agents.observe.metrics.samples import Samples
from agents.settings import Kafka, Settings, Worker
from agents.worker.engine import Engine
from agents.worker.process import run_worker
from agents.worker.reader import count_partitions
from agents.worker.worker_engine import WorkerEngine

_REST_S = 1.0
_log = log.get_logger("geo")


class GeoEngine(Engine):
    """The engine of a geo worker, which also tells what it asks of its providers."""

    def __init__(
        self,
        kafka: Kafka,
        worker: Worker,
        stage: GeoStage,
        boot: str,
        providers: Providers,
        leave: Callable[[], None],
    ) -> None:
        super().__init__(kafka, worker, stage, boot, leave=leave)
        self._providers = providers
        stage.now_ms = self.clock.now_ms

    def add_metrics(self, worker: str, out: Samples) -> None:
        for server in self._providers.servers:
            out.add(m.MAPS_CALLS, server.counts.calls, worker, server.name)
            out.add(m.MAPS_FAILED, server.counts.failed, worker, server.name)
            out.add(m.MAPS_CIRCUIT_OPEN, server.circuit.is_open, worker, server.name)
        if (budget := self._providers.budget) is not None:
            out.add(m.MAPS_REFUSED, budget.refused, worker)


async def run(settings: Settings, name: str, service: Service | None = None) -> None:
    """Work the partitions of events.unplaced as `geo-NAME` until cancelled or asked to leave.
    Raises SettingsError, and the errors of `run_worker`."""
    service = service or Service()
    geo, worker = settings.geo, settings.worker
    service.notify_status("opens its provider of maps")
    providers = await asyncio.to_thread(open_providers, geo)
    try:
        service.notify_status("waits for events.raw")
        stage = GeoStage(
            Lookups(providers.events, asyncio.get_running_loop()),
            await _count_raw_partitions(settings.kafka),
            worker.max_event_bytes,
            worker.future_limit_s * 1000,
            geo.wait_h * 3600,
        )
        context = GeoContextWriter(settings.kafka)
        desk = GeoDesk(providers, context.put)

        def make_engine(boot: str, leave: Callable[[], None]) -> WorkerEngine:
            return GeoEngine(settings.kafka, worker, stage, boot, providers, leave)

        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(context.run())
            await run_worker(
                settings, WorkerKind.GEO.account(name), make_engine, service, desk.answer
            )
            writing.cancel()
    except BaseExceptionGroup as group:
        raise first_leaf_error(group) from None
    finally:
        await providers.close()


async def _count_raw_partitions(kafka: Kafka) -> int:
    """The partitions of events.raw; it waits until there are some."""
    said = False
    while True:
        try:
            if count := await count_partitions(kafka, WorkerKind.ROUTER.topic):
                return count
            why = "there is no topic events.raw: run geolane provision"
        except KafkaUnavailable as e:
            why = str(e)
        if not said:
            _log.warning("no_raw_topic", why=why)
        said = True
        await asyncio.sleep(_REST_S)
