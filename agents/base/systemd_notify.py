"""What a process tells its service manager (sd_notify(3)): that it is ready, its state in a line,
that its event loop runs, that it is stopping. The manager in turn asks it to leave.

Without a notify socket nothing is sent, and `leave` still works."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass, field

from agents.base import log

_log = log.get_logger("systemd")


@dataclass(slots=True)
class Service:
    """One long-lived process.

    `address`: the notify socket; empty for none. `watchdog_s`: after this long without a sign of
    life the manager restarts the process; 0: no watchdog. `hands_over`: whether another process can
    take over its work. `drain_s`: how long the hand-over may take; 0 while no task waits in
    `wait_until_leaving`."""

    address: str = ""
    watchdog_s: float = 0.0
    hands_over: bool = True
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    drain_s: float = field(default=0.0, init=False)
    is_ready: bool = field(default=False, init=False)
    _status: str = ""
    _owed: str = ""
    _failed: bool = False

    @classmethod
    def from_environment(
        cls, environment: MutableMapping[str, str], *, hands_over: bool = True
    ) -> Service:
        """The socket and the watchdog named by the environment. Their variables are removed from
        it, so that no child process speaks for this one."""
        pid, us = environment.pop("WATCHDOG_PID", ""), environment.pop("WATCHDOG_USEC", "")
        watched = us.isdigit() and pid in ("", str(os.getpid()))
        return cls(
            environment.pop("NOTIFY_SOCKET", ""), int(us) / 1e6 if watched else 0.0, hands_over
        )

    def notify_ready(self, status: str) -> None:
        """Report that the process does its work now. Later calls only set the status."""
        if self.is_ready:
            self.notify_status(status)
            return
        self.is_ready, self._status = True, status
        self._owed = f"READY=1\nSTATUS={status}"
        if self._send_state(self._owed):
            self._owed = ""

    def notify_status(self, text: str) -> None:
        """Set the line that `systemctl status` shows; sent only if it differs from the last."""
        if text != self._status:
            self._status = text
            self._send_state(f"STATUS={text}")

    def notify_stopping(self, within_s: float) -> None:
        """Report that the process was told to stop and will end within `within_s` seconds."""
        self._send_state(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={round(within_s * 1e6)}")

    async def wait_until_leaving(self, drain_s: float) -> None:
        """Return when the process is asked to stop. The caller then hands over within `drain_s` and
        ends the process. If no task waits here, a signal ends the process at once."""
        self.drain_s = drain_s if self.hands_over else 0.0
        await self.leave.wait()

    async def notify_watchdog(self) -> None:
        """Report, at half the allowed interval, that the loop is alive, until cancelled.

        Until the process is ready this also asks for as much time again: waiting for servers is not
        a failed start."""
        if not self.watchdog_s:
            return
        more = f"WATCHDOG=1\nEXTEND_TIMEOUT_USEC={round(self.watchdog_s * 1e6)}"
        while True:
            if self._owed and self._send_state(self._owed):
                self._owed = ""
            self._send_state("WATCHDOG=1" if self.is_ready else more)
            await asyncio.sleep(self.watchdog_s / 2)

    def _send_state(self, text: str) -> bool:
        """Returns False if the message did not get through (logged once). Never raises, never
        waits."""
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
