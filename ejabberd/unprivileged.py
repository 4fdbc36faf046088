"""Servers never run as root: who we are when we start one, and whether that user can reach the folder meant for it."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from agents.errors import InstallError, SettingsError


@dataclass(frozen=True, slots=True)
class RunAs:
    """A user to start a process as; `switch` is False where we are that user already."""

    name: str
    uid: int
    gid: int
    switch: bool


def run_as(name: str) -> RunAs:
    """The system user `name` when we are root, else ourselves. Raises InstallError when root lacks that user."""
    if os.geteuid() != 0:
        uid = os.geteuid()
        try:
            return RunAs(pwd.getpwuid(uid).pw_name, uid, os.getegid(), switch=False)
        except KeyError:  # a uid without a name, as in containers
            return RunAs(str(uid), uid, os.getegid(), switch=False)
    try:
        entry = pwd.getpwnam(name)
    except KeyError as e:
        raise InstallError(f"there is no system user {name}: install the Debian package {name} (make install)") from e
    return RunAs(name, entry.pw_uid, entry.pw_gid, switch=True)


def barrier(folder: Path, user: RunAs) -> Path | None:
    """The topmost parent of `folder` that `user` may not pass, or None. Folders that do not exist yet bar nobody."""
    for parent in reversed(folder.absolute().parents):
        try:
            info = parent.stat()
        except FileNotFoundError:
            return None
        if info.st_uid == user.uid:
            bit = stat.S_IXUSR
        elif info.st_gid == user.gid:
            bit = stat.S_IXGRP
        else:
            bit = stat.S_IXOTH
        if not info.st_mode & bit:
            return parent
    return None


def require_reachable(folder: Path, user: RunAs) -> None:
    """Raises SettingsError, naming the parent that bars the way, when `user` cannot reach `folder`."""
    closed = barrier(folder, user) if user.switch else None
    if closed is not None:
        raise SettingsError(
            f"{folder}: {closed} is closed to the user {user.name}; choose a folder elsewhere, /var/tmp say"
        )
