"""The orderly end of a worker: it announces that it drains, works on until the coordinator has
asked back all its lanes, and ends when nothing is left or nobody takes over."""

from __future__ import annotations

import asyncio
import contextlib
import time

from agents.base import log
from agents.base.systemd_notify import Service
from agents.core.lanes.tenure import Tenure
from agents.xmpp.worker_session import WorkerLink

NOBODY_S = 6.0
"""If nothing is asked back and nothing changes for this long, nobody takes over (the whole fleet
stops, this is the only router, or there is no coordinator)."""
_FLUSH_S = 2.0
_LINGER_S = (
    0.5  # the coordinator commits the last release before the session ends, so it need not fence us
)
_LOOK_S = 0.05

_log = log.get_logger("worker.leaving")


class Left(Exception):
    """The worker has handed over and ends as ordered. `run_worker` does not raise it."""


async def hand_over_and_leave(
    service: Service, tenure: Tenure, link: WorkerLink, drain_s: float
) -> None:
    """Wait until asked to stop, hand over, then raise Left. After `drain_s` seconds the supervisor
    ends the process in any case."""
    await service.wait_until_leaving(drain_s)
    begun = since = time.monotonic()
    last: list[tuple[int, int, bool]] = []
    while tenure.lease is not None and not tenure.ended:
        left = [(n, epoch, tenure.is_asked_back(n)) for n, epoch in tenure.owned_epochs()]
        if not left:
            service.notify_status("drained")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_S):
                    await link.wait_until_answered()
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
