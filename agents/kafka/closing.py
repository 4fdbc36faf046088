"""Ends a client of aiokafka within a bound, whatever state its broker is in: the last step of a process must not fail or hang."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from agents import log

_log = log.get("kafka.closing")


async def closed(stop: Coroutine[Any, Any, None], bound_s: float = 5.0) -> None:
    """Run a client's `stop()` in a task of its own and wait for it, `bound_s` seconds at most; what it raises is logged.

    aiokafka's consumer lets the CancelledError of its own fetching task out of `stop()` when the broker is away. Raised in
    the caller, that would pass for the caller's own cancellation, and a task group would take it for a quiet end."""
    stopping = asyncio.create_task(stop)
    _, late = await asyncio.wait({stopping}, timeout=bound_s)
    if late:
        stopping.cancel()
        _log.warning("client_not_closed", bound_s=bound_s)
    elif not stopping.cancelled() and (error := stopping.exception()) is not None:
        _log.warning("client_not_closed", error=repr(error))
