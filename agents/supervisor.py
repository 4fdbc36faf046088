"""Runs one process: a main coroutine on uvloop; a signal cancels it, stopping is bounded, the exit code says how it
ended.

0  ended, or stopped by SIGTERM or SIGINT        2  a GeolaneError, said in one line
1  a fault of ours, logged with its traceback    3  lease or leadership lost: start it again at once, with a new boot
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator

import uvloop

from agents import log
from agents.errors import GeolaneError, LeadershipLost, LeaseLost

ENDED, FAULT, REFUSED, LOST = 0, 1, 2, 3
PARENT = "GEOLANE_PARENT"
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """If the environment names our parent (`GEOLANE_PARENT`, its id): the kernel kills us when it dies (prctl(2))."""
    parent = os.environ.pop(PARENT, "")
    if not parent:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):  # it died before we asked
        os._exit(FAULT)


def notify(state: str) -> None:
    """Tell systemd `READY=1`, `STOPPING=1` ... if it listens (sd_notify(3)); never fails."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.setblocking(False)
        try:
            s.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
        except OSError as e:
            log.get("supervisor").warning("notify_failed", error=str(e))


def dump_tasks() -> None:
    """Write where each task of the running loop waits to standard error: what SIGUSR1 does, for a process that hangs."""
    for task in asyncio.all_tasks():
        task.print_stack(limit=8, file=sys.stderr)
    sys.stderr.flush()


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside task groups' groups."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def exit_code(error: BaseException) -> int:
    """What a process that ends by `error` answers. The gravest of a group counts: a lost lease above all."""
    errors = list(leaves(error))
    if any(isinstance(e, LeaseLost | LeadershipLost) for e in errors):
        return LOST
    if all(isinstance(e, GeolaneError) for e in errors):
        return REFUSED
    return FAULT


def run(main: Callable[[], Awaitable[int | None]], *, stop_s: float = 10.0, tell: bool = True) -> int:
    """Run `main()` to its end and answer the exit code; what it returns is the code, None is 0.

    The first SIGTERM or SIGINT cancels it; after `stop_s` seconds more, or at the second signal, it ends as it is. With `tell`
    False a GeolaneError is not logged but raised: for commands that a person runs."""
    logger = log.get("supervisor")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        loop = runner.get_loop()
        stopping = threading.Event()
        timers: list[threading.Timer] = []
        task: asyncio.Task[int | None]

        def hard_end() -> None:
            logger.error("stop_took_too_long", bound_s=stop_s)
            os._exit(FAULT)

        def stop(name: str) -> None:
            if stopping.is_set():
                os._exit(FAULT)
            stopping.set()
            logger.info("stopping", signal=name)
            notify("STOPPING=1")
            timer = threading.Timer(stop_s, hard_end)
            timer.daemon = True
            timer.start()
            timers.append(timer)
            task.cancel()

        async def go() -> int | None:
            return await main()

        task = loop.create_task(go(), name="main")
        for s in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(s, stop, s.name)
        loop.add_signal_handler(signal.SIGUSR1, dump_tasks)
        loop.call_soon(notify, "READY=1")
        try:
            return loop.run_until_complete(task) or ENDED
        except asyncio.CancelledError:
            if stopping.is_set():
                return ENDED
            raise
        except Exception as error:
            code = exit_code(error)
            if code == FAULT:
                logger.error("fault", exc_info=error)
            elif code == REFUSED and not tell:
                raise next(leaves(error)) from None
            else:
                logger.error("ended", error="; ".join(str(e) for e in leaves(error)), exit=code)
            return code
