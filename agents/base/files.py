"""Files that several processes read and write. A write replaces the whole file; one process writes
at a time.

Passwords that geolane makes lie each in a file of its own. Files that people name are read whole,
up to a bound, as editors leave them: UTF-8, with or without a byte order mark, with any line
ends."""

from __future__ import annotations

import codecs
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agents.base.errors import SettingsError

PROJECT = Path(__file__).resolve().parents[2]
INSTALL = PROJECT / "agents" / "local" / "servers" / "install.sh"
"""Installs what a run needs; messages name it."""
LOCK_S = 10.0
_POLL_S = 0.01


@contextmanager
def locked_folder(file: Path) -> Iterator[None]:
    """Hold the lock on this file's folder, so that one process writes there at a time.

    The folder itself is locked, since its files are replaced; no lock file is left behind. Blocks
    for at most LOCK_S. Raises SettingsError."""
    try:
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise SettingsError(f"{file.parent}: cannot be opened ({e.strerror})") from e
    try:
        deadline = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise SettingsError(
                        f"{file}: another process has been editing it for {LOCK_S:g} s; try again"
                    ) from None
                time.sleep(_POLL_S)
        yield
    finally:
        os.close(folder)


def replace_file(file: Path, text: str) -> None:
    """Write `text` to the file and to the disk; a reader finds either the old or the new content.

    The mode and owner stay; only the owner may read a new file (0600). Raises OSError and then
    changes nothing."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        with open(
            os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as f:
            f.write(text)
            if file.exists():
                like = file.stat()
                os.fchmod(f.fileno(), like.st_mode & 0o7777)
                if os.geteuid() == 0:
                    os.fchown(f.fileno(), like.st_uid, like.st_gid)
            f.flush()
            os.fsync(f.fileno())
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


# Passwords.

BYTES = 32


def read_or_make_password(file: Path) -> str:
    """The password in the file. If there is no file, or an empty one that a full disk left, a
    random password of 256 bits is written first (mode 0600).

    If several processes call this at once, the first one's password counts. Blocks. Raises
    SettingsError."""
    if text := _read_password(file):
        return text
    with locked_folder(file):
        if not (text := _read_password(file)):
            text = secrets.token_urlsafe(BYTES)
            try:
                replace_file(file, text + "\n")
            except OSError as e:
                raise SettingsError(f"{file}: cannot be written ({e.strerror})") from e
    return text


def _read_password(file: Path) -> str:
    try:
        return decode_utf8(read_whole_file(file, SECRET_BYTES), file).strip()
    except FileNotFoundError:
        return ""
    except OSError as e:
        raise SettingsError(f"{file}: cannot be read ({e.strerror})") from e


# Files that people name.

BOM = codecs.BOM_UTF8
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
MAX_BYTES = 16 << 20
"""For settings, an inventory, a lane map and certificates, and for one line of a file of events."""
SECRET_BYTES = 64 << 10
"""For a password's file."""


def read_whole_file(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The file's bytes. The bound matters: a device such as /dev/zero has no end, and a file named
    by mistake may be larger than the memory.

    Raises SettingsError for more than `max_bytes`, and OSError."""
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise SettingsError(
            f"{path}: is not read, because it has more than {max_bytes >> 10:,} KiB; name the "
            "right file"
        )
    return data


def strip_bom(data: bytes, origin: object) -> bytes:
    """`data` without the byte order mark of UTF-8.

    Raises SettingsError, naming `origin`, for UTF-16 (PowerShell on Windows writes it with `>`) and
    for NUL bytes."""
    if data.startswith(_UTF_16):
        raise SettingsError(f"{origin}: is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    if (at := data.find(b"\0")) >= 0:
        raise SettingsError(
            f"{origin}: has a NUL byte at {at:,}, so it is not UTF-8 text; save it as UTF-8"
        )
    return data.removeprefix(BOM)


def decode_utf8(data: bytes, origin: object) -> str:
    """Raises SettingsError if `data` is not UTF-8."""
    try:
        return strip_bom(data, origin).decode("utf-8")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise SettingsError(f"{origin}: is not UTF-8 (line {line}); save it as UTF-8") from e
