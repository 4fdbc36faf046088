"""Record batches as they leave: nothing that does not fit is lost silently (PROTOCOL 3.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.lanes.records import Reason
from agents.kafka.batches import RecordBatch
from agents.worker.limits import Limit
from agents.worker.stage import Outbox, record_size


def outbox(batch_bytes: int, limits: Mapping[str, Limit] | None = None) -> Outbox:
    return Outbox(lambda **_: RecordBatch(batch_bytes), 1, limits or {})


def contents(batches: list[Any]) -> list[tuple[bytes | None, bytes | None, list[Any]]]:
    found = []
    for batch in batches:
        records = MemoryRecords(bytes(batch._build()))
        while records.has_next():
            found += [(r.key, r.value, r.headers) for r in records.next_batch()]
    return found


RECORDS = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=20),
        st.none() | st.binary(max_size=600),
        st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=9)), max_size=3),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(RECORDS)
def test_everything_comes_out_in_order_whatever_the_size_of_a_batch(records: list[Any]) -> None:
    out = outbox(500)
    for key, value, headers in records:
        out.add_record("t", 0, key, value, headers)
    batches = out.batches.get(("t", 0), [])
    assert contents(batches) == records


@settings(deadline=None)
@given(st.lists(RECORDS, max_size=4), st.booleans())
def test_many_at_a_time_are_as_one_by_one(parts: list[list[Any]], limited: bool) -> None:
    limits = {"t": Limit(300, 1 << 20)} if limited else {}
    many, single = outbox(500, limits), outbox(500, limits)
    for n, records in enumerate(parts):
        many.of = single.of = n
        many.add_records("t", 0, records)
        for key, value, headers in records:
            single.add_record("t", 0, key, value, headers)
    batches = [[bytes(b._build()) for b in out.batches.get(("t", 0), [])] for out in (many, single)]
    assert batches[0] == batches[1]
    assert many.writers == single.writers


@given(RECORDS)
def test_the_size_is_an_upper_bound(records: list[Any]) -> None:
    for key, value, headers in records:
        batch = RecordBatch(1 << 20)
        batch.append(timestamp=1, key=key, value=value, headers=headers)
        assert batch.size() - 61 <= record_size(key, value, headers)


def test_a_dead_letter_keeps_headers_and_says_why_once() -> None:
    out = outbox(1 << 20)
    out.add_dead_letter(
        None, None, [("mine", b"1"), ("geolane-reason", b"old")], Reason.NO_ID, "x" * 500, "dead"
    )
    [(key, value, headers)] = contents(out.batches["dead", 0])
    assert (key, value) == (None, None)
    assert headers == [("mine", b"1"), ("geolane-reason", b"no_id"), ("geolane-detail", b"x" * 200)]
