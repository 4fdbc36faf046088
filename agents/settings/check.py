"""Everything that is wrong with a table as it was read, in words, each with its key and what would be right."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from agents.core.nearest import hint, nearest
from agents.settings.about import hints, read, rows_of, table_of, wants

_SECRET = re.compile(r"passw(or)?d|passphrase|secret|token|credential", re.IGNORECASE)
NO_SECRETS = (
    "no password stands here. Write it to a file of mode 0600 and name that file in password_file; or give the process a "
    "systemd credential of the account's name (LoadCredential=NAME:FILE) and leave password_file out"
)


def is_secret(name: str) -> bool:
    """Whether a key that does not exist looks like one for a password."""
    return _SECRET.search(name) is not None


def problems(kind: type, data: Mapping[str, Any], at: str = "", every: Collection[str] = ()) -> list[str]:
    """What keeps `data` from being a `kind`; empty: nothing. `at` stands before each key; `every`: all dotted keys of the
    file, for those that stand in the wrong table."""
    known = hints(kind)
    out = []
    for name, value in data.items():
        if name in known:
            out += _of_value(known[name], value, at, name, every)
        else:
            out.append(f"{at}{name}: {unknown(name, at, known, every)}")
    return out + _missing(kind, data, at)


def unknown(name: str, at: str, siblings: Collection[str], every: Collection[str] = ()) -> str:
    """What is said of the key `name` that does not exist among its `siblings`."""
    if is_secret(name):
        return NO_SECRETS
    leaves = {path.rpartition(".")[2]: path for path in every}
    if name in leaves:
        return f"there is no such key. Did you mean {leaves[name]}?"
    if near := nearest(name, siblings) or _only_one_with(name, siblings):
        return f"there is no such key. Did you mean {at if every else ''}{near}?"
    if near := nearest(name, leaves) or _only_one_with(name, leaves):
        return f"there is no such key. Did you mean {leaves[near]}?"
    return f"there is no such key. {hint(name, siblings, at_most=20)}"


def _only_one_with(part: str, names: Collection[str]) -> str | None:
    """`batch_records` for `batch`, if no other name has it in it."""
    found = [name for name in names if part.casefold() in name]
    return found[0] if len(part) > 2 and len(found) == 1 else None


def _of_value(kind: Any, value: Any, at: str, name: str, every: Collection[str]) -> list[str]:  # Any: types and TOML
    if table := table_of(kind):
        if not isinstance(value, dict):
            return [f"{at}{name}: is a table, written [{at}{name}] with its keys below"]
        return problems(table, value, f"{at}{name}.", every)
    if row := rows_of(kind):
        if not (isinstance(value, list) and all(isinstance(v, dict) for v in value)):
            return [f"{at}{name}: is written [[{at}{name}]], once for each, with its keys below"]
        return [p for i, v in enumerate(value) for p in problems(row, v, _row(name, i, v))]
    try:
        read(kind, value)
    except ValueError as e:
        return [f"{at}{name}: {e}"]
    return []


def _row(table: str, i: int, row: Mapping[str, Any]) -> str:
    name = row.get("name")
    return f"{table} {name if isinstance(name, str) and name else i + 1}: "


def _missing(kind: type, data: Mapping[str, Any], at: str) -> list[str]:
    if not issubclass(kind, msgspec.Struct):
        return []
    known = hints(kind)
    fields = [f.name for f in msgspec.structs.fields(kind) if f.required and f.name not in data]
    return [
        f"{at}{name}: is missing; write "
        + (f"[[{name}]]" if rows_of(known[name]) else f"{name} = {wants(known[name])}")
        for name in fields
    ]
