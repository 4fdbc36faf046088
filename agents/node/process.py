"""The process `geolane node`: a worker whose stage is the user's pipeline."""

from __future__ import annotations

from agents.node.stage import NodeStage, load_pipeline
from agents.settings import Settings
from agents.worker.process import serve


async def run(settings: Settings, name: str) -> None:
    """Work lanes as `node-NAME` until cancelled. Raises what `serve` raises, and PipelineError."""
    stage = NodeStage(load_pipeline(settings.worker.pipeline), settings.worker.max_event_bytes)
    await serve(settings, f"node-{name}", stage)
