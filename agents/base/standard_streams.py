"""Standard streams as a command may find them: closed, full, or a pipe without a reader."""

from __future__ import annotations

import asyncio
import codecs
import io
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

STDOUT = "standard output"
_LENIENT = "geolane-lenient"


def prepare_streams() -> None:
    """Make the standard streams safe to use.

    Each stream that was closed at the start (`<&-`, `>&-`, `2>&-`) is opened on the null device.
    Otherwise the next file that the process opens would get the free number: a socket could take
    the place of standard error, and libuv aborts when it closes one (uv__close, libuv's core.c).

    An error of standard output is raised as an OSError with the file name `STDOUT`. A character
    that the encoding lacks (LC_ALL=C) becomes a question mark; the bytes of a file's name are
    unchanged."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    for name, fd, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 (as long as the process)
    out = sys.stdout
    if out is sys.__stdout__ and isinstance(out, io.TextIOWrapper):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Stdout(1, "w", closefd=False)),
            encoding=out.encoding,
            errors=_LENIENT,
            line_buffering=out.line_buffering,
        )


def _replace_unencodable(e: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(e, UnicodeEncodeError):
        raise e
    lacking = map(ord, e.object[e.start : e.end])
    return bytes(c - 0xDC00 if 0xDC80 <= c <= 0xDCFF else ord("?") for c in lacking), e.end


codecs.register_error(_LENIENT, _replace_unencodable)


class _Stdout(io.FileIO):
    def write(self, data: Any, /) -> int:  # Any: a buffer, as FileIO has it
        try:
            while (written := super().write(data)) is None:  # some program made it non-blocking
                select.select((), (self,), ())
            return written
        except OSError as e:
            raise OSError(e.errno, e.strerror, STDOUT) from None


def discard_buffered(error: OSError) -> None:
    """After an error of standard output, discard what is still buffered for it. Otherwise the
    interpreter would try to write it again as it exits."""
    if error.filename == STDOUT:
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, 1)
            os.close(nowhere)


def watch_stdin(can_be_read: Callable[[], object]) -> None:
    """Call it in the running loop whenever standard input can be read, until `remove_reader`.

    For that, uvloop makes the file non-blocking (uv_poll_init). On a terminal it is the same file
    as standard output, on which a write that has to wait would then fail."""
    fd = sys.stdin.fileno()
    asyncio.get_running_loop().add_reader(fd, can_be_read)
    os.set_blocking(fd, True)
