"""Files of Flink SQL: the statements in them, and the values that are filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agents import settings
from agents.base.errors import SettingsError
from agents.base.files import decode_utf8, read_whole_file
from agents.kafka.java_client import java_properties

_VALUE = re.compile(r"\$\{(\w+)\}")
_TOKEN = re.compile(r"'(?:[^']|'')*'|`[^`]*`|--[^\n]*|/\*.*?\*/|;|.", re.S)
_SHADED = "org.apache.flink.kafka.shaded.org.apache.kafka.common.security"
"""Where the SQL connector's jar has Kafka's own classes."""


@dataclass(frozen=True, slots=True)
class Script:
    """The statements of an SQL file, in order. `origin` names it for people."""

    origin: str
    statements: tuple[str, ...]

    def describe(self, number: int) -> str:
        """A statement in an error: never whole, since it may hold a password."""
        words = " ".join(self.statements[number].split()[:4]).partition("(")[0].strip()
        return f"{self.origin}, statement {number + 1} ({words[:60]})"

    def count_jobs(self) -> int:
        """How many jobs the statements start: one for each INSERT, and one for a statement set."""
        count, in_set = 0, False
        for statement in self.statements:
            words = statement.upper().split()
            if words[:3] == ["BEGIN", "STATEMENT", "SET"]:
                in_set = True
            elif words[0] == "END":
                in_set = False
                count += 1
            elif words[0] in ("INSERT", "EXECUTE") and not in_set:
                count += 1
        return count


def read_script(file: Path, values: Mapping[str, str], fragments: Mapping[str, str]) -> Script:
    """Read a file of SQL statements, each with a `;` after it. `${name}` is replaced by the value
    of that name, which belongs between quotes, or by the fragment of SQL of that name. Comments are
    left out. Blocks.

    Raises SettingsError if the file cannot be read, or has a name without a value."""
    try:
        text = decode_utf8(read_whole_file(file), file)
    except OSError as e:
        raise SettingsError(f"{file}: cannot be read ({e.strerror})") from e

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in fragments:
            return fragments[name]
        if name not in values:
            known = ", ".join(sorted((*values, *fragments))) or "none"
            raise SettingsError(f"{file}: there is no value for ${{{name}}}; known are {known}")
        return values[name].replace("'", "''")

    return Script(str(file), split_statements(_VALUE.sub(value, text)))


def split_statements(text: str) -> tuple[str, ...]:
    """The statements in `text`, without comments and the `;` between them."""
    statements, current = [], ""
    for token in _TOKEN.findall(text):
        if token == ";":
            statements.append(current.strip())
            current = ""
        else:
            current += " " if token.startswith(("--", "/*")) else token
    return tuple(filter(None, (*statements, current.strip())))


def kafka_options(kafka: settings.Kafka) -> str:
    """The options of a table in Kafka that say how its brokers are reached, in SQL; for
    `fragments`. They hold the password. Blocks.

    Raises SettingsError, as `client_kwargs` does."""
    options = java_properties(kafka, _SHADED)
    return ",\n".join(f"'properties.{key}' = {quote(value)}" for key, value in options.items())


def quote(value: str) -> str:
    """A text as SQL has it."""
    return "'" + value.replace("'", "''") + "'"
