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
    rb"\"resolved\": *\"http|index[-_]url|^ *registry "
    rb"*=|<repository>|find-links|pypi\.org|npmjs\.org",
    re.M,
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


@pytest.mark.parametrize(
    "pattern", [_MACHINE, _REGISTRY], ids=["paths of a machine", "hosts of a registry"]
)
def test_no_tracked_file_holds(pattern: re.Pattern[bytes]) -> None:
    found = {
        str(f.relative_to(ROOT)): m.group()
        for f in _tracked()
        if (m := pattern.search(f.read_bytes()))
    }
    assert found == {}


def test_every_folder_with_modules_is_a_package() -> None:
    """Else setuptools would leave it out of a wheel."""
    folders = {f.parent for f in _tracked() if f.suffix == ".py"}
    tops = [ROOT / top for top in ("agents", "plugins", "kernels", "ejabberd")]
    ours = [f for f in folders if any(top == f or top in f.parents for top in tops)]
    assert [str(f.relative_to(ROOT)) for f in ours if not (f / "__init__.py").is_file()] == []
