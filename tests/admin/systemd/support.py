"""What a service manager is to a process: a notify socket that it writes to, an environment,
signals."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self


class Manager:
    """Listens at `address`: ``async with Manager(address, watchdog_s) as m``, or `close` it in the
    end. `start` a process and read what it said in `said`, line by line."""

    def __init__(self, address: Path, watchdog_s: float = 0.0) -> None:
        self.address, self.watchdog_s = str(address), watchdog_s
        self.said: list[str] = []
        self.process: asyncio.subprocess.Process | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._hear)

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, *_: type[BaseException] | BaseException | TracebackType | None
    ) -> None:
        self.close()
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    def _hear(self) -> None:
        self.said += self._socket.recv(4096).decode().splitlines()

    async def start(
        self, command: Sequence[str], log: Path, base: Mapping[str, str] = os.environ
    ) -> asyncio.subprocess.Process:
        env = dict(base) | {"NOTIFY_SOCKET": self.address}
        if self.watchdog_s:
            env["WATCHDOG_USEC"] = str(round(self.watchdog_s * 1e6))
        with log.open("ab") as out:
            self.process = await asyncio.create_subprocess_exec(
                *command,
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        return self.process

    @property
    def beats(self) -> int:
        return self.said.count("WATCHDOG=1")

    async def until(
        self, condition: Callable[[], object], what: str, timeout_s: float = 30
    ) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, (
                f"not within {timeout_s:g} s: {what}; heard {self.said[-20:]}"
            )
            await asyncio.sleep(0.02)

    async def hear(self, line: str, timeout_s: float = 30) -> None:
        """Wait until the process has said this line."""
        await self.until(lambda: line in self.said, line, timeout_s)
