"""The process `geolane node`: a worker whose stage is the user's pipeline."""

from __future__ import annotations

from agents.node.stage import NodeStage, load_pipeline
from agents.node.version import version_of
from agents.settings import Settings
from agents.systemd.notify import Service
from agents.worker.process import serve


async def run(settings: Settings, name: str, service: Service | None = None) -> None:
    """Work lanes as `node-NAME` until cancelled or asked to leave. Raises what `serve` raises, and PipelineError."""
    stage = NodeStage(load_pipeline(settings.worker.pipeline), settings.worker.max_event_bytes)
    await serve(settings, f"node-{name}", stage, service, pipeline=version_of(settings.worker.pipeline))
