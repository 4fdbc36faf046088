"""What a process says to whoever keeps it, and hears from it (sd_notify(3)): ready, its state in a
line, that its event loop turns, that it stops; and that it is asked to leave.

Without a notify socket all of it is said to nobody, and `leave` still works."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass, field

from agents.base import log

_log = log.get("systemd")


@dataclass(slots=True)
class Service:
    """One long-lived process. `address`: the notify socket, empty for none. `watchdog_s`: without a
    sign for so long it is ended and started again; 0: nobody watches. `hands_over`: whether there
    is somebody to hand over to when it stops. `drain_s`: so long may that take; 0 while nobody
    waits in `until_leaving`."""

    address: str = ""
    watchdog_s: float = 0.0
    hands_over: bool = True
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    drain_s: float = field(default=0.0, init=False)
    _is_ready: bool = False
    _status: str = ""
    _owed: str = ""
    _failed: bool = False

    @classmethod
    def of(cls, environment: MutableMapping[str, str], *, hands_over: bool = True) -> Service:
        """What the environment says of the socket and the watchdog; its variables are taken out of
        it, so that no process started from here speaks for this one."""
        pid, us = environment.pop("WATCHDOG_PID", ""), environment.pop("WATCHDOG_USEC", "")
        watched = us.isdigit() and pid in ("", str(os.getpid()))
        return cls(
            environment.pop("NOTIFY_SOCKET", ""), int(us) / 1e6 if watched else 0.0, hands_over
        )

    def ready(self, status: str) -> None:
        """It does its work now. Only the first time counts; afterwards as `status`."""
        if self._is_ready:
            self.status(status)
            return
        self._is_ready, self._status = True, status
        self._owed = f"READY=1\nSTATUS={status}"
        if self._say(self._owed):
            self._owed = ""

    def status(self, text: str) -> None:
        """A line for `systemctl status`; said when it differs from the last."""
        if text != self._status:
            self._status = text
            self._say(f"STATUS={text}")

    def stopping(self, within_s: float) -> None:
        """It has been told to stop, and will have within `within_s` seconds."""
        self._say(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={round(within_s * 1e6)}")

    async def until_leaving(self, drain_s: float) -> None:
        """Return when it is asked to stop. Whoever waits here hands over within `drain_s` and then
        ends the process; while nobody waits, a signal ends it at once."""
        self.drain_s = drain_s if self.hands_over else 0.0
        await self.leave.wait()

    async def beat(self) -> None:
        """As long as this task gets its turn, the loop is alive: says so at half the time allowed,
        until cancelled. While it is not ready yet it asks for as much time again: what waits for
        its servers is no failed start."""
        if not self.watchdog_s:
            return
        more = f"WATCHDOG=1\nEXTEND_TIMEOUT_USEC={round(self.watchdog_s * 1e6)}"
        while True:
            if self._owed and self._say(self._owed):
                self._owed = ""
            self._say("WATCHDOG=1" if self._is_ready else more)
            await asyncio.sleep(self.watchdog_s / 2)

    def _say(self, text: str) -> bool:
        """False: it did not get through (that is logged once). Never raises, never waits."""
        if not self.address:
            return True
        address = "\0" + self.address[1:] if self.address[0] == "@" else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.setblocking(False)
            try:
                s.sendto(text.encode(), address)
            except OSError as e:
                if not self._failed:
                    _log.warning("notify_failed", error=str(e))
                self._failed = True
                return False
        self._failed = False
        return True
