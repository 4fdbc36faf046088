"""The Java program of the engine on Kafka Streams, as a child of ours: its configuration goes in by
standard input, its reports come out by standard output, and its log by standard error."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from agents.base import log
from agents.base.errors import InstallError
from agents.base.files import INSTALL, PROJECT
from agents.base.token_bucket import TokenBucket

_BUILT, _COPIED = PROJECT / ".local" / "streams", Path(sys.prefix, "share", "geolane", "streams")
JARS = _COPIED if _COPIED.exists() and not _BUILT.exists() else _BUILT
"""Where the program is: in a checkout where it was built, beside an installed geolane where it was
copied to."""
SOURCES = Path(__file__).parent / "streams"
BUILD = (
    f"sh {INSTALL} streams"
    if INSTALL.exists()
    else f"build it in a checkout of this version, and copy its .local/streams to {_COPIED}"
)
MAIN = "geolane.router.Main"
OUT_OF_MEMORY, LOST, REFUSED = 3, 4, 5
"""Its exit codes if the heap is full, if the lease is lost, and if a topic refuses what it is
sent."""
SILENT_S = 15.0
"""It reports each second. One that has not for this long hangs, and is killed."""
START_S = 120.0
"""Until its first report: Java takes a few seconds, a minute on a very busy machine."""
STOP_S = 8.0
LINE_BYTES = 8 << 20
LOG_LINES, LOG_LINES_PER_S, LOG_CHARACTERS = 50.0, 5.0, 2000

_log = log.get_logger("router.streams")


def require_installed() -> None:
    """Raises InstallError if Java or the program is missing, or if it was built from other sources
    than these. Blocks."""
    files = sorted((p for p in SOURCES.rglob("*") if p.is_file()), key=os.fsencode)
    built = hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()[:16]
    if not (JARS / f".complete-{built}").exists() or shutil.which("java") is None:
        raise InstallError(
            f"router.engine is kafka-streams, but java or the program ({JARS}) is missing, or it "
            f"is of another version. To mend it: {BUILD}"
        )


class JavaProgram:
    """One run of it. `report` is called with each of its reports. Its files are in a private folder
    that ends with it."""

    def __init__(self, heap_mb: int, report: Callable[[dict[str, Any]], None]) -> None:
        self.pid: int | None = None
        self._heap_mb, self._report = heap_mb, report
        self._process: asyncio.subprocess.Process | None = None
        self._silent_at = 0.0

    async def run(self, make_config: Callable[[Path], dict[str, Any]]) -> int:
        """Start it and return its exit code, below 0 for a signal. When cancelled, end it: it
        commits, leaves the group, and is killed if that takes longer than STOP_S."""
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="geolane-streams-"))
        try:
            config = await asyncio.to_thread(make_config, folder)
            process = self._process = await asyncio.create_subprocess_exec(
                *self._command(folder),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=LINE_BYTES,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
                start_new_session=True,  # Ctrl-C is for us; we end it in order
            )
            self.pid, self._silent_at = process.pid, time.monotonic() + START_S
            _log.info("java_started", pid=process.pid)
            self.send(config)
            try:
                return await self._follow(process)
            finally:
                await self._end(process)
        finally:
            self.pid = self._process = None
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def send(self, message: dict[str, Any]) -> None:
        """Send it a line, if it runs. Lines are few and small."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._process.stdin.write(orjson.dumps(message) + b"\n")

    def _command(self, folder: Path) -> list[str]:
        return [
            "java",
            f"-Xmx{self._heap_mb}m",
            "-XX:+UseSerialGC",
            "-XX:-UsePerfData",
            f"-Djava.io.tmpdir={folder}",  # h3 unpacks its library there
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.streams.StreamsConfig=error",
            # The metadata of our offsets are our counts, which it does not understand.
            "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.streams.processor.internals"
            ".TopicPartitionMetadata=error",
            "-cp",
            f"{JARS}/*",
            MAIN,
        ]

    async def _follow(self, process: asyncio.subprocess.Process) -> int:
        async with asyncio.TaskGroup() as tasks:
            others = (
                tasks.create_task(self._read_reports(process)),
                tasks.create_task(self._read_log(process)),
            )
            watch = tasks.create_task(self._kill_when_silent(process))
            code = await process.wait()
            watch.cancel()
            await asyncio.wait(others, timeout=1)  # a grandchild could hold the pipes open
            for task in others:
                task.cancel()
        return code

    async def _kill_when_silent(self, process: asyncio.subprocess.Process) -> None:
        """When it hangs."""
        while (left_s := self._silent_at - time.monotonic()) > 0:  # noqa: ASYNC110 - it moves on
            await asyncio.sleep(min(left_s, 1.0))
        _log.error("java_silent", pid=process.pid)
        process.kill()

    async def _read_reports(self, process: asyncio.subprocess.Process) -> None:
        stream = process.stdout
        while stream is not None:
            try:
                line = await stream.readline()
            except ValueError:  # longer than LINE_BYTES
                _log.warning("report_too_long")
                continue
            if not line:
                return
            self._silent_at = time.monotonic() + SILENT_S
            try:
                report = orjson.loads(line)
            except orjson.JSONDecodeError:
                report = None
            if type(report) is dict:
                self._report(report)
            else:
                _log.warning("report_not_understood", line=line[:200].decode(errors="replace"))

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        bucket, dropped, stream = TokenBucket(LOG_LINES, LOG_LINES_PER_S), 0, process.stderr
        while stream is not None:
            try:
                line = await stream.readline()
            except ValueError:
                dropped += 1
                continue
            if not line:
                return
            if not bucket.try_take(time.monotonic()):
                dropped += 1
                continue
            text = line[:LOG_CHARACTERS].decode(errors="replace").rstrip()
            _log.warning("java", line=text, **({"dropped": dropped} if dropped else {}))
            dropped = 0

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        self.send({"stop": True})
        # It reads no more reports: what it writes to us must not hold it up.
        drains = [asyncio.create_task(_drain(s)) for s in (process.stdout, process.stderr) if s]
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            _log.warning("java_killed", pid=process.pid, after_s=STOP_S)
            process.kill()
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            for task in drains:
                task.cancel()


async def _drain(stream: asyncio.StreamReader) -> None:
    with contextlib.suppress(ValueError, OSError):
        while await stream.read(1 << 16):
            pass
