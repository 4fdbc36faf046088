"""The forms (XEP-0004) and dialogs (XEP-0050) of operator commands, as values.

The core makes them; plugins/commands turns them into XML and back. A command is identified by its
name (`drain`), without namespace."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agents.core.model.answers import AnswerData
from agents.core.model.feeds import MoveItem


class FieldKind(StrEnum):
    """The field types of XEP-0004 3.3; a FIXED field is text to read."""

    FIXED = "fixed"
    LIST = "list-single"
    TEXT = "text-single"


class Status(StrEnum):
    """The status of a dialog (XEP-0050 2.4)."""

    EXECUTING = "executing"
    COMPLETED = "completed"
    CANCELED = "canceled"


class Mood(StrEnum):
    """The type of a remark: XEP-0050's note types."""

    INFO = "info"
    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Option:
    """One choice: the value that is sent back, and the label that people read."""

    value: str
    label: str


@dataclass(frozen=True, slots=True)
class Field:
    """`low`, `high`: the range of a whole number (XEP-0122), both or neither. `note`: the longer
    description (XEP-0004 `<desc/>`)."""

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
    """`result`: the form is only to be read; otherwise it is to be filled in and sent back."""

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
    """One stage of a dialog. `actions`: the actions that are allowed next (`next`, `complete`,
    `prev`), the default first; `cancel` is always allowed. `moves`: what a dry run would move, for
    programs that draw it; their `epoch` is 0. `data`: a result's figures, for programs."""

    command: str
    session: str
    status: Status
    form: Form | None = None
    remarks: tuple[Remark, ...] = ()
    actions: tuple[str, ...] = ()
    moves: tuple[MoveItem, ...] = ()
    data: AnswerData | None = None


@dataclass(frozen=True, slots=True)
class FormRefusal:
    """An error stanza: `condition` of RFC 6120, and `detail`, XEP-0050 4.5's own condition
    (`bad-sessionid`), if there is one."""

    condition: str
    text: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """The commands that the person may give: name and what it does."""

    commands: tuple[Option, ...]


FormAnswer = FormReply | FormRefusal | Listing

TEXT = "text"
"""The field that holds the text of a result."""
