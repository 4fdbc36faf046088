"""The process `geolane node`: a worker whose stage is the user's pipeline. The pipeline runs in
another process."""

from __future__ import annotations

import asyncio

from agents.base.systemd_notify import Service
from agents.core.model.topology import WorkerKind
from agents.node.runner import Pipelines
from agents.node.stage import NodeStage
from agents.settings import Settings
from agents.worker.process import run_stage


async def run(settings: Settings, name: str, service: Service | None = None) -> None:
    """Work lanes as `node-NAME` until cancelled or asked to leave. Raises PipelineError, and the
    errors of `run_stage`."""
    worker = settings.worker
    pipelines = Pipelines(worker.pipeline, worker.pipeline_memory_mb)
    try:
        await asyncio.to_thread(lambda: pipelines.release_process(pipelines.acquire_process()))
        stage = NodeStage(pipelines, worker.max_event_bytes, timeout_s=worker.pipeline_timeout_s)
        await run_stage(settings, WorkerKind.NODE.account(name), stage, service)
    finally:
        await asyncio.to_thread(pipelines.close)
