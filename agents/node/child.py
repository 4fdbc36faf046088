"""The process that runs the user's pipeline, so that a pipeline cannot end its node: `python -m
agents.node.child DATA CONTROL`, with two sockets of the node.

    node ── control ── warden ── forks ── pipeline ── data ── node

The *warden* only waits. When the pipeline's process or the node ends (the node's end closes
`control`), the warden kills everything that is left of the pipeline. This includes forked processes
that have left their session, since the warden is their subreaper (prctl(2)). It then says on
`control` how the pipeline ended. If the warden dies, the kernel kills the pipeline."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from agents.base.errors import PipelineError
from agents.node.contract import (
    Answers,
    RecordColumns,
    call_pipeline_each,
    describe_error,
    load_pipeline,
)
from agents.node.pipeline_version import version_of

PROCESSES = 100
"""A pipeline with more child processes than this is ended."""
HEAD = 8
"""Each message begins with its length, in this many bytes."""
CLOSED = 121
"""Exit code: the connection to the node has failed."""
_YOUNG = 50_000  # as in agents/worker/process.py: batches make many objects and no cycles
_LOOK_MS = 1000
_SWEEP_S = 5.0
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


class Hello(msgspec.Struct, array_like=True, frozen=True):
    """The node's first message. `pythonpath`: the value in the user's environment. `memory_mb`: 0
    is no limit."""

    pipeline: str
    pythonpath: str | None
    memory_mb: int


class Ready(msgspec.Struct, array_like=True, frozen=True):
    """The answer to Hello: which code was loaded, or why none was. `bounded`: whether the memory is
    limited as asked."""

    pid: int
    version: str = ""
    error: str = ""
    bounded: bool = True


class PipelineRequest(msgspec.Struct, array_like=True, frozen=True):
    """Records for the pipeline. `failures`: how many in a row came before them."""

    n: int
    failures: int
    columns: RecordColumns


class PipelineReply(msgspec.Struct, array_like=True, frozen=True):
    """The answers to PipelineRequest `n`."""

    n: int
    answers: Answers


def main(data: int, control: int) -> None:
    warden = os.getpid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    gc.freeze()  # both processes share the memory of what was loaded so far
    pid = os.fork()
    if pid:
        os.close(data)
        guard_pipeline(pid, control)
        return
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != warden:  # the warden died before the kernel was told to watch it
        os._exit(CLOSED)
    os.close(control)
    os.setsid()
    code = 1
    try:
        serve_requests(socket.socket(fileno=data))
        code = 0
    except OSError:
        code = CLOSED
    except BaseException:  # noqa: BLE001 - it is printed, and the process ends
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
        os._exit(code)  # not exit(): the user's handlers and threads could delay it


# The pipeline's process


def serve_requests(node: socket.socket) -> None:
    """Answer requests until the node closes the connection. Raises OSError if it fails."""
    hello = msgspec.msgpack.decode(_receive_frame(node) or b"", type=Hello)
    _prepare_process(hello)
    bounded = _limit_memory(hello.memory_mb)
    me, encode = os.getpid(), msgspec.msgpack.Encoder().encode
    try:
        pipeline = load_pipeline(hello.pipeline)
        ready = Ready(me, version_of(hello.pipeline), bounded=bounded)
    except PipelineError as e:
        ready = Ready(me, error=str(e))
    if os.getpid() != me:  # the user's code has forked, and this is the copy
        os._exit(0)
    _send_frame(node, encode(ready))
    if ready.error:
        return
    decode = msgspec.msgpack.Decoder(PipelineRequest).decode
    while (frame := _receive_frame(node)) is not None:
        ask = decode(frame)
        try:
            reply = encode(
                PipelineReply(ask.n, call_pipeline_each(pipeline, ask.columns, ask.failures))
            )
        except MemoryError as e:
            reply = encode(
                PipelineReply(
                    ask.n,
                    Answers(
                        [-2] * len(ask.columns[0]), errors=[describe_error(e)] * len(ask.columns[0])
                    ),
                )
            )
        if os.getpid() != me:
            os._exit(0)
        _send_frame(node, reply)


def _prepare_process(hello: Hello) -> None:
    if hello.pythonpath is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = hello.pythonpath
    # A stop signal reaches node and pipeline at once, but the node must hand over first, so the
    # pipeline ignores it. Processes that the pipeline starts handle signals as usual.
    stops = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for sign in stops:
        signal.signal(sign, lambda *_: None)
    os.register_at_fork(
        after_in_child=lambda: [signal.signal(s, signal.SIG_DFL) for s in stops] and None
    )
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    faulthandler.enable()
    gc.set_threshold(_YOUNG, 20, 20)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("500")  # when memory runs out, the kernel kills this process first


def _limit_memory(memory_mb: int) -> bool:
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if memory_mb:
            resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))
    except (OSError, ValueError):
        return not memory_mb
    return True


def _receive_frame(node: socket.socket) -> bytearray | None:
    """The next message; None when the node has closed."""
    head = _receive_exactly(node, HEAD)
    return None if head is None else _receive_exactly(node, int.from_bytes(head, "big"))


def _receive_exactly(node: socket.socket, count: int) -> bytearray | None:
    got = bytearray(count)
    view, at = memoryview(got), 0
    while at < count:
        n = node.recv_into(view[at:])
        if not n:
            return None
        at += n
    return got


def _send_frame(node: socket.socket, message: bytes) -> None:
    node.sendall(length_prefix(message))
    node.sendall(message)


def length_prefix(message: bytes) -> bytes:
    """The message's length, which is sent before it."""
    return len(message).to_bytes(HEAD, "big")


# The warden


def guard_pipeline(pid: int, control: int) -> None:
    """Wait for the end of the pipeline `pid` or of the node, then kill all that is left of it."""
    for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sign, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    poll, why, status = select.poll(), "", None
    poll.register(os.pidfd_open(pid), select.POLLIN)
    poll.register(control, select.POLLIN)
    while status is None:
        ready = {fd for fd, _ in poll.poll(_LOOK_MS)}
        status = _reap_children(pid)
        if control in ready:
            break
        if (
            status is None
            and (count := _count_children(pid) + _count_children(os.getpid()) - 1) > PROCESSES
        ):
            why = f"left {count} processes behind"
            break
    status = _kill_all_children(pid, status)
    with suppress(OSError):
        os.write(control, (why or _describe_exit(status)).encode())


def _reap_children(pid: int) -> int | None:
    """Reap all children that have ended. Returns the status of `pid` if it is among them."""
    found = None
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == pid:
                found = ended[1]
    return found


def _kill_all_children(pid: int, status: int | None) -> int | None:
    """Kill and reap our children until none is left; a killed child's own children become ours.
    Returns the status of `pid`, if known."""
    deadline = time.monotonic() + _SWEEP_S
    while time.monotonic() < deadline:
        for child in _own_children():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == pid:
                    status = ended[1]
        except ChildProcessError:
            break
        time.sleep(0.002)
    return status


def _own_children() -> Iterator[int]:
    me = os.getpid()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with (
                suppress(OSError, ValueError, IndexError),
                open(f"/proc/{name}/stat", "rb") as file,
            ):
                if int(file.read().rpartition(b")")[2].split()[1]) == me:
                    yield int(name)


def _count_children(pid: int) -> int:
    """The number of child processes of `pid`; 0 if the kernel does not tell."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return len(file.read().split())
    except OSError:
        return 0


def _describe_exit(status: int | None) -> str:
    if status is None:
        return ""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return (
            "closed its connection to the node"
            if code == CLOSED
            else f"ended the process (exit code {code})"
        )
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "?"
    return f"ended the process (signal {-code}, {name})"


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
