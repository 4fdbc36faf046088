"""How a worker goes when it is told to stop: it says that it drains, works on until the coordinator
has taken away what it has, and ends when nothing is left, or nobody takes it."""

from __future__ import annotations

import asyncio
import contextlib
import time

from agents.base import log
from agents.base.systemd_notify import Service
from agents.core.lanes.tenure import Tenure
from agents.xmpp.worker_session import WorkerLink

NOBODY_S = 6.0
"""So long is nothing asked back and nothing gone: then nobody takes over (a fleet that stops, one
router, no coordinator)."""
_FLUSH_S = 2.0
_LINGER_S = (
    0.5  # what was answered last is written before the session ends: nothing is left to be fenced
)
_LOOK_S = 0.05

_log = log.get("worker.leaving")


class Left(Exception):
    """The worker has ended as it was told to. Never leaves `serve`."""


async def leave(service: Service, tenure: Tenure, link: WorkerLink, drain_s: float) -> None:
    """Wait until asked to stop, hand over, then raise Left; after `drain_s` seconds the supervisor
    ends it all the same."""
    await service.until_leaving(drain_s)
    begun = since = time.monotonic()
    last: list[tuple[int, int, bool]] = []
    while tenure.lease is not None and not tenure.ended:
        left = [(n, epoch, tenure.asked(n)) for n, epoch in tenure.owned()]
        if not left:
            service.status("drained")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_S):
                    await link.settled()
            await asyncio.sleep(_LINGER_S)
            _log.info("drained", seconds=round(time.monotonic() - begun, 2))
            break
        if left != last:
            last, since = left, time.monotonic()
        elif time.monotonic() - since > NOBODY_S and not any(asked for _, _, asked in left):
            _log.warning("nobody_takes_over", partitions=[n for n, _, _ in left])
            break
        await asyncio.sleep(_LOOK_S)
    raise Left
