"""Each key is described once, beside its type: `Annotated[float, about("For how long.", "s",
gt=0)]`. The example, the refusals and `geolane settings show` are all made from that.

`find_problems` lists everything that is wrong with a table as it was read, each with its key and
the right form."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import inspect

from agents.base.suggest import nearest_name, suggest_names

SHOWN = 60


def about(
    text: str, unit: str = "", *, form: str = "", secret: bool = False, **limits: Any
) -> msgspec.Meta:  # Any: msgspec.Meta's constraints
    """Describe a key: `text` says what it does, `unit` what its number counts, `form` what a text
    must look like if a `pattern` is among the `limits`. `secret`: its value is never shown, and may
    not be given by a flag, which all users of a machine can read."""
    extra = {"unit": unit, "form": form, "secret": secret}
    return msgspec.Meta(description=text, extra=extra, **limits)


def about_file(text: str) -> msgspec.Meta:
    return about(text, form="a file's path, or empty")


def choice(text: str, *names: str) -> msgspec.Meta:
    """A text that is one of `names`."""
    pattern = rf"\A(?:{'|'.join(map(re.escape, names))})\Z"
    return about(text, form=f"one of {', '.join(names[:-1])} and {names[-1]}", pattern=pattern)


def described_by(keys: type) -> msgspec.Meta:
    """For a table whose values are a struct that does not know settings. `keys` is a TypedDict with
    the same names, each with its description."""
    return msgspec.Meta(extra={"keys": keys})


def key_types_of(kind: type) -> dict[str, Any]:  # Any: types of any form
    """The type of each key in the file, with its description."""
    return get_type_hints(kind, include_extras=True)


def table_type_of(hint: Any) -> type | None:
    """The struct or TypedDict that lists a table's keys; None if `hint` is not a table."""
    if get_origin(hint) is Annotated:
        kind, *more = get_args(hint)
        for meta in more:
            if isinstance(meta, msgspec.Meta) and meta.extra and "keys" in meta.extra:
                keys: type = meta.extra["keys"]
                return keys
        return table_type_of(kind)
    return hint if isinstance(hint, type) and issubclass(hint, msgspec.Struct) else None


def row_type_of(hint: Any) -> type | None:
    """The struct of the rows of an array of tables; None if `hint` is not one."""
    return table_type_of(get_args(hint)[0]) if get_origin(hint) is list else None


def meta_of(hint: Any) -> msgspec.Meta:
    """The description and limits of a field's type; empty if it has none."""
    found = (
        [m for m in get_args(hint)[1:] if isinstance(m, msgspec.Meta)]
        if get_origin(hint) is Annotated
        else []
    )
    return found[0] if found else msgspec.Meta()


def unit_of(hint: Any) -> str:
    return str((meta_of(hint).extra or {}).get("unit", ""))


def is_secret(hint: Any) -> bool:
    return bool((meta_of(hint).extra or {}).get("secret"))


def describe_allowed_values(hint: Any) -> str:
    """The values that this type allows, in words: `a whole number from 1 to 65535`."""
    if form := (meta_of(hint).extra or {}).get("form"):
        return str(form)
    return _describe_type(inspect.type_info(hint))


def _describe_type(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata():
            return _describe_type(kind.type)
        case inspect.IntType() | inspect.FloatType():
            return (
                "a whole number" if isinstance(kind, inspect.IntType) else "a number"
            ) + _describe_limits(kind)
        case inspect.BoolType():
            return "true or false"
        case inspect.StrType():
            return "a string"
        case inspect.ListType():
            return f"a list of values, each {_describe_type(kind.item_type)}"
        case inspect.UnionType():
            return " or ".join(
                _describe_type(t) for t in kind.types if not isinstance(t, inspect.NoneType)
            )
        case _:
            return "a value of another kind"


def _describe_limits(kind: inspect.IntType | inspect.FloatType) -> str:
    ge, gt, le, lt = kind.ge, kind.gt, kind.le, kind.lt
    if ge is not None and le is not None:
        return f" from {ge:.15g} to {le:.15g}"
    words = [(" above", gt), (" of at least", ge), (" below", lt), (" of at most", le)]
    return ",".join(f"{word} {limit:.15g}" for word, limit in words if limit is not None)


def convert_value(hint: Any, value: Any, *, text: bool = False) -> Any:
    """`value` as the type of a key. `text`: it comes from a source where everything is text (a
    variable, a flag).

    Raises ValueError that says what it must be."""
    try:
        got = msgspec.convert(value, hint, strict=not text)
    except msgspec.ValidationError:
        got = math.nan
    if isinstance(got, float) and not math.isfinite(got):
        shown = "what is there" if is_secret(hint) else format_value(value)
        raise ValueError(f"must be {describe_allowed_values(hint)}, not {shown}")
    return got


def format_value(value: Any) -> str:
    """A value as an error shows it."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    words = (
        str(value).lower()
        if isinstance(value, bool)
        else repr(value)
        if isinstance(value, str)
        else str(value)
    )
    return words if len(words) <= SHOWN else words[:SHOWN] + " ..."


# Everything that is wrong with a table.

_SECRET = re.compile(r"passw(or)?d|passphrase|secret|token|credential", re.IGNORECASE)
NO_SECRETS = (
    "a password must not be written here. Write it to a file of mode 0600 and name that file in "
    "password_file; or give the process a systemd credential of the account's name "
    "(LoadCredential=NAME:FILE) and leave password_file out"
)


def is_secret_name(name: str) -> bool:
    """Whether an unknown key looks like one for a password."""
    return _SECRET.search(name) is not None


def find_problems(
    kind: type, data: Mapping[str, Any], at: str = "", every: Collection[str] = ()
) -> list[str]:
    """What keeps `data` from being a `kind`; empty if nothing does.

    `at` is put before each key. `every` holds all dotted keys of the file, to find a key that is in
    the wrong table."""
    known = key_types_of(kind)
    out = []
    for name, value in data.items():
        if name in known:
            out += _find_value_problems(known[name], value, at, name, every)
        else:
            out.append(f"{at}{name}: {unknown_key_message(name, at, known, every)}")
    return out + _find_missing_keys(kind, data, at)


def unknown_key_message(
    name: str, at: str, siblings: Collection[str], every: Collection[str] = ()
) -> str:
    """The message for the key `name`, which does not exist among its `siblings`."""
    if is_secret_name(name):
        return NO_SECRETS
    leaves = {path.rpartition(".")[2]: path for path in every}
    if name in leaves:
        return f"there is no such key. Did you mean {leaves[name]}?"
    if near := nearest_name(name, siblings) or _only_name_containing(name, siblings):
        return f"there is no such key. Did you mean {at if every else ''}{near}?"
    if near := nearest_name(name, leaves) or _only_name_containing(name, leaves):
        return f"there is no such key. Did you mean {leaves[near]}?"
    return f"there is no such key. {suggest_names(name, siblings, at_most=20)}"


def _only_name_containing(part: str, names: Collection[str]) -> str | None:
    """`batch_records` for `batch`, if no other name contains it."""
    found = [name for name in names if part.casefold() in name]
    return found[0] if len(part) > 2 and len(found) == 1 else None


def _find_value_problems(
    kind: Any, value: Any, at: str, name: str, every: Collection[str]
) -> list[str]:  # Any: types and TOML
    if table := table_type_of(kind):
        if not isinstance(value, dict):
            return [f"{at}{name}: is a table, written [{at}{name}] with its keys below"]
        return find_problems(table, value, f"{at}{name}.", every)
    if row := row_type_of(kind):
        if not (isinstance(value, list) and all(isinstance(v, dict) for v in value)):
            return [f"{at}{name}: is written [[{at}{name}]], once for each, with its keys below"]
        return [
            p for i, v in enumerate(value) for p in find_problems(row, v, _row_label(name, i, v))
        ]
    try:
        convert_value(kind, value)
    except ValueError as e:
        return [f"{at}{name}: {e}"]
    return []


def _row_label(table: str, i: int, row: Mapping[str, Any]) -> str:
    name = row.get("name")
    return f"{table} {name if isinstance(name, str) and name else i + 1}: "


def _find_missing_keys(kind: type, data: Mapping[str, Any], at: str) -> list[str]:
    if not issubclass(kind, msgspec.Struct):
        return []
    known = key_types_of(kind)
    fields = [f.name for f in msgspec.structs.fields(kind) if f.required and f.name not in data]
    return [
        f"{at}{name}: is missing; write "
        + (
            f"[[{name}]]"
            if row_type_of(known[name])
            else f"{name} = {describe_allowed_values(known[name])}"
        )
        for name in fields
    ]
