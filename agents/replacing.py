"""Files that several processes read and write: replaced as a whole, by one at a time."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agents.errors import SettingsError

LOCK_S = 10.0
_POLL_S = 0.01


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """One at a time, of all who write in this file's folder. The folder itself is locked, since files in it are replaced; nothing
    is left there. Blocks, for LOCK_S at most. Raises SettingsError."""
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
    """The file with this text, on disk; whoever reads it finds the old one or the new one. Its mode and owner stay; a new file is
    its owner's alone (0600). Raises OSError, and then changes nothing."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as f:
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
