"""A node or router as its process runs it, for benchmarks.distance, which makes lease and commands:

    python benchmarks/distant_worker.py '{"kind": "node", "kafka": {"bootstrap": ...}, ...}'

It writes `ready` when its partitions are assigned, and ends when its standard input does. It imports
nothing but `agents`, of whatever version is on the path, so that an older version can be measured,
too."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import uuid
from pathlib import Path
from typing import Any

import uvloop

from agents import settings
from agents.core.lanes.lane_map import LaneMap
from agents.core.model.messages import AssignCommand, Grant, LeaseCommand
from agents.kafka.leases import LeaseMaker
from agents.node.runner import Pipelines
from agents.node.stage import NodeStage
from agents.router.stage import RouterStage
from agents.worker.engine import Engine
from agents.worker.process import tune_interpreter
from agents.worker.stage import Stage, Topics

BOOT = "BENCH"
FLIGHTS = "agents.node.flights:pipeline"


def make_stage(task: dict[str, Any], worker: settings.Worker) -> Stage:
    if task["kind"] == "router":
        topics = Topics(
            raw=task["source"],
            lanes=task["sink"],
            unplaced=task["dead"],
            dead=task["dead"],
            router_group=task["group"],
        )
        lane_map = LaneMap.decode(Path(task["lane_map"]).read_bytes())
        return RouterStage(lane_map, worker.max_event_bytes, worker.future_limit_s * 1000, topics)
    topics = Topics(
        lanes=task["source"], clean=task["sink"], dead=task["dead"], node_group=task["group"]
    )
    pipelines = Pipelines(worker.pipeline, worker.pipeline_memory_mb)
    pipelines.release_process(pipelines.acquire_process())
    return NodeStage(pipelines, worker.max_event_bytes, topics)


async def run(task: dict[str, Any]) -> None:
    kafka, worker = settings.Kafka(**task["kafka"]), settings.Worker(pipeline=FLIGHTS)
    stage = make_stage(task, worker)
    tune_interpreter()
    maker = LeaseMaker(kafka, 10_000)
    await maker.start()
    name = f"bench-{uuid.uuid4().hex}"
    producer_id, epoch = await maker.make_lease(name)
    await maker.stop()
    engine = Engine(kafka, worker, stage, BOOT)
    working = asyncio.create_task(engine.run())
    await engine.execute_command(LeaseCommand(1, BOOT, name, producer_id, epoch))
    grants = tuple(Grant(n, 1, 0) for n in range(task["partitions"]))
    await engine.execute_command(AssignCommand(1, BOOT, stage.topic, grants))
    print("ready", flush=True)
    ending = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        working.result()
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    uvloop.run(run(json.loads(sys.argv[1])))
