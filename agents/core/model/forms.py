"""What an operator's client is shown and sends back, as values: forms (XEP-0004) in the dialogs of
commands (XEP-0050).

The core makes them, plugins/commands turns them into XML and back. A command goes by its name
(`drain`), without namespace."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FieldKind(StrEnum):
    """XEP-0004 3.3; a FIXED field is words to read, nothing to fill in."""

    FIXED = "fixed"
    LIST = "list-single"
    TEXT = "text-single"


class Status(StrEnum):
    """XEP-0050 2.4."""

    EXECUTING = "executing"
    COMPLETED = "completed"
    CANCELED = "canceled"


class Mood(StrEnum):
    """What kind of remark: XEP-0050's note types."""

    INFO = "info"
    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Option:
    """One thing to pick: what is sent back, and what people read."""

    value: str
    label: str


@dataclass(frozen=True, slots=True)
class Field:
    """`low` and `high`: the range of a whole number (XEP-0122), both or neither; `note` says more
    (XEP-0004 `<desc/>`)."""

    var: str
    kind: FieldKind
    label: str = ""
    value: str = ""
    options: tuple[Option, ...] = ()
    required: bool = False
    note: str = ""
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """`result`: only to be read; otherwise it is to be sent back."""

    title: str
    instructions: str = ""
    fields: tuple[Field, ...] = ()
    result: bool = False


@dataclass(frozen=True, slots=True)
class Remark:
    """A `<note/>` beside the form."""

    mood: Mood
    text: str


@dataclass(frozen=True, slots=True)
class FormReply:
    """One stage of a dialog. `actions`: what may be done next (`next`, `complete`, `prev`), the
    default first; `cancel` always may."""

    command: str
    session: str
    status: Status
    form: Form | None = None
    remarks: tuple[Remark, ...] = ()
    actions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FormRefusal:
    """The stanza's error: an RFC 6120 condition, and XEP-0050 4.5's own beside it (`bad-sessionid`
    ...) where there is one."""

    condition: str
    text: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """The commands that the asker may give: name and what it does."""

    commands: tuple[Option, ...]


FormAnswer = FormReply | FormRefusal | Listing

TEXT = "text"
"""The field that holds a result's words."""
