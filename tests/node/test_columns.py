"""A pipeline that takes columns answers as one that takes records, and is checked as strictly."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from agents.core.lanes.records import Record
from agents.local.demo.flights import sample_events
from agents.node import flights
from agents.node.contract import (
    FAILED,
    FILTERED,
    ONE,
    Answers,
    RecordColumns,
    by_columns,
    call_pipeline_each,
    columns_from_records,
    columns_from_rows,
)
from agents.node.part import Calls, Failures, Part
from agents.node.runner import Pipelines

SOME = columns_from_records([Record(b"k%d" % i, b"%d" % i, f"raw/0/{i}", i, "c") for i in range(5)])


def test_each_value_is_replaced_left_out_or_failed_alone() -> None:
    @by_columns
    def odd(columns: RecordColumns) -> list[bytes | None]:
        if b"3" in columns.value:
            columns.value.clear()
            columns.key.clear()
            raise ValueError("three")
        return [None if value == b"1" else value * 2 for value in columns.value]

    assert call_pipeline_each(odd, SOME) == Answers(
        [ONE, FILTERED, ONE, FAILED, ONE],
        [b"k0", b"k2", b"k4"],
        [b"00", b"22", b"44"],
        ["ValueError: three"],
    )


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda columns: columns.value[:-1], "with a list as long, gave 0 answers"),
        (lambda columns: None, "with a list as long, gave NoneType"),
        (lambda columns: iter(columns.value), "with a list as long, gave list_iterator"),
        (lambda columns: ["text"] * len(columns.key), "a record's value must be bytes, is str"),
        (lambda columns: [bytes(65 << 20)] * len(columns.key), "in one answer, the limit is"),
    ],
)
def test_a_wrong_answer_is_a_failure(answer: Callable[[RecordColumns], Any], error: str) -> None:
    found = call_pipeline_each(by_columns(answer), SOME)
    assert found.kinds == [FAILED] * 5
    assert all(error in said for said in found.errors)


def test_both_forms_of_the_flights_answer_the_same() -> None:
    values = islice(sample_events(), 2_000)
    columns = columns_from_records(
        [Record(None, v, "raw/0/0", 0, "842a107ffffffff") for v in values]
    )
    found = call_pipeline_each(flights.column_pipeline, columns)
    assert found == call_pipeline_each(flights.pipeline, columns)
    assert found.kinds.count(ONE) > 1_000


def test_rows_become_columns() -> None:
    assert columns_from_rows([]) == RecordColumns([], [], [], [], [])
    rows = [(None, b"v", "s", 1, "c"), (b"k", b"w", "t", 2, "d")]
    assert columns_from_rows(rows) == RecordColumns(
        [None, b"k"], [b"v", b"w"], ["s", "t"], [1, 2], ["c", "d"]
    )


def test_columns_reach_a_pipeline_in_its_own_process(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from agents.node.contract import by_columns\n"
        "@by_columns\n"
        "def pipeline(columns):\n"
        "    return [v + c.encode() for v, c in zip(columns.value, columns.cell)]\n"
    )
    pipelines = Pipelines("mine:pipeline", 0, path=str(tmp_path))
    try:
        part = Part(pipelines, SOME, Failures(), Calls(), 10.0)
        assert part.continue_until()
        assert part.answers.values == [b"0c", b"1c", b"2c", b"3c", b"4c"]
        assert part.answers.keys == SOME.key
    finally:
        pipelines.close()
