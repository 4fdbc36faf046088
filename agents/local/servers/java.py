"""One Java process of a server of ours: started in the server's folder as its user, known again by
its pid file after our own end, stopped by its process id."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from agents.base import log
from agents.base.unprivileged import RunAs, find_barrier

POLL_S = 0.05
_log = log.get_logger("embedded.java")


class JavaProcess:
    """`name`: its name in logs, and in `folder` that of NAME.pid. `printed`: the file for what Java
    itself prints. `mark`: an argument that only this process has: process ids are reused."""

    def __init__(self, folder: Path, name: str, printed: Path, mark: str) -> None:
        self.name = name
        self.printed = printed
        self.child: subprocess.Popen[bytes] | None = None
        self._folder = folder
        self._mark = os.fsencode(mark)

    @property
    def pid(self) -> int | None:
        """Its process id while it runs as our child."""
        return self.child.pid if self.child is not None and self.child.poll() is None else None

    def spawn(self, command: Sequence[str], user: RunAs, **more: str) -> None:
        """Start it in its folder; `more`: variables of its environment. Blocks."""
        with self.printed.open("wb") as out:
            # A session of its own: Ctrl-C then reaches only our process, which stops its servers
            # last.
            self.child = subprocess.Popen(
                command,
                cwd=self._folder,
                env=java_environment() | more,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                **user.popen_arguments(),
            )
        self._pid_file.write_text(f"{self.child.pid}\n", "ascii")

    async def stop(self, timeout_s: float) -> None:
        """SIGTERM, then SIGKILL if it has not ended in time. Returns when the process is gone and
        its ports are free."""
        child, self.child = self.child, None
        if child is None:
            return
        child.terminate()
        deadline = time.monotonic() + timeout_s
        while child.poll() is None:
            if time.monotonic() > deadline:
                _log.warning("java_killed", name=self.name, after_s=timeout_s, pid=child.pid)
                child.kill()
                await asyncio.to_thread(child.wait)
                break
            await asyncio.sleep(POLL_S)
        self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL, like a crash."""
        child, self.child = self.child, None
        if child is not None:
            child.kill()
            child.wait()

    def end_stale(self) -> None:
        """End the one that an earlier run left in this folder, if there is one. Blocks for at most
        20 s."""
        pid = self.find_stale_pid()
        if pid is None:
            return
        _log.info("stale_java_ended", name=self.name, pid=pid, folder=str(self._folder))
        for sign, patience_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                return
            deadline = time.monotonic() + patience_s
            while time.monotonic() < deadline:
                if self.find_stale_pid() is None:
                    return
                time.sleep(POLL_S)

    @property
    def _pid_file(self) -> Path:
        return self._folder / f"{self.name}.pid"

    def find_stale_pid(self) -> int | None:
        """The process that the pid file names, if it is alive and the server of this folder."""
        try:
            pid = int(self._pid_file.read_text("ascii"))
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if self._mark in arguments else None


def java_environment() -> dict[str, str]:
    """Java takes file names for ASCII unless the locale is UTF-8."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def readable_jars(jars: Path, folder: Path, user: RunAs) -> Path:
    """A folder where `user` can read the jars: a copy in `folder` if one above the project is
    closed to it (a clone under /root)."""
    if not user.switch or find_barrier(jars / "any", user) is None:
        return jars
    copy = folder / "jars"
    copy.mkdir(exist_ok=True)
    user.set_owner_and_mode(copy, 0o750, give=False)
    for jar in jars.glob("*.jar"):
        if not (copy / jar.name).exists() or (copy / jar.name).stat().st_size != jar.stat().st_size:
            shutil.copyfile(jar, copy / jar.name)
        user.set_owner_and_mode(copy / jar.name, 0o640, give=False)
    return copy


def read_tail(files: Sequence[Path], characters: int = 2000) -> str:
    """The end of each file that exists."""
    return "".join(
        file.read_text("utf-8", errors="replace")[-characters:] for file in files if file.exists()
    )
