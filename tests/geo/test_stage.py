"""A geo worker's stage: each event to exactly one place, in order, as far as places are known."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from agents import settings
from agents.base.errors import PlaceUnknown
from agents.core.lanes.records import Reason
from agents.core.model.places import check_place_text
from agents.geo import stage as stage_module
from agents.geo.lookups import Found
from agents.geo.process import GeoEngine
from agents.geo.providers import Providers
from agents.geo.stage import GeoStage
from agents.worker.limits import Limit
from agents.worker.stage import Outbox, Tally
from tests.geo.support import TABLE, TableGeocoder, unplaced
from tests.worker.test_outbox import contents, outbox

NOW_MS = 1_000_000_000_000
SRC = ("geolane-src", b"events.raw/3/7")


@dataclass
class InTable:
    """Answers at once. `away`: why it does not, from the place `last` on."""

    away: str = ""
    last: str = ""
    asked: list[list[str]] = field(default_factory=list)
    firsts: int = 0

    def find_places(self, texts: Sequence[str], firsts: int) -> Found:
        self.asked.append(list(texts))
        self.firsts = firsts
        answers: dict[str, Any] = {}
        for text in texts:
            if self.away and text == (self.last or text):
                return Found(answers, {text: self.away})
            try:
                answers[text] = TABLE.get(check_place_text(text), "there is no such place")
            except PlaceUnknown as e:
                answers[text] = str(e)
        return Found(answers)


@dataclass
class Record:
    value: bytes | None
    offset: int = 0
    key: bytes | None = b"id"
    headers: Sequence[tuple[str, bytes | None]] = (SRC,)
    timestamp: int = NOW_MS
    topic: str = "events.unplaced"
    partition: int = 0


@dataclass
class Run:
    tally: Tally
    out: Outbox
    raw: list[Any] = field(default_factory=list)
    dead: list[Any] = field(default_factory=list)


def run(
    *records: Record, finder: InTable | None = None, out: Outbox | None = None, **of: Any
) -> Run:
    options: dict[str, Any] = {
        "raw_partitions": 4,
        "max_bytes": 100_000,
        "future_limit_ms": 300_000,
        "wait_s": 3600.0,
    }
    stage = GeoStage(finder or InTable(), **(options | of))
    out = out or outbox(1 << 20)
    [(n, tally)] = stage.process_batch({0: list(records)}, out)
    assert n == 0
    found = Run(tally, out)
    for (topic, _), batches in out.batches.items():
        {"events.raw": found.raw, "events.dead": found.dead}[topic].extend(contents(batches))
    return found


def reason(letter: Any) -> tuple[str, str]:
    headers = dict(letter[2])
    return headers["geolane-reason"].decode(), headers["geolane-detail"].decode()


def test_a_placed_event_goes_back_to_its_partition_with_its_source_and_its_key() -> None:
    history = [("geolane-replays", b"1"), ("geolane-died", b"unknown_place 1 x ana")]
    ours = [("geolane-raw-ms", b"5"), ("geolane-ts", b"6"), ("geolane-raw-key", b"k")]
    r = run(Record(unplaced(1), headers=[SRC, *ours, *history, ("mine", b"x")]))
    [(key, value, headers)] = r.raw
    assert list(r.out.batches) == [("events.raw", 3)]
    assert (key, orjson.loads(value)["origin"]["lat"]) == (b"k", 41.85)
    assert headers == [SRC, ("geolane-placed", b"table city"), *history, ("mine", b"x")]
    assert (r.tally.out, r.tally.dead, r.tally.upto) == (1, 0, None)


def test_a_place_that_does_not_exist_is_a_dead_letter_with_the_source_and_the_key() -> None:
    headers = [
        SRC,
        ("geolane-raw-ms", b"5"),
        ("geolane-raw-key", b"k"),
        ("geolane-placed", b"me city"),
    ]
    r = run(Record(unplaced(1, "Atlantis"), headers=headers))
    [letter] = r.dead
    assert letter[:2] == (b"k", unplaced(1, "Atlantis"))
    assert letter[2][:3] == [SRC, ("geolane-unplaced-at", b"0/0"), ("geolane-raw-ms", b"5")]
    assert "geolane-placed" not in dict(letter[2])
    assert reason(letter) == ("unknown_place", "'Atlantis': there is no such place")
    assert (r.tally.out, r.tally.dead) == (0, 1)


@pytest.mark.parametrize(
    "text",
    [
        *("x" * 10_000, "\U0001f600\U0001f600", "null", "None", "42", "39.8,-89.6", "-"),
        *("'; DROP TABLE places; --", "\u202egnirts\u202c", "\u200b", "\x00", "a\nb", "?"),
    ],
    ids=range(13),
)
def test_bad_input_gets_a_reason(text: str) -> None:
    r = run(Record(unplaced(1, text)))
    [letter] = r.dead
    why, detail = reason(letter)
    assert why in ("unknown_place", "bad_origin")
    assert 10 < len(detail) <= 200


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, Reason.NOT_JSON),
        (b"", Reason.NOT_JSON),
        (b"[]", Reason.NOT_OBJECT),
        (b'{"id":"a","ts":5}', Reason.NO_ORIGIN),
        (b'{"id":"a","ts":5,"origin":{"place":"  "}}', Reason.BAD_ORIGIN),
        (
            b'{"id":"a","ts":5,"origin":{"place":"Paris"},"x":"' + b"x" * 100_000 + b'"}',
            Reason.TOO_LARGE,
        ),
    ],
)
def test_what_another_program_wrote_there_is_checked(value: bytes | None, why: Reason) -> None:
    r = run(Record(value, headers=()))
    assert reason(r.dead[0])[0] == why
    assert dict(r.dead[0][2])["geolane-src"] == b"events.unplaced/0/0", "its only source"


def test_an_event_with_coordinates_goes_on_as_it_is() -> None:
    value = b'{"id":"a", "ts":5,"origin":{"lat":1,"lon":2}}'
    r = run(Record(value, headers=[("geolane-src", b"events.raw/9/1")]))
    assert r.raw == [(b"id", value, [("geolane-src", b"events.raw/9/1")])]
    assert list(r.out.batches) == [("events.raw", 1)], "there is no partition 9"


def test_what_waits_stops_the_batch_before_it_and_is_not_overtaken() -> None:
    records = [
        Record(unplaced(i, place), i)
        for i, place in enumerate(("Chicago", "Atlantis", "Paris", "Chicago"))
    ]
    r = run(*records, finder=InTable("no calls are left", "Paris"))
    assert (len(r.raw), len(r.dead)) == (1, 1)
    assert (r.tally.out, r.tally.dead, r.tally.upto) == (1, 1, 2)
    r = run(*records, finder=InTable("no calls are left", "Chicago"))
    assert (r.tally.out, r.tally.dead, r.tally.upto, r.out.batches) == (0, 0, 0, {})
    assert r.tally.waits == (
        "places cannot be looked up now: no calls are left; the events wait, for up to 60 min "
        "each, then become dead letters. geolane doctor checks the provider"
    )


def test_what_has_waited_for_too_long_becomes_a_dead_letter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_ms = round(time.time() * 1000)
    old, new = (
        Record(unplaced(1), 0, timestamp=now_ms - 3_700_000),
        Record(unplaced(2, "Paris"), 1, timestamp=now_ms),
    )
    away = InTable("no calls are left")
    assert run(old, new, finder=away).tally.upto == 0, "the process has just begun"
    monkeypatch.setattr(stage_module, "GIVES_UP_AFTER_S", 0.0)
    r = run(old, new, finder=away)
    assert reason(r.dead[0]) == (
        "unknown_place",
        "'Chicago': it could not be looked up within 60 min: no calls are left",
    )
    assert (r.tally.dead, r.tally.upto) == (1, 1)
    unasked = Record(unplaced(3, "Paris"), 1, timestamp=old.timestamp)
    assert run(old, unasked, finder=away).tally.upto == 1, "only what was asked is given up"
    assert not run(old, finder=InTable()).dead, "what can be asked is never given up"


def test_the_brokers_clock_says_how_long_an_event_has_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Our own is two hours ahead, which would be longer than an event may wait."""
    monkeypatch.setattr(stage_module, "GIVES_UP_AFTER_S", 0.0)
    stage = GeoStage(InTable("no calls are left"), 4, 100_000, 300_000, 3600.0)
    table = TableGeocoder()
    providers = Providers(table, table, table, None)
    engine = GeoEngine(settings.Kafka(), settings.Worker(), stage, "B", providers, lambda: None)
    engine.clock.own_ms = lambda: NOW_MS + 7_200_000
    record = Record(unplaced(1), timestamp=NOW_MS - 60_000)
    assert stage.process_batch({0: [record]}, outbox(1 << 20))[0][1].dead == 1
    engine.clock.note_append(NOW_MS + 7_200_000, NOW_MS, NOW_MS + 7_200_010)
    assert stage.process_batch({0: [record]}, outbox(1 << 20))[0][1].upto == 0


def test_what_events_raw_would_refuse_is_a_dead_letter() -> None:
    out = outbox(1 << 20)
    out._limits = {"events.raw": Limit(record=100, batch=100)}
    r = run(Record(unplaced(1)), out=out)
    assert reason(r.dead[0])[0] == "too_large"


def test_partitions_are_looked_up_together_and_go_on_on_their_own() -> None:
    finder = InTable("no calls are left", "Paris")
    stage = GeoStage(finder, 4, 100_000, 300_000, 3600.0)
    got = {
        0: [Record(unplaced(1)), Record(unplaced(2), 1)],
        5: [Record(unplaced(3, "Paris")), Record(unplaced(4), 1)],
    }
    out = outbox(1 << 20)
    tallies = dict(stage.process_batch(got, out))
    assert (tallies[0].out, tallies[0].upto) == (2, None)
    assert (tallies[5].out, tallies[5].upto) == (0, 0)
    assert (finder.asked, finder.firsts) == ([["Chicago", "Paris"]], 2)
    assert out.writers == {("events.raw", 3): {0}}
