"""Where values come from: defaults, over them one TOML file, over it the environment, over that
flags. All errors are reported at once, each with the file, variable or flag that it came from.

Passwords come only from files of mode 0600 or from systemd (systemd.exec(5), LoadCredential)."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agents.base.errors import SettingsError
from agents.base.files import SECRET_BYTES, decode_utf8, read_whole_file
from agents.base.suggest import nearest_name
from agents.settings.fields import (
    NO_SECRETS,
    convert_value,
    describe_allowed_values,
    find_problems,
    is_secret,
    is_secret_name,
    key_types_of,
    meta_of,
    table_type_of,
    unit_of,
    unknown_key_message,
)
from agents.settings.tables import ORDERED, Settings

PREFIX, JOINT = "GEOLANE_", "__"
RESERVED = frozenset({"GEOLANE_PARENT", "GEOLANE_LAST_END"})
"""Variables with our prefix that are not settings (agents/base/supervisor.py)."""
DEFAULT = "default"
FLAG = "--set "

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Key:
    """One setting. `path`: `coordinator.calm.window_s`. `hint`: its type with its description."""

    path: str
    hint: Any
    default: Any

    @property
    def table(self) -> str:
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def variable(self) -> str:
        """`GEOLANE_COORDINATOR__CALM__WINDOW_S`: names contain single underscores, so two replace
        the dot."""
        return PREFIX + self.path.replace(".", JOINT).upper()

    @property
    def text(self) -> str:
        return meta_of(self.hint).description or ""

    @property
    def unit(self) -> str:
        return unit_of(self.hint)

    @property
    def wants(self) -> str:
        return describe_allowed_values(self.hint)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in effect. `origins`: for each dotted key, the file, variable or flag that set
    it, or `default`."""

    settings: Settings
    origins: Mapping[str, str]


@cache
def all_keys() -> dict[str, Key]:
    """Every setting by its dotted name, in the order of the file."""
    return {key.path: key for key in _keys_of_table(Settings, Settings(), "")}


def _keys_of_table(kind: type, value: Any, at: str) -> Iterator[Key]:
    inner = []
    for name, hint in key_types_of(kind).items():
        if table := table_type_of(hint):
            inner.append((table, getattr(value, name), f"{at}{name}."))
        else:
            yield Key(at + name, hint, getattr(value, name))
    for below in inner:
        yield from _keys_of_table(*below)


def load_settings(
    path: Path | None, flags: Iterable[str] = (), environ: Mapping[str, str] | None = None
) -> Settings:
    """The settings in effect. Raises SettingsError."""
    return gather_settings(path, flags, environ).settings


def gather_settings(
    path: Path | None, flags: Iterable[str] = (), environ: Mapping[str, str] | None = None
) -> Loaded:
    """The settings of the file at `path` (None: no file), over them those of `environ` (None: the
    process's), over them `flags`, each `KEY=VALUE`.

    Raises SettingsError with one line per error."""
    values: dict[str, Any] = {}
    origins = dict.fromkeys(all_keys(), DEFAULT)
    wrong: list[str] = []
    if path is not None:
        data = read_toml(path)
        wrong += [f"{path}: {p}" for p in find_problems(Settings, data, every=all_keys())]
        if not wrong:
            found = dict(_flatten_tables(data))
            values |= found
            origins |= dict.fromkeys(found, str(path))
    for source, key, text in (
        *_read_variables(os.environ if environ is None else environ),
        *_read_flags(flags),
    ):
        if isinstance(key, str):
            wrong.append(f"{source}: {key}")
            continue
        try:
            values[key.path] = convert_value(key.hint, text, text=True)
            origins[key.path] = source
        except ValueError as e:
            wrong.append(
                f"{source}: {e}" if source.startswith(FLAG) else f"{source}: {key.path}: {e}"
            )
    # two values are compared only once each is valid by itself
    if not wrong:
        wrong += _find_disorder(values, origins)
    if wrong:
        raise SettingsError("\n".join(wrong))
    return Loaded(msgspec.convert(_nest_tables(values), Settings), origins)


def decode_toml(path: Path, kind: type[T]) -> T:
    """The file at `path` as a value of `kind`, a struct.

    Raises SettingsError with one line per error: file, key and the right form."""
    data = read_toml(path)
    if wrong := find_problems(kind, data):
        raise SettingsError("\n".join(f"{path}: {p}" for p in wrong))
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as e:
        raise SettingsError(f"{path}: {e}") from e


def read_toml(path: Path) -> dict[str, Any]:
    """Raises SettingsError if there is no such file, or it is too large or not valid TOML."""
    try:
        return tomllib.loads(decode_utf8(read_whole_file(path), path))
    except FileNotFoundError as e:
        raise SettingsError(f"{path}: no such file") from e
    except OSError as e:
        raise SettingsError(f"{path}: cannot be read ({e.strerror})") from e
    except tomllib.TOMLDecodeError as e:
        raise SettingsError(f"{path}: is not valid TOML: {e}") from e


def _flatten_tables(data: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if at + name in all_keys():
            yield at + name, value
        else:
            yield from _flatten_tables(value, f"{at}{name}.")


def _nest_tables(values: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for path, value in values.items():
        *tables, name = path.split(".")
        table = out
        for t in tables:
            table = table.setdefault(t, {})
        table[name] = value
    return out


def _read_variables(environ: Mapping[str, str]) -> Iterator[tuple[str, Key | str, str]]:
    """For each variable of ours: its name, its key (or the error message), its text."""
    known = {key.variable: key for key in all_keys().values()}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in RESERVED:
            continue
        if name in known:
            yield name, known[name], environ[name]
        elif is_secret_name(name):
            yield name, NO_SECRETS, ""
        else:
            near = nearest_name(name, known)
            right = f"Did you mean {near}?" if near else "`geolane settings example` has them all."
            yield name, f"there is no such setting. {right}", ""


def _read_flags(flags: Iterable[str]) -> Iterator[tuple[str, Key | str, str]]:
    for flag in flags:
        path, equals, text = flag.partition("=")
        path = path.strip()
        if path in all_keys():
            key: Key | str = all_keys()[path] if equals else "write KEY=VALUE"
            if isinstance(key, Key) and is_secret(key.hint):
                key = f"set it in the file or by {key.variable}: others can read a command's flags"
            yield FLAG + path, key, text
            continue
        table, _, name = path.rpartition(".")
        siblings = [key.name for key in all_keys().values() if key.table == table] if table else []
        yield (
            FLAG + path,
            unknown_key_message(name, f"{table}." if siblings else "", siblings, all_keys()),
            "",
        )


def _find_disorder(values: Mapping[str, Any], origins: Mapping[str, str]) -> list[str]:
    out = []
    for low, high in ORDERED:
        a, b = (values.get(k, all_keys()[k].default) for k in (low, high))
        if a > b:
            first = low if origins[low] != DEFAULT else high
            out.append(
                f"{origins[first]}: {low} is {a:g}, above {high}, which is {b:g} ({origins[low]}, "
                f"{origins[high]})"
            )
    return out


# Passwords.

CREDENTIALS = "CREDENTIALS_DIRECTORY"


def read_secret(path: str, *names: str) -> str:
    """The first line of a secret's file. Without a `path`: of the first systemd credential with one
    of `names`. Empty if there is none.

    Raises SettingsError if it is empty, too large, or cannot be read, or if others can read it
    too."""
    file = find_secret_file(path, *names)
    if file is None:
        return ""
    try:
        text = (
            decode_utf8(read_whole_file(file, SECRET_BYTES), f"{file}: the password")
            .split("\n", 1)[0]
            .strip()
        )
    except OSError as e:
        raise SettingsError(f"{file}: the password cannot be read ({e.strerror})") from e
    if not text.isprintable():
        raise SettingsError(f"{file}: the password has a control character")
    if not text:
        raise SettingsError(f"{file}: the password is empty")
    return text


def with_passwords_beside(settings: Settings, account: str, folder: Path) -> Settings:
    """The settings as a tool that a person runs uses them, as `account`: it gets no systemd
    credentials, so where the settings name no password file it takes the account's in `folder`, if
    there is one."""
    settings = settings.for_account(account)
    if _credentials_folder() is not None:
        return settings
    xmpp, kafka = settings.xmpp, settings.kafka
    if not xmpp.password_file and (file := folder / account).is_file():
        xmpp = msgspec.structs.replace(xmpp, password_file=str(file))
    if kafka.username and not kafka.password_file:
        for name in (f"kafka-{kafka.username}", kafka.username):
            if (file := folder / name).is_file():
                kafka = msgspec.structs.replace(kafka, password_file=str(file))
                break
    return msgspec.structs.replace(settings, xmpp=xmpp, kafka=kafka)


def find_secret_file(path: str, *names: str) -> Path | None:
    """Where a secret lies: `path`, or else the first systemd credential with one of `names`. None
    if there is none.

    Raises SettingsError if there is no such file, or if others can read it too."""
    file = Path(path) if path else _find_credential(names)
    if file is None:
        return None
    try:
        mode = file.stat().st_mode
    except OSError as e:
        raise SettingsError(f"{file}: cannot be read ({e.strerror})") from e
    if mode & _forbidden_mode_bits(file):
        raise SettingsError(f"{file}: others can read this secret; run: chmod 600 {file}")
    return file


def _credentials_folder() -> Path | None:
    folder = os.environ.get(CREDENTIALS, "")
    return Path(folder) if folder else None


def _find_credential(names: tuple[str, ...]) -> Path | None:
    folder = _credentials_folder()
    if folder is None:
        return None
    return next(
        (file for name in names if name and "/" not in name and (file := folder / name).is_file()),
        None,
    )


def _forbidden_mode_bits(file: Path) -> int:
    """The mode bits that must not be set. systemd lets the unit's user read through an ACL, whose
    mask shows as the group's bits."""
    return 0o007 if file.parent == _credentials_folder() else 0o077
