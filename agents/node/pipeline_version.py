"""Identifies a pipeline's code by name and version, so that people can see which nodes run which
code during a rollout."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

FILES_AT_MOST = 1_000
DIGITS = 8


def version_of(name: str) -> str:
    """`MODULE:FUNCTION@VERSION` of a loaded pipeline. The version is the module's `__version__`,
    else the first 8 digits of the SHA-256 of its source: the module's file, or all of the package
    that contains it."""
    module = sys.modules.get(name.partition(":")[0])
    said = getattr(module, "__version__", None)
    if isinstance(said, str) and said:
        return f"{name}@{said[:40]}"
    file = getattr(module, "__file__", None)
    if not file:
        return f"{name}@unknown"
    root = Path(file)
    for _ in range(name.partition(":")[0].count(".")):
        root = root.parent
    files = sorted(root.rglob("*.py"))[:FILES_AT_MOST] if root.is_dir() else [root]
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(root.parent)}\0".encode())
        digest.update(path.read_bytes())
    return f"{name}@{digest.hexdigest()[:DIGITS]}"
