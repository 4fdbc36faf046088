"""Child processes, kept alive: each has one owner here, dies with it, is started again when it
ends, and has a bounded log.

exit 0 while it should run, 1, 2, a signal     again after a pause that doubles from 0.2 s to 10 s
exit 3 (lease or leadership lost)              again after 0.2 s, as a new boot
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from agents.base import log
from agents.base.supervisor import LAST_END, LOST, PARENT, REFUSED
from agents.local.servers.endings import Endings, Logs, describe_exit_code
from agents.local.servers.folder import RunFolder
from agents.settings.sources import PREFIX

LOG_BYTES = 4 << 20
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _STEADY_S = 0.2, 10.0, 30.0
_log = log.get_logger("embedded.children")


def inherited_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of the environment that a child inherits. It excludes settings: they are in the
    child's file, and the environment would override it."""
    return {name: value for name, value in environ.items() if not name.startswith(PREFIX)}


class Child:
    """One process `geolane ARGUMENTS`, called NAME in logs and pid files. `endings` is told when it
    ends by itself."""

    def __init__(
        self,
        folder: RunFolder,
        name: str,
        arguments: Sequence[str],
        env: Mapping[str, str],
        endings: Endings | None = None,
    ) -> None:
        self.name = name
        self.starts = 0
        self.refusals = 0
        self._folder = folder
        self._arguments = arguments
        self._env = env
        self._endings = endings
        self.logs = Logs(self.log_file)
        self._process: asyncio.subprocess.Process | None = None
        self._last_end = ""

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return (
            self._process.pid
            if self._process is not None and self._process.returncode is None
            else None
        )

    @property
    def log_file(self) -> Path:
        return self._folder.log / f"{self.name}.log"

    async def run(self) -> None:
        """Start it, and start it again whenever it ends, until cancelled. Then end it: SIGTERM, and
        SIGKILL after 10 s."""
        pause_s = _FIRST_PAUSE_S
        try:
            while True:
                begun = time.monotonic()
                code = await self._run_once()
                if time.monotonic() - begun > _STEADY_S:
                    pause_s = _FIRST_PAUSE_S
                _log.warning("process_ended", name=self.name, exit=code, log=str(self.log_file))
                words = await asyncio.to_thread(self.logs.find_cause)
                self._last_end = f"{describe_exit_code(code)}{f': {words}' if words else ''}"
                if self._endings is not None:
                    self._endings.note_ending(self.name, code, words)
                self.refusals += code == REFUSED
                if code == LOST:
                    await asyncio.sleep(_FIRST_PAUSE_S)
                    continue
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        finally:
            await self._end_process()

    def send_signal(self, sign: signal.Signals) -> bool:
        """Send it a signal. Returns False if it does not run."""
        if self.pid is None or self._process is None:
            return False
        with suppress(ProcessLookupError):
            self._process.send_signal(sign)
            return True
        return False

    def trim_log(self) -> None:
        """Keep the log bounded: beyond 4 MiB it is copied to NAME.log.1 and truncated (the process
        appends to the same file)."""
        with suppress(FileNotFoundError):
            if self.log_file.stat().st_size > LOG_BYTES:
                shutil.copyfile(self.log_file, self.log_file.with_suffix(".log.1"))
                os.truncate(self.log_file, 0)

    async def _run_once(self) -> int:
        self.trim_log()
        self.logs.mark_start()
        told = {LAST_END: self._last_end} if self._last_end else {}
        with self.log_file.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "agents",
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={
                    **inherited_environment(os.environ),
                    **self._env,
                    PARENT: str(os.getpid()),
                    **told,
                },
                start_new_session=True,  # Ctrl-C is for us; we end the children in order
            )
        self.starts += 1
        self._folder.note_process(self.name, self._process.pid)
        if self._endings is not None:
            self._endings.note_restart(self.name)
        return await self._process.wait()

    async def _end_process(self) -> None:
        if self._process is None:
            return
        self.send_signal(signal.SIGTERM)
        self.send_signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            _log.warning("process_killed", name=self.name)
            self.send_signal(signal.SIGKILL)
            await self._process.wait()
        self._folder.forget_process(self.name)


class Family:
    """All children. They are ended group by group, in the reverse order of their start."""

    def __init__(self) -> None:
        self.children: dict[str, Child] = {}
        self._groups: list[list[asyncio.Task[None]]] = []

    def start(self, *children: Child) -> None:
        """Start these together. They form one group for stopping."""
        self.children |= {c.name: c for c in children}
        self._groups.append(
            [asyncio.create_task(c.run(), name=f"child-{c.name}") for c in children]
        )

    async def watch_children(self) -> None:
        """Keep logs bounded. Raises the error of a child's owner task (the child could not be
        started)."""
        while True:
            for child in self.children.values():
                await asyncio.to_thread(child.trim_log)
            tasks = [t for group in self._groups for t in group]
            done, _ = (
                await asyncio.wait(tasks, timeout=10, return_when=asyncio.FIRST_COMPLETED)
                if tasks
                else ((), ())
            )
            for task in done:
                task.result()
            if not tasks:
                await asyncio.sleep(1)

    async def stop(self) -> None:
        """End all of them; each has 10 s."""
        while self._groups:
            group = self._groups.pop()
            for task in group:
                task.cancel()
            await asyncio.gather(*group, return_exceptions=True)
