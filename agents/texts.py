"""Files that people name: read whole within a bound; text as editors leave it: UTF-8, with or without a byte order mark, any
line ends."""

from __future__ import annotations

import codecs
from pathlib import Path

from agents.errors import SettingsError

BOM = codecs.BOM_UTF8
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
MAX_BYTES = 16 << 20
"""Of settings, an inventory, a lane map, certificates; also of one line of a file of events."""
SECRET_BYTES = 64 << 10
"""Of a password's file."""


def read_whole(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """A device such as /dev/zero has no end, and a file named by mistake may be larger than the memory.

    Raises SettingsError for more than `max_bytes`, OSError."""
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise SettingsError(f"{path}: is not read, it has more than {max_bytes >> 10:,} KiB; name the right file")
    return data


def without_bom(data: bytes, origin: object) -> bytes:
    """The same, without the mark of UTF-8. Raises SettingsError, naming `origin`, for UTF-16 (as Windows' PowerShell
    writes with `>`) and for what holds NUL bytes."""
    if data.startswith(_UTF_16):
        raise SettingsError(f"{origin}: is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    if (at := data.find(b"\0")) >= 0:
        raise SettingsError(f"{origin}: has a NUL byte at {at:,}, so it is not a text in UTF-8; save it as UTF-8")
    return data.removeprefix(BOM)


def text_of(data: bytes, origin: object) -> str:
    """Raises SettingsError when it is not UTF-8."""
    try:
        return without_bom(data, origin).decode("utf-8")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise SettingsError(f"{origin}: is not UTF-8 (line {line}); save it as UTF-8") from e
