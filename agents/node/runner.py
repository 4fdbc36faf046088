"""The node's side of the processes that run its pipeline: it starts them, sends them requests, and
ends them with everything that they have started.

Everything here blocks and must run in a thread; `pids` and `version` may be read in any thread."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from socket import AF_UNIX, SOCK_STREAM, socketpair
from typing import Protocol

import msgspec
import psutil

from agents.base import log
from agents.base.errors import PipelineError
from agents.base.token_bucket import TokenBucket
from agents.node.child import HEAD, Hello, PipelineReply, PipelineRequest, Ready, length_prefix
from agents.node.contract import ONE, Answers, RecordColumns, shorten_text

START_S = 60.0
"""How long the import of the pipeline may take."""
SPARES = 2
SPARE_S = 60.0
"""A process that was not needed for this long is ended; one spare process always stays."""
_END_S = 6.0
_FRAME_BYTES = 1 << 30
_LINE, _BURST, _LINES_PER_S = 500, 50, 2
_NOT_THEIRS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")

_log = log.get_logger("pipeline")
_replies = msgspec.msgpack.Decoder(PipelineReply)
_encode = msgspec.msgpack.Encoder().encode


class Late(Exception):
    """There is no answer yet. It may still arrive: call `receive_answer` again, or `close`."""


class PipelineLost(PipelineError):
    """The process that ran the pipeline has ended or can no longer be reached. The text says
    how."""


class PipelineRunner(Protocol):
    """One process that runs a pipeline, or its substitute in a test. One request at a time."""

    @property
    def is_fresh(self) -> bool:
        """Whether it had no request before the last one."""

    def send_request(self, columns: RecordColumns, failures: int) -> None:
        """Send a request. Raises PipelineLost."""

    def receive_answer(self, within_s: float) -> Answers:
        """Wait for the answer to the request. Raises Late, PipelineLost."""


class Runner(Protocol):
    """Gives a stage its pipeline processes. Any thread may call it."""

    @property
    def version(self) -> str:
        """MODULE:FUNCTION@VERSION of the code that runs."""

    @property
    def pids(self) -> Sequence[int]:
        """The processes that run the pipeline now."""

    def acquire_process(self) -> PipelineRunner:
        """A process for the caller alone. Raises PipelineError if none can be started."""

    def release_process(self, process: PipelineRunner) -> None:
        """Return a process that works and is no longer needed."""

    def end_process(self, process: PipelineRunner) -> None:
        """End a process, whatever it does."""


class PipelineOutput:
    """Logs what a pipeline prints, line by line, with a limit on length and rate. Lines that are
    left out are counted."""

    def __init__(self, tell: Callable[[str, int], None] | None = None) -> None:
        self._tell = tell or _log_printed
        self._left, self._lines = 0, TokenBucket(_BURST, _LINES_PER_S)
        self._lock = threading.Lock()

    def read_to_end(self, fd: int) -> None:
        """Read `fd` to its end, so that a process that prints never waits for us."""
        rest = b""
        while True:
            try:
                got = os.read(fd, 1 << 16)
            except OSError:
                got = b""
            *lines, rest = (rest + got).split(b"\n")
            if not got or len(rest) > _LINE:
                lines.append(rest)
                rest = b""
            for line in lines:
                if line.strip():
                    self._log_line(line[:_LINE])
            if not got:
                os.close(fd)
                return

    def _log_line(self, line: bytes) -> None:
        with self._lock:
            if not self._lines.try_take(time.monotonic()):
                self._left += 1
                return
            left, self._left = self._left, 0
        self._tell(shorten_text(line.decode("utf-8", "backslashreplace"), _LINE), left)


def _log_printed(text: str, left_out: int) -> None:
    _log.info("pipeline_printed", text=text, **({"lines_left_out": left_out} if left_out else {}))


class PipelineProcess:
    """One process that runs the pipeline; call `load_pipeline` after making it. Making it raises
    PipelineError if no process can be started."""

    def __init__(self, said: PipelineOutput, path: str = "") -> None:
        self._n = 0
        self._head, self._body, self._at = b"", bytearray(), 0
        self._node, data = socketpair(AF_UNIX, SOCK_STREAM)
        self._control, control = socketpair(AF_UNIX, SOCK_STREAM)
        read, write = os.pipe()
        env = {name: value for name, value in os.environ.items() if name not in _NOT_THEIRS}
        env["PYTHONPATH"] = os.pathsep.join(
            os.path.abspath(p) for p in ((path, *sys.path) if path else sys.path)
        )
        try:
            self._popen = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "agents.node.child",
                    str(data.fileno()),
                    str(control.fileno()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=write,
                stderr=write,
                pass_fds=(data.fileno(), control.fileno()),
                start_new_session=True,
                env=env,
            )
        except OSError as e:
            os.close(read)
            self._node.close()
            self._control.close()
            raise PipelineError(f"no process can be started for the pipeline: {e}") from e
        finally:  # the child has its own copies of these
            os.close(write)
            data.close()
            control.close()
        self.warden = self._popen.pid
        threading.Thread(
            target=said.read_to_end, args=(read,), name="pipeline-said", daemon=True
        ).start()
        self.pid, self.version = self.warden, ""

    def load_pipeline(self, pipeline: str, memory_mb: int, within_s: float) -> None:
        """Load the pipeline and wait until that is done. Raises PipelineError."""
        try:
            self._send_message(
                _encode(Hello(pipeline, os.environ.get("PYTHONPATH"), memory_mb)), within_s
            )
            ready = msgspec.msgpack.decode(self._receive_frame(within_s), type=Ready)
        except (Late, PipelineLost, msgspec.DecodeError) as e:
            why = f"it did not start within {within_s:g} s" if isinstance(e, Late) else str(e)
            raise PipelineError(f"worker.pipeline: {pipeline!r} cannot be loaded: {why}") from None
        if ready.error:
            raise PipelineError(ready.error)
        if not ready.bounded:
            _log.warning("pipeline_memory_not_bounded", memory_mb=memory_mb)
        self.pid, self.version = ready.pid, ready.version

    @property
    def is_fresh(self) -> bool:
        return self._n <= 1

    def send_request(self, columns: RecordColumns, failures: int) -> None:
        self._n += 1
        self._send_message(_encode(PipelineRequest(self._n, failures, columns)), START_S)

    def receive_answer(self, within_s: float) -> Answers:
        """The answer to the last request. Raises PipelineLost, also after `within_s` seconds."""
        try:
            reply = _replies.decode(self._receive_frame(within_s))
        except msgspec.DecodeError:
            raise PipelineLost("answered what cannot be read") from None
        a = reply.answers
        came = sum(
            count * (1 if kind == ONE else max(kind, 0)) for kind, count in Counter(a.kinds).items()
        )
        if reply.n != self._n or not came == len(a.values) == len(a.keys):
            raise PipelineLost("answered something else than it was asked")
        return a

    def close(self) -> None:
        with suppress(OSError):
            self._node.shutdown(2)  # wakes a thread that waits for an answer
        self._node.close()
        self._control.close()
        try:
            self._popen.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()  # the kernel then kills the pipeline, too
            self._popen.wait()

    # Messages as bytes

    def _send_message(self, message: bytes, within_s: float) -> None:
        try:
            self._node.settimeout(within_s)
            self._node.sendall(length_prefix(message))
            self._node.sendall(message)
        except OSError as e:  # a time-out, too
            raise PipelineLost(self._describe_end(str(e))) from None

    def _receive_frame(self, within_s: float) -> bytearray:
        """The next message. After Late, a later call continues with the bytes that have arrived."""
        until = time.monotonic() + within_s
        while len(self._head) < HEAD:
            self._head += self._receive_some(until, bytearray(HEAD - len(self._head)))
            if len(self._head) == HEAD:
                size = int.from_bytes(self._head, "big")
                if size > _FRAME_BYTES:
                    raise PipelineLost("answered what cannot be read")
                self._body, self._at = bytearray(size), 0
        while self._at < len(self._body):
            self._at += len(self._receive_some(until, memoryview(self._body)[self._at :]))
        body, self._head, self._body = self._body, b"", bytearray()
        return body

    def _receive_some(self, until: float, into: bytearray | memoryview) -> bytearray | memoryview:
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise Late
        try:
            self._node.settimeout(left_s)
            got = self._node.recv_into(into)
        except TimeoutError:
            raise Late from None
        except OSError as e:
            raise PipelineLost(self._describe_end(str(e))) from None
        if not got:
            raise PipelineLost(self._describe_end("closed its connection to the node"))
        return into[:got]

    def _describe_end(self, otherwise: str) -> str:
        """How the process ended, as the warden says; `otherwise` if it says nothing."""
        said = b""
        with suppress(OSError):
            self._control.settimeout(_END_S)
            said = self._control.recv(200)
        return said.decode("utf-8", "replace") or otherwise


class Pipelines:
    """All pipeline processes of a node, with the same code: one that works, and more while lanes in
    trouble are worked aside. `path`: one more folder to import from. `printed`: takes the printed
    lines, with the number left out before each, in place of the log."""

    def __init__(
        self,
        pipeline: str,
        memory_mb: int,
        *,
        path: str = "",
        printed: Callable[[str, int], None] | None = None,
        start_s: float = START_S,
    ) -> None:
        self._pipeline, self._memory_mb, self._path, self._start_s = (
            pipeline,
            memory_mb,
            path,
            start_s,
        )
        self._said = PipelineOutput(printed)
        self._lock = threading.Lock()
        self._all: set[PipelineProcess] = set()
        self._spare: list[tuple[float, PipelineProcess]] = []
        self._closed = False
        self._version = ""

    @property
    def version(self) -> str:
        return self._version

    @property
    def pids(self) -> Sequence[int]:
        with self._lock:
            return [p.pid for p in self._all]

    def acquire_process(self) -> PipelineProcess:
        """A process that has loaded the pipeline, a spare one if there is one. Blocks while it
        starts. Raises PipelineError."""
        with self._lock:
            if self._spare:
                return self._spare.pop()[1]
        process = PipelineProcess(self._said, self._path)
        with self._lock:
            closed = self._closed
            self._all.add(process)
        try:
            if closed:
                raise PipelineLost("the node ends")
            process.load_pipeline(self._pipeline, self._memory_mb, self._start_s)
        except PipelineError:
            self.end_process(process)
            raise
        self._version = process.version
        return process

    def release_process(self, process: PipelineRunner) -> None:
        """Give a process back that is fit to run again. It is kept as a spare for a minute."""
        assert isinstance(process, PipelineProcess)  # noqa: S101 - ours
        now = time.monotonic()
        with self._lock:
            self._spare.append((now, process))
            old = [p for at, p in self._spare[:-1] if now - at > SPARE_S] or [
                p for _, p in self._spare[:-SPARES]
            ]
            self._spare = [(at, p) for at, p in self._spare if p not in old]
        for p in old:
            self.end_process(p)

    def end_process(self, process: PipelineRunner) -> None:
        assert isinstance(process, PipelineProcess)  # noqa: S101 - ours
        with self._lock:
            self._all.discard(process)
        process.close()

    def count_leftovers(self) -> tuple[int, int]:
        """The number of processes and of threads that the pipeline has started and that still
        run."""
        processes = threads = 0
        with self._lock:
            them = list(self._all)
        for process in them:
            with suppress(psutil.Error):
                theirs = psutil.Process(process.pid)
                processes += len(psutil.Process(process.warden).children(recursive=True)) - 1
                threads += theirs.num_threads() - 1
        return processes, threads

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            self._closed = True
            them = list(self._all)
            self._all.clear()
            self._spare.clear()
        for process in them:
            process.close()


def try_pipeline(pipeline: str) -> str:
    """Load the pipeline in a process of its own, then end that; returns the pipeline's version.
    Raises PipelineError."""
    pipelines = Pipelines(pipeline, 0)
    try:
        pipelines.acquire_process()
        return pipelines.version
    finally:
        pipelines.close()
