"""The contract of a pipeline and the checks of its answers (PROTOCOL 3.6). This code runs in the
pipeline's process, beside the user's code.

A node and its pipeline's process exchange records and answers as columns, one list for each
field."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, cast

from agents.base.errors import PipelineError
from agents.base.text import to_one_line
from agents.core.lanes.records import Record


class RecordColumns(NamedTuple):
    """The fields of records, a list for each; all are of one length. Record has their meaning."""

    key: list[bytes | None]
    value: list[bytes]
    src: list[str]
    ts_ms: list[int]
    cell: list[str]

    def part(self, begin: int, end: int) -> RecordColumns:
        """The records from `begin` up to `end`."""
        key, value, src, ts_ms, cell = self
        return RecordColumns(
            key[begin:end], value[begin:end], src[begin:end], ts_ms[begin:end], cell[begin:end]
        )


PipelineAnswer = Record | None | list[Record]
RecordPipeline = Callable[[list[Record]], Sequence[PipelineAnswer]]
ColumnPipeline = Callable[[RecordColumns], Sequence[bytes | None]]
Pipeline = RecordPipeline | ColumnPipeline
Row = tuple[bytes | None, bytes, str, int, str]
"""The fields of one record, in the order of RecordColumns."""

POISONED_AT = 100
"""This many failures in a row stop the lane: a broken pipeline must not make dead letters of a
whole day (PROTOCOL 3.6)."""
ANSWER_BYTES = 64 << 20
"""The most bytes of keys and values that one call may return."""
ANSWER_RECORDS = 10_000
"""The most records that one record may yield."""
_OVERHEAD = 64
_SHOWN = 200

FILTERED, ONE, FAILED = 0, -1, -2


_Column = TypeVar("_Column", bound=ColumnPipeline)


def by_columns(pipeline: _Column) -> _Column:
    """Marks a pipeline that takes RecordColumns in place of a list of Records, and returns a list
    with the new value of each, or None to leave the record out. The keys remain as they are. This
    spares an object for each record and for each answer."""
    pipeline.takes_columns = True  # type: ignore[attr-defined]
    return pipeline


@dataclass(slots=True)
class Answers:
    """`kinds` has a number for each input record: ONE (it yielded one record), FILTERED, FAILED, or
    the length of the list that it yielded. `keys` and `values` are those of all yielded records,
    `errors` those of the failures, in the same order."""

    kinds: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def extend(self, more: Answers) -> None:
        self.kinds += more.kinds
        self.keys += more.keys
        self.values += more.values
        self.errors += more.errors

    def add_failure(self, error: str) -> None:
        self.kinds.append(FAILED)
        self.errors.append(error)

    def count_trailing_failures(self, before: int) -> int:
        """The number of failures in a row at the end, if `before` of them preceded these
        answers."""
        at_end = 0
        for kind in reversed(self.kinds):
            if kind != FAILED:
                return at_end
            at_end += 1
        return before + at_end


def load_pipeline(name: str) -> Pipeline:
    """Import the function `module:function`. Raises PipelineError, which says what is wrong with
    the setting."""
    module, _, function = name.partition(":")
    try:
        pipeline: object = getattr(importlib.import_module(module), function)
    except BaseException as e:
        is_plain = isinstance(e, ImportError | AttributeError | ValueError)
        why = str(e) if is_plain else describe_error(e)
        raise PipelineError(
            f"worker.pipeline: {name!r} cannot be loaded: {shorten_text(why)}; "
            "write it as module:function"
        ) from e
    if not callable(pipeline):
        raise PipelineError(f"worker.pipeline: {name!r} is not a function")
    return pipeline


def columns_from_records(records: Sequence[Record]) -> RecordColumns:
    """The same records by their fields."""
    return RecordColumns(
        [r.key for r in records],
        [r.value for r in records],
        [r.src for r in records],
        [r.ts_ms for r in records],
        [r.cell for r in records],
    )


def columns_from_rows(rows: Sequence[Row]) -> RecordColumns:
    columns = map(list, zip(*rows, strict=True)) if rows else ([] for _ in RecordColumns._fields)
    return RecordColumns(*columns)


def call_pipeline(pipeline: Pipeline, columns: RecordColumns) -> Answers:
    """The pipeline's answers to these records, checked. Raises PipelineError for every error of the
    pipeline."""
    count = len(columns.key)
    try:
        if getattr(pipeline, "takes_columns", False) is True:
            # It has lists of its own: the records may be tried again.
            values = cast(ColumnPipeline, pipeline)(columns.part(0, count))
            return _check_values(values, columns.key)
        return _check_answers(cast(RecordPipeline, pipeline)(list(map(Record, *columns))), count)
    except PipelineError:
        raise
    except BaseException as e:
        raise PipelineError(describe_error(e)) from e


def call_pipeline_each(pipeline: Pipeline, columns: RecordColumns, failures: int = 0) -> Answers:
    """As `call_pipeline`. If that fails, each record is tried alone, up to POISONED_AT failures in
    a row (`failures` of them came before); then there are fewer answers than records."""
    try:
        return call_pipeline(pipeline, columns)
    except PipelineError as e:
        if len(columns.key) == 1:
            return Answers([FAILED], errors=[str(e)])
    found = Answers()
    for at in range(len(columns.key)):
        try:
            found.extend(call_pipeline(pipeline, columns.part(at, at + 1)))
            failures = 0
        except PipelineError as e:
            found.add_failure(str(e))
            failures += 1
            if failures >= POISONED_AT:
                break
    return found


def _check_values(answers: object, keys: Sequence[bytes | None]) -> Answers:
    values = _check_count(answers, len(keys))
    kinds = [FILTERED if value is None else ONE for value in values]
    _check_count(kinds, len(keys))  # a list may be of a class of the user's
    kept = [key for key, kind in zip(keys, kinds, strict=True) if kind == ONE]
    return _check_contents(Answers(kinds, kept, [v for v in values if v is not None]))


def _check_answers(answers: object, count: int) -> Answers:
    kinds: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes] = []
    for answer in _check_count(answers, count):
        if isinstance(answer, Record):
            kinds.append(ONE)
            keys.append(answer.key)
            values.append(answer.value)
        elif answer is None:
            kinds.append(FILTERED)
        elif type(answer) is list and all(isinstance(a, Record) for a in answer):
            if len(answer) > ANSWER_RECORDS:
                raise PipelineError(
                    f"a list of {len(answer)} records for one, the limit is {ANSWER_RECORDS}"
                )
            kinds.append(len(answer))
            keys += [a.key for a in answer]
            values += [a.value for a in answer]
        else:
            raise PipelineError(
                "an answer must be a Record, None or a list of Records, is "
                f"{shorten_text(repr(answer), 80)}"
            )
    _check_count(kinds, count)  # a list may be of a class of the user's
    return _check_contents(Answers(kinds, keys, values))


def _check_count(answers: object, count: int) -> Sequence[Any]:
    what = type(answers).__name__
    if isinstance(answers, list | tuple):
        if len(answers) == count:
            return answers
        what = f"{len(answers)} answers"
    raise PipelineError(
        f"the pipeline must answer {count} records with a list as long, gave {what}"
    )


def _check_contents(answers: Answers) -> Answers:
    keys, values = answers.keys, answers.values
    size = 0
    for value in values:
        if type(value) is not bytes:
            raise PipelineError(f"a record's value must be bytes, is {type(value).__name__}")
        size += len(value)
    for key in keys:
        if key is not None:
            if type(key) is not bytes:
                raise PipelineError(
                    f"a record's key must be bytes or None, is {type(key).__name__}"
                )
            size += len(key)
    if size + _OVERHEAD * len(values) > ANSWER_BYTES:
        raise PipelineError(
            f"{len(values)} records of {size} bytes in one answer, the limit is {ANSWER_BYTES}"
        )
    return answers


def describe_error(error: BaseException) -> str:
    """An error of the user's code as one line of limited length."""
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - their __str__
        text = "?"
    return f"{type(error).__name__}: {shorten_text(text)}" if text else type(error).__name__


def shorten_text(text: str, limit: int = _SHOWN) -> str:
    """The text with limited length and without control characters."""
    return to_one_line(text, limit)
