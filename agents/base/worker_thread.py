"""One daemon thread for blocking work. The event loop keeps running, and a stuck job never keeps
the process alive."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple[
    Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"
]  # Any: the job's result


class WorkThread:
    """Runs jobs one after the other, in order. Call `stop` at the end; a job that hangs is
    abandoned."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run_jobs, name=name, daemon=True)
        self._thread.start()

    async def run(self, job: Callable[[], T]) -> T:
        """Return or raise what `job()` does. If this wait is cancelled, the job still runs to its
        end and its result is dropped."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._jobs.put((job, loop, done))
        return await done

    def stop(self) -> None:
        self._jobs.put(None)

    def _run_jobs(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, loop, done = item
            result, error = None, None
            try:
                result = job()
            except BaseException as e:  # noqa: BLE001 - handed to the task that waits
                error = e
            with contextlib.suppress(RuntimeError):  # the loop is closed: no task waits
                loop.call_soon_threadsafe(_settle_future, done, result, error)
            del item, job, done, result, error


def _settle_future(done: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)
