"""The books go on whatever the headers of a record say: any program may write them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from agents.core.lanes.records import BadName
from agents.local.audit.accounting import Accounting
from agents.settings import Kafka
from agents.worker.lane import RunningCounts

Headers = list[tuple[str, bytes | None]]
SRC = ("geolane-src", b"events.raw/0/5")


def accounting() -> Accounting:
    a = Accounting(Kafka(), 1, 1)
    a.ledger.begin_partition("events.raw/0", 0)
    return a


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
