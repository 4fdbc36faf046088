"""A user's own file of events: one event per line, plain or gzip, passed on byte for byte."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from typing import IO

from agents.base.errors import SettingsError
from agents.base.files import MAX_BYTES, strip_bom


def read_events(file: IO[bytes]) -> Iterator[bytes]:
    """The non-empty lines of an open binary file. Its first bytes tell whether it is gzip.

    Raises SettingsError for UTF-16, for a line of more than MAX_BYTES, and for a gzip file that is
    damaged or cut short."""
    head = file.peek(2)[:2] if isinstance(file, io.BufferedReader) else b""
    lines = gzip.GzipFile(fileobj=file) if head == b"\x1f\x8b" else file
    name = getattr(file, "name", "the events")
    try:
        first = _read_line(lines, name)
        if first.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
            first = strip_bom(first, name)
        if event := first.strip():
            yield event
        while line := _read_line(lines, name):
            if event := line.strip():
                yield event
    except (EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise SettingsError(
            f"{name}: cannot be unpacked ({e}); check that the file is complete"
        ) from e


def _read_line(lines: IO[bytes] | gzip.GzipFile, name: object) -> bytes:
    """The next line with its line end; empty at the end of the file."""
    line = lines.readline(MAX_BYTES + 1)
    if len(line) > MAX_BYTES:
        raise SettingsError(
            f"{name}: a line has more than {MAX_BYTES >> 20} MiB; write one event per line"
        )
    return line


def read_keyed_events(file: IO[bytes]) -> Iterator[tuple[None, bytes]]:
    """Each event as (key, event) for `events.raw`. The key is None: the router then uses the
    event's id."""
    for event in read_events(file):
        yield None, event
