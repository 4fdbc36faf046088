"""Exact JSON of typed values: a value that is read back equals the one that was written, bit for
bit, and equal values give equal bytes.

The type hints give the shape. A record is an object of its fields, in order. A tuple of records is
an object of columns, which is small and fast at 10,000 rows. A mapping is a list of sorted keys and
a list of values. An array has its shape beside its values. A float has the fewest digits that give
it back exactly; without a JSON number it is "inf", "-inf" or "nan"."""

from __future__ import annotations

import math
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from operator import attrgetter, index
from typing import (  # Any: JSON, and fields of any type, are what this file is about
    Any,
    Generic,
    TypeVar,
)

import msgspec
import numpy as np

from agents.base.errors import JournalError

T = TypeVar("T")

_ODD = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


class Exact(Generic[T]):
    """Writes and reads values of `kind`: a frozen dataclass, a NamedTuple or a msgspec struct, made
    of such records, scalars, tuples, mappings and NumPy arrays. Raises TypeError for any other type
    hint."""

    def __init__(self, kind: type[T], name: str, format_: int) -> None:
        self.name, self.format = name, format_
        self._column = _column_for_type(kind)

    def encode(self, value: T) -> bytes:
        """Raises JournalError when a field is not of its type."""
        try:
            head = {
                "geolane": self.name,
                "format": self.format,
                "value": self._column.dump([value])[0],
            }
            return msgspec.json.encode(head)
        except (TypeError, ValueError, AttributeError, OverflowError) as e:
            raise JournalError(f"this {self.name} cannot be written as JSON: {e}") from e

    def decode(self, data: bytes) -> T:
        """Raises JournalError that says where the data is wrong."""
        try:
            head = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise JournalError(f"{self.name}: not valid JSON: {e}") from e
        if not isinstance(head, dict) or head.get("geolane") != self.name:
            raise JournalError(f"{self.name}: this JSON is of another kind")
        if head.get("format") != self.format:
            raise JournalError(
                f"{self.name}: written in format {head.get('format')!r}, read here is format "
                f"{self.format}: "
                "use the version of geolane that wrote it"
            )
        try:
            value: T = self._column.load([head.get("value")], self.name)[0]
        except (TypeError, ValueError, OverflowError) as e:
            raise JournalError(f"{self.name}: {e}") from e
        return value


class _Column(ABC):
    """Turns values of one type into items for JSON and back; a single value is a column of one."""

    @abstractmethod
    def dump(self, values: Sequence[Any]) -> list[Any]:
        """Raises TypeError or ValueError."""

    @abstractmethod
    def load(self, items: list[Any], where: str) -> list[Any]:
        """Raises JournalError naming `where`."""


@dataclass(frozen=True, slots=True)
class _Scalar(_Column):
    """bool, int, float or str. `blank`: None is allowed too. NumPy's scalars are written as
    Python's."""

    kind: type
    blank: bool = False

    def dump(self, values: Sequence[Any]) -> list[Any]:
        found = set(map(type, values))
        if found <= {self.kind} and (self.kind is not float or all(map(math.isfinite, values))):
            return list(values)
        return [None if v is None and self.blank else self._to_item(v) for v in values]

    def _to_item(self, value: Any) -> Any:
        if self.kind is float:
            if isinstance(value, (str, bytes, bool, np.bool_)):
                raise TypeError(f"{value!r} is not a float")
            x = float(value)
            return x if math.isfinite(x) else str(x)
        if self.kind is bool and isinstance(value, (bool, np.bool_)):
            return bool(value)
        if self.kind is int and not isinstance(value, (bool, np.bool_)):
            return int(index(value))
        if self.kind is str and isinstance(value, str):
            return str(value)
        raise TypeError(f"{value!r} is not a {self.kind.__name__}")

    def load(self, items: list[Any], where: str) -> list[Any]:
        if set(map(type, items)) <= {self.kind}:
            return items
        return [None if v is None and self.blank else self._from_item(v, where) for v in items]

    def _from_item(self, item: Any, where: str) -> Any:
        if self.kind is float and type(item) is str and item in _ODD:
            return _ODD[item]
        if type(item) is self.kind:
            return item
        if self.kind is float and type(item) is int:
            return float(item)
        raise JournalError(f"{where}: {item!r} is not a {self.kind.__name__}")


@dataclass(frozen=True, slots=True)
class _Tuple(_Column):
    """tuple[X, ...]; a tuple of records is written as columns."""

    item: _Column

    def dump(self, values: Sequence[Any]) -> list[Any]:
        if isinstance(self.item, _Record):
            return [self.item.dump_columns(rows) for rows in values]
        return [self.item.dump(row) for row in values]

    def load(self, items: list[Any], where: str) -> list[Any]:
        if isinstance(self.item, _Record):
            return [tuple(self.item.load_rows(i, where)) for i in items]
        return [tuple(self.item.load(_check_list(i, where), where)) for i in items]


@dataclass(frozen=True, slots=True)
class _Mapping(_Column):
    key: _Column
    value: _Column

    def dump(self, values: Sequence[Any]) -> list[Any]:
        out = []
        for mapping in values:
            keys = sorted(mapping)
            out.append([self.key.dump(keys), self.value.dump([mapping[k] for k in keys])])
        return out

    def load(self, items: list[Any], where: str) -> list[Any]:
        out = []
        for item in items:
            pair = [_check_list(i, where) for i in _check_list(item, where)]
            if len(pair) != 2 or len(pair[0]) != len(pair[1]):
                raise JournalError(
                    f"{where}: not a list of keys and an equally long list of values"
                )
            out.append(
                dict(
                    zip(self.key.load(pair[0], where), self.value.load(pair[1], where), strict=True)
                )
            )
        return out


@dataclass(frozen=True, slots=True)
class _Array(_Column):
    dtype: np.dtype[Any]

    def dump(self, values: Sequence[Any]) -> list[Any]:
        out = []
        for value in values:
            array = np.asarray(value)
            if array.dtype != self.dtype:
                raise TypeError(f"an array of {array.dtype} is not one of {self.dtype}")
            out.append(
                {
                    "shape": list(array.shape),
                    "values": self._item_column().dump(array.ravel().tolist()),
                }
            )
        return out

    def load(self, items: list[Any], where: str) -> list[Any]:
        out = []
        for item in items:
            if not isinstance(item, dict) or set(item) != {"shape", "values"}:
                raise JournalError(f"{where}: not an array (shape, values)")
            shape = _Scalar(int).load(_check_list(item["shape"], where), where)
            values = self._item_column().load(_check_list(item["values"], where), where)
            if min(shape, default=0) < 0 or math.prod(shape) != len(values):
                raise JournalError(f"{where}: {len(values)} values do not fill an array of {shape}")
            out.append(np.array(values, dtype=self.dtype).reshape(shape))
        return out

    def _item_column(self) -> _Scalar:
        return _Scalar({"f": float, "i": int, "b": bool}[self.dtype.kind])


@dataclass(frozen=True, slots=True)
class _Record(_Column):
    """A class whose constructor takes its fields in order."""

    kind: type
    fields: Mapping[str, _Column]

    def dump(self, values: Sequence[Any]) -> list[Any]:
        columns = self.dump_columns(values)
        return [{name: columns[name][i] for name in columns} for i in range(len(values))]

    def load(self, items: list[Any], where: str) -> list[Any]:
        for item in items:
            self._check_fields(item, where)
        return self.load_rows({name: [item[name] for item in items] for name in self.fields}, where)

    def dump_columns(self, values: Sequence[Any]) -> dict[str, list[Any]]:
        return {
            name: column.dump(list(map(attrgetter(name), values)))
            for name, column in self.fields.items()
        }

    def load_rows(self, columns: Any, where: str) -> list[Any]:
        self._check_fields(columns, where)
        loaded = [
            column.load(_check_list(columns[name], f"{where}.{name}"), f"{where}.{name}")
            for name, column in self.fields.items()
        ]
        if len(set(map(len, loaded))) > 1:
            raise JournalError(f"{where}: the columns differ in length")
        return list(map(self.kind, *loaded))

    def _check_fields(self, item: Any, where: str) -> None:
        if not isinstance(item, dict):
            raise JournalError(f"{where}: not an object")
        for name in self.fields:
            if name not in item:
                raise JournalError(
                    f"{where} has no {name!r}: it was written by another version of geolane"
                )
        for name in item:
            if name not in self.fields:
                raise JournalError(
                    f"{where} has an unknown {name!r}: it was written by another version of geolane"
                )


def _check_list(item: Any, where: str) -> list[Any]:
    if not isinstance(item, list):
        raise JournalError(f"{where}: not a list")
    return item


def _column_for_type(hint: Any) -> _Column:
    """The column for a type hint."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in (bool, int, float, str):
        return _Scalar(hint)
    if (
        origin in (typing.Union, types.UnionType)
        and len(arguments) == 2
        and arguments[1] is types.NoneType
    ):
        inner = _column_for_type(arguments[0])
        if isinstance(inner, _Scalar):
            return _Scalar(inner.kind, blank=True)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _Tuple(_column_for_type(arguments[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _Mapping(_column_for_type(arguments[0]), _column_for_type(arguments[1]))
    if origin is np.ndarray:
        return _Array(np.dtype(typing.get_args(arguments[1])[0]))
    if isinstance(hint, type) and (is_dataclass(hint) or issubclass(hint, (msgspec.Struct, tuple))):
        return _Record(
            hint, {name: _column_for_type(t) for name, t in typing.get_type_hints(hint).items()}
        )
    raise TypeError(f"{hint!r} has no exact JSON: add it to {__name__}")
