"""Runs one process: a main coroutine on uvloop; a signal lets it hand over, then cancels it;
stopping is bounded, the exit code says how it ended.

0  ended, or stopped by SIGTERM, SIGINT, SIGHUP  2  a GeolaneError, said in one line
1  a fault of ours, logged with its traceback    3  lease or leadership lost: start it again
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvloop

from agents.base import log
from agents.base.errors import GeolaneError, LeadershipLost, LeaseLost
from agents.base.systemd_notify import Service

ENDED, FAULT, REFUSED, LOST = 0, 1, 2, 3
PARENT = "GEOLANE_PARENT"
LAST_END = "GEOLANE_LAST_END"
"""Environment variable: how the previous process ended, in words. Whatever restarts us sets it."""
_PR_SET_PDEATHSIG = 1
_log = log.get_logger("supervisor")


def die_with_parent() -> bool:
    """If the environment names our parent (`GEOLANE_PARENT`, its process id), have the kernel kill
    us when the parent dies (prctl(2)).

    Returns whether it does. All processes then end together, and there is nobody to hand over
    to."""
    parent = os.environ.pop(PARENT, "")
    if not parent:
        return False
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):  # it died before we asked
        os._exit(FAULT)
    return True


def dump_tasks() -> None:
    """Write to standard error where each task of the running loop waits. SIGUSR1 calls this, to
    examine a process that hangs."""
    for task in asyncio.all_tasks():
        task.print_stack(limit=8, file=sys.stderr)
    sys.stderr.flush()


def leaf_errors(error: BaseException) -> Iterator[BaseException]:
    """The errors inside nested exception groups."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaf_errors(inner)
    else:
        yield error


def first_leaf_error(error: BaseException) -> BaseException:
    """The first error inside nested exception groups: the others follow from it."""
    return next(leaf_errors(error))


def retrieve_error(future: asyncio.Future[Any]) -> None:
    """A callback for a future that nobody may be left to wait for: asyncio would log its error."""
    if not future.cancelled():
        future.exception()


def exit_code_of(error: BaseException) -> int:
    """The exit code of a process that ends by `error`. The gravest error of a group counts: a lost
    lease above all others."""
    errors = list(leaf_errors(error))
    if any(isinstance(e, LeaseLost | LeadershipLost) for e in errors):
        return LOST
    if all(isinstance(e, GeolaneError) for e in errors):
        return REFUSED
    return FAULT


class _Stop:
    """What each signal does to the main task: first hand over (if it waits for that), then cancel,
    then exit at once."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        task: asyncio.Task[int | None],
        service: Service,
        stop_s: float,
    ):
        self._loop, self._task, self._service, self._stop_s = loop, task, service, stop_s
        self.asked = self._cut = False
        self._terminals = [
            fd for fd in (0, 1, 2) if os.isatty(fd)
        ]  # decided now: once hung up, a terminal no longer looks like one

    def on_signal(self, name: str) -> None:
        if self._cut:
            os._exit(FAULT)
        if self.asked:
            self.cancel_main()
            return
        self.asked = True
        hand_over_s = self._service.drain_s
        _log.info("stopping", signal=name, hand_over_s=hand_over_s)
        self._service.notify_stopping(hand_over_s + self._stop_s)
        if hand_over_s:
            self._service.leave.set()
            self._loop.call_later(hand_over_s, self.cancel_main)
            self._exit_after(hand_over_s + self._stop_s)  # should the loop hang meanwhile
        else:
            self.cancel_main()

    def on_hangup(self) -> None:
        """The terminal is gone, so nothing can be written to it any more. SIGHUP may come several
        times."""
        if self.asked:
            return
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in self._terminals:
            os.dup2(nowhere, fd)
        self.on_signal("SIGHUP")

    def cancel_main(self) -> None:
        if not self._cut and not self._task.done():
            self._cut = True
            self._exit_after(self._stop_s)
            self._task.cancel()

    def _exit_after(self, bound_s: float) -> None:
        timer = threading.Timer(bound_s, self._exit_now, (bound_s,))
        timer.daemon = True
        timer.start()

    @staticmethod
    def _exit_now(bound_s: float) -> None:
        _log.error("stop_took_too_long", bound_s=bound_s)
        os._exit(FAULT)


def run(
    main: Callable[[], Awaitable[int | None]],
    *,
    stop_s: float = 10.0,
    tell: bool = True,
    service: Service | None = None,
) -> int:
    """Run `main()` to its end and return the exit code: what `main` returned, with 0 for None.

    The first SIGTERM or SIGINT cancels it. After `stop_s` more seconds, or at the second signal,
    the process exits at once. A `main` that waits in `service.wait_until_leaving` first gets time
    to hand over: as long as it stated there, or until the next signal. SIGHUP (a closed terminal)
    acts as SIGTERM unless it was ignored (nohup).

    With `tell` False, a GeolaneError or OSError is raised instead of logged: for commands that a
    person runs. Only the user may read the files that it writes (0600)."""
    logger = _log
    service = service or Service()
    umask = os.umask(0o077)  # for journal, logs and run state
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        loop = runner.get_loop()

        async def run_main() -> int | None:
            return await main()

        task = loop.create_task(run_main(), name="main")
        stop = _Stop(loop, task, service, stop_s)
        for s in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(s, stop.on_signal, s.name)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, stop.on_hangup)
        loop.add_signal_handler(signal.SIGUSR1, dump_tasks)
        if service.watchdog_s:
            faulthandler.enable()  # the watchdog's SIGABRT then shows where the process hangs
        beat = loop.create_task(service.notify_watchdog(), name="watchdog")
        try:
            return loop.run_until_complete(task) or ENDED
        except asyncio.CancelledError:
            if stop.asked:
                return ENDED
            raise
        except Exception as error:
            code, first = exit_code_of(error), next(leaf_errors(error))
            if not tell and (code == REFUSED or isinstance(first, OSError)):
                raise first from None
            if code == FAULT:
                logger.error("fault", exc_info=error)
            else:
                logger.error(
                    "ended", error="; ".join(str(e) for e in leaf_errors(error)), exit=code
                )
            return code
        finally:
            os.umask(umask)
            beat.cancel()
