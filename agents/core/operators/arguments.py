"""Arguments of operator commands, each declared once: for chat, for forms and for completion in a
shell."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from agents.base.errors import OperatorError
from agents.core.fleet.fleet import Fleet, View
from agents.core.fleet.summary import health_word
from agents.core.model.forms import Field, FieldKind, Option
from agents.core.model.placement import State
from agents.core.model.topology import Partition, WorkerKind, short_name

PICK_AT_MOST = 100  # options of a list; with more the value is typed


class Type(Enum):
    """What an argument names. WORKER: a worker of any kind. COMMAND: a command's name. NUMBER: a
    whole number in a range."""

    WORD = auto()
    NODE = auto()
    WORKER = auto()
    LANE = auto()
    NUMBER = auto()
    COMMAND = auto()


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument. `name`: also the form field's. `help`: says what it is. `choices`: the allowed
    values (empty: any). `many`: any number of words; only for the last one that is not keyed.
    `keyed`: optional, written `name=value` anywhere after the command's name; declared after those
    that are not. `low`, `high`: the range of a NUMBER."""

    name: str
    type: Type
    help: str
    optional: bool = False
    many: bool = False
    keyed: bool = False
    choices: tuple[str, ...] = ()
    low: int = 1
    high: int = 99_999

    @property
    def usage(self) -> str:
        text = self.name.upper() + (" ..." if self.many else "")
        if self.keyed:
            return f"[{self.name}={text}]"
        return f"[{text}]" if self.optional else text


PAGE = Argument("page", Type.NUMBER, "which page, from 1", optional=True)
NODE = Argument("node", Type.NODE, "which node")
WORKER = Argument("node", Type.WORKER, "which worker")
LANE = Argument("lane", Type.LANE, "which lane")


# ---- chat ----


def find_node(fleet: Fleet, name: str) -> View:
    """The node of that name (`iad-1`), or the worker of that account. Raises OperatorError."""
    wanted = name.strip().lower()
    by_name = {v.spec.name: v for v in fleet.views.values() if v.spec.kind == WorkerKind.NODE}
    view = by_name.get(wanted) or fleet.views.get(wanted)
    if view is None:
        near = difflib.get_close_matches(wanted, [*by_name, *fleet.views], 1)
        hint = (
            f" Did you mean {near[0]}?"
            if near
            else f" There are: {', '.join(sorted(by_name)[:12])}."
        )
        raise OperatorError(f"No node is called {name[:40]!r}.{hint}")
    return view


def find_lane(fleet: Fleet, text: str) -> Partition:
    """The lane of that number. Raises OperatorError."""
    count = len(fleet.partitions_of(WorkerKind.NODE))
    p = (
        WorkerKind.NODE.partition(int(text))
        if text.isascii() and text.isdigit() and len(text) < 10
        else None
    )
    if p is None or p not in fleet.partitions:
        raise OperatorError(f"{text[:40]!r} is not a valid lane: lanes are 0 to {count - 1}.")
    return p


def parse_page(args: Sequence[str]) -> int:
    """The page that the first word names, 1 without words. Raises OperatorError."""
    if not args:
        return 1
    if not (args[0].isascii() and args[0].isdigit() and len(args[0]) < 6 and int(args[0]) > 0):
        raise OperatorError(f"{args[0][:40]!r} is not a valid page: give a number from 1.")
    return int(args[0])


def check_page(page: int, pages: int) -> None:
    """Raises OperatorError if there is no such page."""
    if page > pages:
        raise OperatorError(f"There is no page {page:,}: the last one is {pages:,}.")


def split_keyed_words(
    arguments: Sequence[Argument], words: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """The plain words, and the values of those written `name=value`, by the argument's name. Raises
    OperatorError for one that is given twice or is not one of its choices."""
    plain: list[str] = []
    keyed: dict[str, str] = {}
    known = {a.name: a for a in arguments if a.keyed}
    for word in words:
        name, equals, value = word.partition("=")
        a = known.get(name.lower()) if equals else None
        if a is None:
            plain.append(word)
        elif a.name in keyed:
            raise OperatorError(f"{a.name}= is given twice.")
        elif a.choices and value not in a.choices:
            raise OperatorError(f"{a.name} is one of {', '.join(a.choices)}, not {value[:40]!r}.")
        else:
            keyed[a.name] = value
    return plain, keyed


# ---- forms ----


def words_from_form(arguments: Sequence[Argument], given: Mapping[str, str]) -> list[str]:
    """The filled-in values as the words of a chat line. Raises OperatorError for a missing one."""
    words: list[str] = []
    left_out = ""
    for a in arguments:
        text = given.get(a.name, "").strip()
        if not text:
            if not a.optional:
                raise OperatorError(f"{a.name} is missing: {a.help}.")
            left_out = left_out or ("" if a.keyed else a.name)
        elif a.keyed:
            words.append(f"{a.name}={text}")
        elif left_out:
            raise OperatorError(f"{a.name} also needs {left_out}.")
        else:
            words += text.split() if a.many else [text]
    return words


def field_from_argument(
    a: Argument, fleet: Fleet, commands: Sequence[str], value: str = ""
) -> Field:
    """The form field: a list if there are at most 100 options, else text."""
    options = _list_options(a, fleet, commands)
    low, high = _number_range(a, fleet)
    if options and len(options) <= PICK_AT_MOST:
        known = value if value in {o.value for o in options} else ""
        return Field(a.name, FieldKind.LIST, a.help, known, options, required=not a.optional)
    ranged = f"{low} to {high}" if low is not None and a.type is Type.LANE else ""
    return Field(
        a.name,
        FieldKind.TEXT,
        a.help,
        value,
        required=not a.optional,
        note=ranged,
        low=low,
        high=high,
    )


def _number_range(a: Argument, fleet: Fleet) -> tuple[int, int] | tuple[None, None]:
    match a.type:
        case Type.NUMBER:
            return a.low, a.high
        case Type.LANE:
            return 0, max(0, len(fleet.partitions_of(WorkerKind.NODE)) - 1)
    return None, None


def _list_options(a: Argument, fleet: Fleet, commands: Sequence[str]) -> tuple[Option, ...]:
    match a.type:
        case Type.NODE | Type.WORKER:
            views = [
                v
                for v in fleet.views.values()
                if a.type is Type.WORKER or v.spec.kind == WorkerKind.NODE
            ]
            views.sort(key=lambda v: (v.spec.kind != WorkerKind.NODE, v.spec.name))
            return tuple(_option_from_worker(fleet, v) for v in views)
        case Type.LANE:
            return tuple(
                Option(str(p.n), f"{p.n}: {_describe_owner(fleet, p)}")
                for p in sorted(fleet.partitions_of(WorkerKind.NODE))
            )
        case Type.COMMAND:
            return tuple(Option(name, name) for name in commands)
    return tuple(Option(word, word) for word in a.choices)


def _option_from_worker(fleet: Fleet, view: View) -> Option:
    name = view.spec.label
    return Option(
        name, f"{name}: {health_word(fleet, view)}, has {len(fleet.owned_by(view.spec.worker))}"
    )


def _describe_owner(fleet: Fleet, p: Partition) -> str:
    s = fleet.partitions[p]
    return "no owner" if s.state is State.ORPHAN else short_name(s.worker)
