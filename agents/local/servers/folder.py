"""The run folder holds everything that a run writes. One run at a time holds it, and removes what
a killed one left.

ejabberd/ kafka/     the servers' own             settings/  one file per process
secrets/ACCOUNT      passwords, mode 0600         log/       each process's log, bounded
pids/NAME            process id and start time    journal.sqlite3, lock
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import stat
import time
from pathlib import Path
from types import TracebackType

from agents.base.errors import InstallError, SettingsError
from agents.base.files import PROJECT

_ANOTHER = "or name another folder with --folder"
_LONGEST = 60
"""Bytes of a path that leave room for the name of a unix socket below it (108 bytes, unix(7))."""


def default_folder() -> Path:
    """`.run` in the project. If ejabberd's user could not reach that (a clone under /root), or its
    path is too long: a private folder below /var/tmp, named after the project's path."""
    wish = PROJECT / ".run"
    if len(os.fsencode(wish)) <= _LONGEST and (os.getuid() != 0 or _others_can_enter(PROJECT)):
        return wish
    mark = hashlib.sha256(os.fsencode(PROJECT)).hexdigest()[:10]
    return Path("/var/tmp", f"geolane-{os.getuid()}-{mark}")


def settings_of_running_stack(account: str) -> Path:
    """The account's settings file in the stack that runs in the default folder. Raises
    SettingsError if none does."""
    folder = default_folder()
    if not is_in_use(folder):
        raise SettingsError(
            f"no geolane stack runs here (in {folder}). Start one with `geolane up`, or name the "
            "settings file of your fleet with --settings FILE"
        )
    file = folder / "settings" / f"{account}.toml"
    if not file.exists():
        raise SettingsError(
            f"the stack that runs in {folder} has no settings for {account!r} (or not yet); name a "
            "settings file with --settings FILE"
        )
    return file


def is_in_use(folder: Path) -> bool:
    """Whether a run holds the folder, by the process that its lock names: to try the lock might
    refuse it to a run that starts just then."""
    try:
        pid, _, started = (folder / "lock").read_text("ascii", "replace").partition(" ")
    except OSError:
        return False
    return pid.isdigit() and bool(started) and process_start_time(int(pid)) == started


def _others_can_enter(folder: Path) -> bool:
    return all(p.stat().st_mode & stat.S_IXOTH for p in (folder, *folder.parents))


def process_start_time(pid: int) -> str:
    """When the process was started (field 22 of /proc/PID/stat). With the pid, that identifies a
    process for good. Empty if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


class RunFolder:
    """A context manager: inside it the folder is ours alone."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None

    @property
    def secrets(self) -> Path:
        return self.path / "secrets"

    @property
    def settings(self) -> Path:
        return self.path / "settings"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def pids(self) -> Path:
        return self.path / "pids"

    def __enter__(self) -> RunFolder:
        """Make the folder, take its lock, and end what a killed run left.

        Raises SettingsError if another run holds it, if it belongs to another user, or if nothing
        can be written there."""
        try:
            str(self.path).encode()
            self._lock_folder()
        except UnicodeEncodeError as e:
            raise SettingsError(
                f"{os.fsencode(self.path)!r}: its name is not UTF-8 in this locale; set "
                f"LC_ALL=C.UTF-8, {_ANOTHER}"
            ) from e
        except OSError as e:
            self.__exit__(None, None, None)
            raise SettingsError(
                f"{e.filename or self.path}: {e.strerror}; free space or change the rights there, "
                f"{_ANOTHER}"
            ) from e
        return self

    def _lock_folder(self) -> None:
        # If we are root, ejabberd's own user may pass through the folder but not list it.
        mode = 0o711 if os.getuid() == 0 else 0o700
        self.path.mkdir(mode=mode, parents=True, exist_ok=True)
        about = self.path.lstat()
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
            raise SettingsError(
                f"{self.path}: is not a geolane run folder; name another with --folder"
            )
        self.path.chmod(mode)
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            owner = os.read(lock, 40).decode("ascii", "replace").partition(" ")[0]
            os.close(lock)
            raise SettingsError(
                f"{self.path}: another run is using this folder (process {owner}); stop it, "
                f"{_ANOTHER}"
            ) from e
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()} {process_start_time(os.getpid())}".encode())
        self._lock = lock
        for sub in (self.secrets, self.settings, self.log, self.pids):
            sub.mkdir(mode=0o700, exist_ok=True)
        self.end_leftovers()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def end_leftovers(self) -> None:
        """Kill the processes that an earlier run started and did not end. A process is identified
        by pid and start time."""
        for file in self.pids.iterdir():
            pid, _, started = file.read_text("ascii", "replace").partition(" ")
            if pid.isdigit() and started and process_start_time(int(pid)) == started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
                deadline = time.monotonic() + 5
                while process_start_time(int(pid)) == started:
                    if time.monotonic() > deadline:
                        raise InstallError(
                            f"process {pid}, left by an earlier run, does not end; end it, then "
                            "try again"
                        )
                    time.sleep(0.01)
            file.unlink()

    def note_process(self, name: str, pid: int) -> None:
        """Record that process `pid` is ours, so that a later run can end it if we are killed."""
        (self.pids / name).write_text(f"{pid} {process_start_time(pid)}", "ascii")

    def forget_process(self, name: str) -> None:
        (self.pids / name).unlink(missing_ok=True)

    def empty_parts(self, *names: str) -> None:
        """Empty these parts of the folder: a run starts without the data of the one before."""
        for name in names:
            for path in self.path.glob(name):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
