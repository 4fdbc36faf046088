"""A user's own file of events: one per line, plain or gzip, handed on byte for byte."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from typing import IO


def events(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of an open binary file that are not empty; gzip is seen by its first bytes."""
    head = file.peek(2)[:2] if isinstance(file, io.BufferedReader) else b""
    lines = gzip.GzipFile(fileobj=file) if head == b"\x1f\x8b" else file
    for line in lines:
        if event := line.strip():
            yield event


def keyed(file: IO[bytes]) -> Iterator[tuple[None, bytes]]:
    """The same as (key, event) for `events.raw`; without a key the router takes the event's id."""
    for event in events(file):
        yield None, event
