"""Passwords come from files of mode 0600, or from systemd (systemd.exec(5), LoadCredential); from nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

from agents.errors import SettingsError
from agents.texts import SECRET_BYTES, read_whole, text_of

CREDENTIALS = "CREDENTIALS_DIRECTORY"


def secret(path: str, *names: str) -> str:
    """The first line of a secret's file; without a `path`, of the first systemd credential that has one of `names`. Empty
    when there is none.

    Raises SettingsError when it cannot be read, is empty or too large, or others can read it too."""
    file = secret_file(path, *names)
    if file is None:
        return ""
    try:
        text = text_of(read_whole(file, SECRET_BYTES), f"{file}: the password").split("\n", 1)[0].strip()
    except OSError as e:
        raise SettingsError(f"{file}: the password cannot be read ({e.strerror})") from e
    if not text.isprintable():
        raise SettingsError(f"{file}: the password has a control character")
    if not text:
        raise SettingsError(f"{file}: the password is empty")
    return text


def secret_file(path: str, *names: str) -> Path | None:
    """Where a secret lies: `path`; without one, the first systemd credential that has one of `names`. None when there is none.

    Raises SettingsError when there is no such file, or others can read it too."""
    file = Path(path) if path else _credential(names)
    if file is None:
        return None
    try:
        mode = file.stat().st_mode
    except OSError as e:
        raise SettingsError(f"{file}: cannot be read ({e.strerror})") from e
    if mode & _others(file):
        raise SettingsError(f"{file}: others can read this secret; run: chmod 600 {file}")
    return file


def _folder() -> Path | None:
    folder = os.environ.get(CREDENTIALS, "")
    return Path(folder) if folder else None


def _credential(names: tuple[str, ...]) -> Path | None:
    folder = _folder()
    if folder is None:
        return None
    return next((file for name in names if name and "/" not in name and (file := folder / name).is_file()), None)


def _others(file: Path) -> int:
    """The mode's bits that must not be set. systemd lets the unit's user read by an ACL, whose mask shows as the group's."""
    return 0o007 if file.parent == _folder() else 0o077
