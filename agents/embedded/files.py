"""Settings files as the stack writes them: one per process, mode 0600, read back by agents.settings like anybody's."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from agents.core.inventory import InventoryFile
from agents.settings import Settings


def toml(settings: Settings) -> str:
    """All tables with all keys. A JSON string, number or (lower-case) boolean is a TOML one too."""
    tables = []
    for table in msgspec.structs.fields(settings):
        tables += _tables(table.name, getattr(settings, table.name))
    return "\n".join(tables)


def _tables(name: str, value: msgspec.Struct) -> list[str]:
    """The table `name`, then those that lie in it."""
    values = {f.name: getattr(value, f.name) for f in msgspec.structs.fields(value)}
    lines = [f"{k} = {json.dumps(v)}" for k, v in values.items() if not isinstance(v, msgspec.Struct)]
    inner = [t for k, v in values.items() if isinstance(v, msgspec.Struct) for t in _tables(f"{name}.{k}", v)]
    return [f"[{name}]\n" + "\n".join(lines) + "\n", *inner]


def write(path: Path, settings: Settings) -> Path:
    """Write the file; it is there whole or not at all."""
    new = path.with_suffix(".new")
    new.write_text(toml(settings), "utf-8")
    new.chmod(0o600)
    return new.replace(path)


def inventory(file: InventoryFile) -> str:
    """An inventory as TOML, to be read by the coordinator: every table, each key that has a value."""
    tables = ((table.name, row) for table in msgspec.structs.fields(file) for row in getattr(file, table.name))
    return "\n".join(
        f"[[{name}]]\n"
        + "".join(f"{k} = {json.dumps(v)}\n" for k, v in msgspec.structs.asdict(row).items() if v is not None)
        for name, row in tables
    )
