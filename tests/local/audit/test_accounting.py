"""The books go on whatever the headers of a record say: any program may write them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from agents.core.lanes.records import BadName
from agents.local.audit.accounting import Accounting, _is_from_geo
from agents.settings import Kafka
from agents.worker.lane import RunningCounts

Headers = list[tuple[str, bytes | None]]
SRC = ("geolane-src", b"events.raw/0/5")


def accounting() -> Accounting:
    a = Accounting(Kafka(), 1, 1)
    a._begin_partition(0, 0)
    return a


def record(offset: int, *headers: tuple[str, bytes | None]) -> SimpleNamespace:
    own = ("geolane-src", b"events.raw/0/%d" % offset)
    return SimpleNamespace(headers=[own, *headers], timestamp=1_700_000_000_000)


@pytest.mark.parametrize(
    "headers",
    [
        [SRC, ("geolane-replays", None)],
        [SRC, ("geolane-replays", b"\xff")],
        [SRC, ("geolane-part", None)],
        [SRC, ("geolane-part", b"1/" + b"9" * 12)],
        [SRC, ("geolane-part", "\u00b2/\u00b2".encode())],
        [SRC, ("geolane-raw-ms", None)],
        [SRC, ("geolane-raw-ms", b"9" * 400)],
        [SRC, ("geolane-reason", None)],
        [SRC, ("geolane-reason", b"\xff" * 100)],
        [SRC, (BadName(b"\xff"), None)],
    ],
)
def test_rubbish_in_a_header_is_counted_by_its_source(headers: Headers) -> None:
    a = accounting()
    record = SimpleNamespace(headers=headers, timestamp=1_700_000_000_000)
    a._count_outputs("events.clean", 0, [record], 0.0)
    a._count_outputs("events.dead", 0, [SimpleNamespace(headers=[], timestamp=0)], 0.0)
    assert (a.clean, a.ledger.strangers, a.ledger.duplicates) == (1, 1, 0)


@pytest.mark.parametrize(
    "src", [None, b"\xff\xfe", b"events.raw/0/" + b"9" * 5000, b"events.raw/0/\xb2"]
)
def test_rubbish_in_place_of_a_source_is_a_stranger(src: bytes | None) -> None:
    a = accounting()
    a._count_outputs(
        "events.clean", 0, [SimpleNamespace(headers=[("geolane-src", src)], timestamp=0)], 0.0
    )
    assert (a.clean, a.ledger.strangers) == (0, 1)


def test_replays_without_end_keep_no_ledger_each() -> None:
    a = accounting()
    for i in range(20_000):
        headers = [SRC, ("geolane-replays", b"%d" % (i + 1))]
        a._count_outputs("events.clean", 0, [SimpleNamespace(headers=headers, timestamp=0)], 0.0)
    assert len(a.ledger._partitions) <= 10_001


@pytest.mark.parametrize(
    "text", ["", "x", "[]", '{"in": "7"}', '{"filtered": null}', "\x00", "{" * 5000]
)
def test_metadata_that_is_not_ours_counts_as_none(text: str) -> None:
    assert RunningCounts.decode(text) == RunningCounts()


PLACED = ("geolane-placed", b"offline city")
DEAD_AT_GEO = (("geolane-unplaced-at", b"0/3"), ("geolane-reason", b"unknown_place"))


def test_an_event_that_geo_places_counts_once() -> None:
    a = accounting()
    a.events_in = 3
    a._count_outputs("events.unplaced", 0, [record(n) for n in range(3)], 0.0)
    assert (a.unplaced, a.open) == (3, 0)
    for n in (0, 1):
        assert _is_from_geo(record(n, PLACED))
        a._count_placed(record(n, PLACED))
    assert (a.unplaced, a.placed, a.open) == (1, 2, 2), "two are on their way to a lane"
    a._count_outputs("events.clean", 0, [record(0, PLACED)], 0.0)
    a._count_outputs("events.dead", 0, [record(1, PLACED), record(2, *DEAD_AT_GEO)], 0.0)
    assert (a.clean, a.dead, a.unplaced, a.open, a.duplicates) == (1, 2, 0, 0, 0)


def test_an_event_that_geo_places_twice_is_a_duplicate() -> None:
    a = accounting()
    a.events_in = 1
    a._count_outputs("events.unplaced", 0, [record(0)], 0.0)
    for _ in range(2):
        a._count_placed(record(0, PLACED))
    a._count_outputs("events.clean", 0, [record(0, PLACED)] * 2, 0.0)
    assert (a.clean, a.unplaced, a.open, a.duplicates) == (1, 0, 0, 2)


def test_without_geo_an_event_in_two_places_is_a_duplicate() -> None:
    a = accounting()
    a.events_in = 1
    a._count_outputs("events.unplaced", 0, [record(0)], 0.0)
    a._count_outputs("events.clean", 0, [record(0)], 0.0)
    assert a.duplicates == 1


def test_a_replayed_letter_of_geo_is_one_more_event() -> None:
    a = accounting()
    again = ("geolane-replays", b"1")
    a.events_in = 2
    a._count_outputs("events.unplaced", 0, [record(0), record(0, again)], 0.0)
    a._count_outputs("events.dead", 0, [record(0, *DEAD_AT_GEO)], 0.0)
    a._count_placed(record(0, PLACED, again))
    a._count_outputs("events.clean", 0, [record(0, PLACED, again)], 0.0)
    assert (a.clean, a.dead, a.unplaced, a.open, a.duplicates) == (1, 1, 0, 0, 0)


def test_what_waited_before_the_run_is_not_counted() -> None:
    a = accounting()
    a._begin_partition(0, 100)
    a._count_placed(record(7, PLACED))
    a._count_outputs("events.clean", 0, [record(7, PLACED)], 0.0)
    assert (a.clean, a.placed, a.open, a.duplicates) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "headers",
    [
        [SRC],
        [PLACED],
        [SRC, ("geolane-placed", b"me")],
        [SRC, ("geolane-placed", None)],
        [("geolane-src", b"x"), PLACED],
    ],
)
def test_only_a_record_with_its_source_and_its_provider_is_from_geo(headers: Headers) -> None:
    assert not _is_from_geo(SimpleNamespace(headers=headers))
