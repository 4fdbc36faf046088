"""The process `geolane router`: a worker that checks raw events and sorts them into lanes, by the
lane map that is in force when it starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agents.base import log
from agents.base.errors import KafkaError, KafkaUnavailable
from agents.base.systemd_notify import Service
from agents.core.lanes.lane_map import LaneMap
from agents.core.model.topology import KAFKA_STREAMS, WorkerKind
from agents.kafka.compacted import read_newest_lane_map
from agents.router.java_program import require_installed
from agents.router.stage import RouterStage
from agents.router.streams_config import StreamsSetup
from agents.router.streams_engine import StreamsEngine
from agents.settings import Kafka, Settings
from agents.worker.process import run_stage, run_worker
from agents.worker.reader import count_partitions

_REST_S = 1.0
_log = log.get_logger("router")


async def run(settings: Settings, name: str, service: Service | None = None) -> None:
    """Work raw partitions as `router-NAME` until cancelled or asked to leave. It first waits until
    a lane map is published. Raises InstallError, and the errors of `run_worker`."""
    service = service or Service()
    if settings.router.engine == KAFKA_STREAMS:
        await asyncio.to_thread(require_installed)
    service.notify_status("waits for the lane map")
    lanemap = await _wait_for_lane_map(settings.kafka)
    _log.info(
        "lane_map", version=lanemap.version, lanes=lanemap.lanes, cells=len(lanemap.cell_lanes)
    )
    worker, account = settings.worker, WorkerKind.ROUTER.account(name)
    unplaced = await _count_unplaced_partitions(settings.kafka)
    if settings.router.engine == KAFKA_STREAMS:
        setup = StreamsSetup(settings.kafka, settings.router, lanemap.version, unplaced)

        def make_engine(boot: str, leave: Callable[[], None]) -> StreamsEngine:
            return StreamsEngine(setup, worker, boot, leave=leave)

        await run_worker(settings, account, make_engine, service)
        return
    stage = RouterStage(
        lanemap,
        worker.max_event_bytes,
        worker.future_limit_s * 1000,
        unplaced_partitions=unplaced,
    )
    await run_stage(settings, account, stage, service)


async def _count_unplaced_partitions(kafka: Kafka) -> int:
    """The partitions of events.unplaced, over which the events are spread; 1 if it cannot be
    told."""
    try:
        return max(1, await count_partitions(kafka, WorkerKind.GEO.topic))
    except KafkaError as e:
        _log.warning("unplaced_partitions_unknown", error=str(e))
        return 1


async def _wait_for_lane_map(kafka: Kafka) -> LaneMap:
    said = False
    while True:
        try:
            found = await read_newest_lane_map(kafka)
        except KafkaUnavailable as e:
            found, why = None, str(e)
        else:
            why = "none is published yet; run: geolane up, or geolane lanes build"
        if found is not None:
            return found
        if not said:
            _log.warning("no_lane_map", why=why)
        said = True
        await asyncio.sleep(_REST_S)
