"""Files that several processes read and write: replaced as a whole, by one at a time."""

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

LOCK_S = 10.0
_POLL_S = 0.01


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """One at a time, of all who write in this file's folder. The folder itself is locked, since
    files in it are replaced; nothing is left there. Blocks, for LOCK_S at most. Raises
    SettingsError."""
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
                        f"{file}: somebody else has been editing it for {LOCK_S:g} s; try again"
                    ) from None
                time.sleep(_POLL_S)
        yield
    finally:
        os.close(folder)


def replace(file: Path, text: str) -> None:
    """The file with this text, on disk; whoever reads it finds the old one or the new one. Its mode
    and owner stay; a new file is its owner's alone (0600). Raises OSError, and then changes
    nothing."""
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


# ---- Passwords that geolane makes, each in a file of its own.

BYTES = 32


def made_once(file: Path) -> str:
    """The password in the file; a random one of 256 bits is put there (mode 0600) where there is
    none, or an empty file that a full disk left. Of those who come at once, the first one's counts.
    Blocks. Raises SettingsError."""
    if text := _text(file):
        return text
    with alone(file):
        if not (text := _text(file)):
            text = secrets.token_urlsafe(BYTES)
            try:
                replace(file, text + "\n")
            except OSError as e:
                raise SettingsError(f"{file}: cannot be written ({e.strerror})") from e
    return text


def _text(file: Path) -> str:
    try:
        return text_of(read_whole(file, SECRET_BYTES), file).strip()
    except FileNotFoundError:
        return ""
    except OSError as e:
        raise SettingsError(f"{file}: cannot be read ({e.strerror})") from e


# ---- Files that people name: read whole within a bound; text as editors leave it: UTF-8, with or
# without a byte order mark, any line ends.

BOM = codecs.BOM_UTF8
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
MAX_BYTES = 16 << 20
"""Of settings, an inventory, a lane map, certificates; also of one line of a file of events."""
SECRET_BYTES = 64 << 10
"""Of a password's file."""


def read_whole(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """A device such as /dev/zero has no end, and a file named by mistake may be larger than the
    memory.

    Raises SettingsError for more than `max_bytes`, OSError."""
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise SettingsError(
            f"{path}: is not read, it has more than {max_bytes >> 10:,} KiB; name the right file"
        )
    return data


def without_bom(data: bytes, origin: object) -> bytes:
    """The same, without the mark of UTF-8. Raises SettingsError, naming `origin`, for UTF-16 (as
    Windows' PowerShell writes with `>`) and for what holds NUL bytes."""
    if data.startswith(_UTF_16):
        raise SettingsError(f"{origin}: is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    if (at := data.find(b"\0")) >= 0:
        raise SettingsError(
            f"{origin}: has a NUL byte at {at:,}, so it is not a text in UTF-8; save it as UTF-8"
        )
    return data.removeprefix(BOM)


def text_of(data: bytes, origin: object) -> str:
    """Raises SettingsError when it is not UTF-8."""
    try:
        return without_bom(data, origin).decode("utf-8")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise SettingsError(f"{origin}: is not UTF-8 (line {line}); save it as UTF-8") from e
