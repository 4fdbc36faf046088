"""What is committed is ours and holds no trace of the machine it was written on."""

from __future__ import annotations

import re
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

_MACHINE = re.compile(rb"/(?:work|farm|root|home)/[A-Za-z]|/tmp/[A-Za-z]")
_REGISTRY = re.compile(
    rb"\"resolved\": *\"http|index[-_]url|^ *registry *=|<repository>|find-links|pypi\.org|npmjs\.org", re.M
)
_BINARY = {".gz", ".png", ".jpg", ".sqlite3"}


def _tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    files = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    return [f for f in files if f.is_file() and f.suffix not in _BINARY and f != Path(__file__)]


@pytest.mark.parametrize("package", ["agents", "plugins", "kernels", "ejabberd"])
def test_the_imported_packages_are_ours(package: str) -> None:
    module = import_module(package)
    assert module.__file__ is not None
    assert Path(module.__file__).parent == ROOT / package


@pytest.mark.parametrize("pattern", [_MACHINE, _REGISTRY], ids=["paths of a machine", "hosts of a registry"])
def test_no_tracked_file_holds(pattern: re.Pattern[bytes]) -> None:
    found = {str(f.relative_to(ROOT)): m.group() for f in _tracked() if (m := pattern.search(f.read_bytes()))}
    assert found == {}


def test_every_package_is_listed() -> None:
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {
        str(f.parent.relative_to(ROOT)).replace("/", ".")
        for top in ("agents", "plugins", "kernels", "ejabberd")
        for f in (ROOT / top).rglob("__init__.py")
    }
    assert there == listed


def test_no_source_file_is_longer_than_600_lines() -> None:
    long = {
        str(f.relative_to(ROOT)): n
        for f in _tracked()
        if f.suffix == ".py" and "tests" not in f.parts and (n := f.read_bytes().count(b"\n")) > 600
    }
    assert long == {}
