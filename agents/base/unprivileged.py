"""Servers never run as root: which user a server runs as, which files it gets, and whether it can
reach its folder."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.base.errors import InstallError, SettingsError


@dataclass(frozen=True, slots=True)
class RunAs:
    """A user to start a process as; `switch` is False if we are that user already."""

    name: str
    uid: int
    gid: int
    switch: bool

    def set_owner_and_mode(self, path: Path, mode: int, *, give: bool) -> None:
        """Set owner and mode of `path`. With `give` the server owns it; otherwise we do, and the
        server's group has the group's part of `mode`."""
        if self.switch:
            os.chown(path, self.uid if give else 0, self.gid)
        path.chmod(mode)

    def write_private_file(self, path: Path, content: bytes) -> None:
        """Write a file of ours that the server, and nobody else, may read."""
        path.touch(mode=0o600)
        self.set_owner_and_mode(path, 0o640 if self.switch else 0o600, give=False)
        path.write_bytes(content)

    def popen_arguments(self) -> dict[str, Any]:  # Any: arguments of subprocess.Popen
        """Arguments of `subprocess.Popen` that start it as this user. Only this user may read what
        it writes."""
        switch: dict[str, Any] = (
            {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switch else {}
        )
        return {**switch, "umask": 0o077}


def find_user(name: str) -> RunAs:
    """The system user `name` if we are root, otherwise ourselves.

    Raises InstallError if we are root and there is no such user."""
    if os.geteuid() != 0:
        uid = os.geteuid()
        try:
            return RunAs(pwd.getpwuid(uid).pw_name, uid, os.getegid(), switch=False)
        except KeyError:  # a uid without a name, as in containers
            return RunAs(str(uid), uid, os.getegid(), switch=False)
    try:
        entry = pwd.getpwnam(name)
    except KeyError as e:
        raise InstallError(
            f"there is no system user {name}: run make install, which makes it"
        ) from e
    return RunAs(name, entry.pw_uid, entry.pw_gid, switch=True)


def find_barrier(folder: Path, user: RunAs) -> Path | None:
    """The topmost parent of `folder` that `user` may not enter, or None. Folders that do not exist
    yet do not count."""
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
    """Raises SettingsError, naming the closed parent, if `user` cannot reach `folder`."""
    closed = find_barrier(folder, user) if user.switch else None
    if closed is not None:
        raise SettingsError(
            f"{folder}: {closed} is closed to the user {user.name}; choose another folder, for "
            "example in /var/tmp"
        )
