"""Adds and removes rows of the inventory's file as text, so that comments and all other lines stay
as they were written.

Each edited text is parsed before it replaces the file: it must differ by exactly that row. The file
is replaced as a whole, so that a coordinator never reads half of it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from agents.base.errors import SettingsError
from agents.base.files import BOM, decode_utf8, locked_folder, read_whole_file, replace_file
from agents.base.suggest import suggest_names
from agents.core.model.inventory import Inventory, InventoryFile
from agents.core.model.topology import WorkerKind
from agents.settings import decode_toml

_HEADER = re.compile(r"\s*\[")
_NODE = re.compile(r"\s*\[\[\s*(node|'node'|\"node\")\s*\]\]")
_BY_HAND = "edit it by hand"


@dataclass(frozen=True, slots=True)
class Row:
    """A `[[node]]`."""

    name: str
    site: str
    capacity_eps: float

    @property
    def toml(self) -> str:
        """The row as text. The characters allowed in a name and a site need no escaping."""
        return (
            f'[[node]]\nname = "{self.name}"\nsite = "{self.site}"\ncapacity_eps = '
            f"{float(self.capacity_eps)!r}\n"
        )


def read_inventory(path: Path) -> Inventory:
    """Raises SettingsError."""
    return Inventory.from_file(decode_toml(path, InventoryFile), str(path))


def check_row(inventory: Inventory, row: Row) -> bool:
    """Whether the row is there already.

    Raises SettingsError if the row would not be valid, or contradicts the one that is there."""
    if row.site not in inventory.sites:
        raise SettingsError(
            f"{inventory.origin}: there is no site {row.site!r}. "
            f"{suggest_names(row.site, inventory.sites)} Add a new one as a [[site]] there"
        )
    there = inventory.workers.get(f"{WorkerKind.NODE.name}-{row.name}")
    if there is None:
        return False
    if there.site != row.site:
        raise SettingsError(
            f"{inventory.origin}: node {row.name} exists, at site {there.site}. To move it: "
            f"geolane nodes remove {row.name} first; "
            "or change its row, if the machine has moved"
        )
    if there.capacity_eps != row.capacity_eps:
        raise SettingsError(
            f"{inventory.origin}: node {row.name} exists, with capacity_eps = "
            f"{there.capacity_eps:g}. Change its row: a running coordinator reads it again"
        )
    return True


def add_row(path: Path, row: Row) -> bool:
    """Write the row after the last one of its kind. Returns False if it was there.

    Raises SettingsError and then changes nothing."""

    def insert_row(text: str) -> str:
        lines = text.splitlines(keepends=True)
        at = max((end for _, end, _ in _node_blocks(lines)), default=len(lines))
        before = "".join(lines[:at])
        if before and not before.endswith("\n"):
            before += "\n"
        return before + ("\n" if before else "") + row.toml + "".join(lines[at:])

    with locked_folder(path):
        if check_row(read_inventory(path), row):
            return False
        _replace_file(path, insert_row, lambda rows: rows["node"].append(msgspec.to_builtins(row)))
        return True


def remove_row(path: Path, name: str) -> bool:
    """Remove the row. Returns False if it was not there.

    Raises SettingsError and then changes nothing."""

    def cut_row(text: str) -> str:
        lines = text.splitlines(keepends=True)
        for begin, end, named in _node_blocks(lines):
            if named == name:
                after = end + 1 if end < len(lines) and not lines[end].strip() else end
                return "".join((*lines[:begin], *lines[after:]))
        raise SettingsError(
            f"{path}: the row of node {name} is not written as [[node]] with its keys below; "
            f"{_BY_HAND}"
        )

    def drop_row(rows: dict[str, Any]) -> None:
        rows["node"] = [r for r in rows["node"] if r["name"] != name]

    with locked_folder(path):
        if f"{WorkerKind.NODE.name}-{name}" not in read_inventory(path).workers:
            return False
        _replace_file(path, cut_row, drop_row)
        return True


def _node_blocks(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """For each `[[node]]`: its first line, the line after its last, and its name. Comments and
    blank lines at its end belong to the next table."""
    heads = [i for i, line in enumerate(lines) if _HEADER.match(line)]
    for head, following in zip(heads, [*heads[1:], len(lines)], strict=True):
        if not _NODE.match(lines[head]):
            continue
        end = following
        while end > head + 1 and (
            not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")
        ):
            end -= 1
        with suppress(tomllib.TOMLDecodeError):
            yield head, end, str(tomllib.loads("".join(lines[head:end]))["node"][0].get("name"))


def _replace_file(
    path: Path, edit: Callable[[str], str], expect: Callable[[dict[str, Any]], None]
) -> None:
    try:
        data = read_whole_file(path)
        text = decode_utf8(data, path)
        rows = msgspec.to_builtins(decode_toml(path, InventoryFile))
        expect(rows)
        # Keep the form in which somebody's editor left it: the byte order mark and Windows' line
        # ends.
        edited = edit(text.replace("\r\n", "\n"))
        try:
            found = msgspec.convert(tomllib.loads(edited), InventoryFile)
        except (tomllib.TOMLDecodeError, msgspec.ValidationError) as e:
            raise SettingsError(
                f"{path}: its rows are not written as [[node]] with their keys below; {_BY_HAND}"
            ) from e
        Inventory.from_file(found, str(path))
        if msgspec.to_builtins(found) != rows:
            raise SettingsError(f"{path}: the text of that row is not unique; {_BY_HAND}")
        if "\r\n" in text:
            edited = edited.replace("\n", "\r\n")
        replace_file(path, ("\ufeff" if data.startswith(BOM) else "") + edited)
    except OSError as e:
        raise SettingsError(
            f"{path}: cannot be written ({e.strerror}); check the rights of {path.parent}"
        ) from e
