"""The process `geolane geo`: a worker that finds the coordinates of events that name a place, and
answers the leader's questions about places and traffic."""

from __future__ import annotations

import asyncio

from agents.base import log
from agents.base.errors import KafkaUnavailable
from agents.base.supervisor import first_leaf_error
from agents.base.systemd_notify import Service
from agents.core.model.topology import WorkerKind
from agents.geo.desk import Desk
from agents.geo.lookups import Lookups
from agents.geo.providers import open_providers
from agents.geo.stage import GeoStage
from agents.kafka.geo_context import GeoContextWriter
from agents.settings import Kafka, Settings
from agents.worker.process import run_stage
from agents.worker.reader import count_partitions

_REST_S = 1.0
_log = log.get_logger("geo")


async def run(settings: Settings, name: str, service: Service | None = None) -> None:
    """Work the partitions of events.unplaced as `geo-NAME` until cancelled or asked to leave.
    Raises SettingsError, and the errors of `run_stage`."""
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
        desk = Desk(providers, context.put)
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(context.run())
            await run_stage(settings, WorkerKind.GEO.account(name), stage, service, desk.answer)
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
