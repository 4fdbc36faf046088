"""The settings as text: the commented example, and the values in effect with their origins."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

import msgspec

from agents.settings.fields import is_secret, key_types_of, table_type_of
from agents.settings.sources import Key, Loaded, all_keys
from agents.settings.tables import Settings

_HEAD = """\
# Every setting of geolane, with its unit, the values that it may have, and its default. `geolane settings example`
# prints this file; remove the # before what you change. The environment overrides the file (each key names its
# variable), and --set TABLE.KEY=VALUE overrides both. Relative paths start from the folder in which a process was
# started. docs/settings.md says how passwords are given.
"""  # noqa: E501
_WIDE = 118


def example_file() -> str:
    """A settings file with every key, commented out; it changes nothing."""
    out = [_HEAD]
    for table, rows in _keys_by_table():
        out.append(f"\n# {_describe_table(table)}\n[{table}]\n")
        out += [
            f"\n{_comment_for_key(key)}\n#{key.name} = {_value_to_toml(key.default)}\n"
            for key in rows
        ]
    return "".join(out)


def effective_file(loaded: Loaded) -> str:
    """Every key with its value, as a settings file, each followed by its origin. Passwords lie in
    files of their own and are not read."""
    out = []
    for table, rows in _keys_by_table():
        lines = [(_line_for_key(key, loaded), loaded.origins[key.path]) for key in rows]
        wide = max(len(line) for line, _ in lines)
        out.append(
            f"[{table}]\n"
            + "".join(f"{line:{wide}}  # {_escape_unprintable(origin)}\n" for line, origin in lines)
        )
    return "\n".join(out)


def settings_to_json(loaded: Loaded) -> str:
    """One line: each dotted key."""
    rows = {
        path: ShownSetting(_shown_value(key, loaded), loaded.origins[path])
        for path, key in all_keys().items()
    }
    return msgspec.json.encode(rows).decode()


class ShownSetting(msgspec.Struct, frozen=True, rename={"origin": "from"}):
    """A setting in effect, and where it comes from: a file, a variable, a flag or the default."""

    value: bool | int | float | str
    origin: str


_HIDDEN = "(hidden)"


def _line_for_key(key: Key, loaded: Loaded) -> str:
    """A secret is a comment, so that the text can be loaded and does not set it to something
    else."""
    value = _shown_value(key, loaded)
    mark = "#" if value is _HIDDEN else ""
    return f"{mark}{key.name} = {_value_to_toml(value)}"


def _shown_value(key: Key, loaded: Loaded) -> Any:  # Any: of whatever type the key is
    value = _value_at(loaded.settings, key.path)
    return _HIDDEN if value and is_secret(key.hint) else value


def _keys_by_table() -> Iterator[tuple[str, list[Key]]]:
    rows: dict[str, list[Key]] = {}
    for key in all_keys().values():
        rows.setdefault(key.table, []).append(key)
    yield from rows.items()


def _describe_table(table: str) -> str:
    kind: type = Settings
    for name in table.split("."):
        kind = table_type_of(key_types_of(kind)[name]) or kind
    return " ".join((kind.__doc__ or "").partition("\n\n")[0].split())


def _comment_for_key(key: Key) -> str:
    unit = f"Unit: {key.unit}. " if key.unit else ""
    form = f"{key.wants[0].upper()}{key.wants[1:]}"
    text = textwrap.wrap(
        key.text, _WIDE, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )
    return "\n".join(
        [*text, f"# {unit}{form}. Default: {_value_to_toml(key.default)}. {key.variable}"]
    )


def _value_at(settings: msgspec.Struct, path: str) -> Any:  # Any: of whatever type the key is
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _value_to_toml(value: Any) -> str:
    """A JSON string, number or boolean is also valid TOML, except for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _escape_unprintable(text: str) -> str:
    return text.encode("unicode_escape").decode() if not text.isprintable() else text
