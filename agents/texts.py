"""Text files as people's editors leave them: UTF-8, with or without a byte order mark, with any line ends."""

from __future__ import annotations

import codecs

from agents.errors import SettingsError

BOM = codecs.BOM_UTF8
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


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
