"""Which dead letters are meant, how they are shown, and what they carry when they go back."""

from __future__ import annotations

import pytest

from agents.base.errors import OperatorError
from agents.core.lanes.dead_letters import (
    Finder,
    Letter,
    LetterQuery,
    describe_found,
    describe_letter,
    describe_letter_fully,
    query_from_words,
    replay_headers,
)

NOW = 1_764_230_400_000  # 2025-11-27T08:00:00Z


def letter(offset: int = 17, **changed: object) -> Letter:
    headers = (
        ("geolane-src", b"events.raw/2/5"),
        ("geolane-reason", b"not_json"),
        ("geolane-detail", b"oh"),
        ("mine", b"x"),
    )
    fields = {
        "partition": 0,
        "offset": offset,
        "ms": NOW - 1000 * offset,
        "key": b"k",
        "value": b"{\xff\n",
        "headers": headers,
    }
    return Letter(**(fields | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "query"),
    [
        ("", LetterQuery()),
        ("not_json", LetterQuery(reason="not_json")),
        ("reason=no_id lane=3", LetterQuery(reason="no_id", lane=3)),
        ("since=1h until=10m", LetterQuery(since_ms=NOW - 3_600_000, until_ms=NOW - 600_000)),
        ("since=2025-11-27T07:00:00Z", LetterQuery(since_ms=NOW - 3_600_000)),
        ("source=events.raw/2/ all", LetterQuery(source="events.raw/2", replayed=True)),
        ("0/17", LetterQuery(one="0/17", replayed=True)),
    ],
)
def test_filters(words: str, query: LetterQuery) -> None:
    assert query_from_words(words.split(), NOW) == query


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("reason=not_jsn", "'not_jsn' is not a valid reason. Did you mean not_json?"),
        ("since=soon", "'soon' is not a valid time"),
        ("lane=x", "'x' is not a valid lane"),
        ("color=red", "'color=red' is not a valid filter"),
        ("0/x", "'0/x' is not a valid filter"),
    ],
)
def test_filters_that_make_no_sense_are_named(words: str, why: str) -> None:
    with pytest.raises(OperatorError, match=why):
        query_from_words(words.split(), NOW)


@pytest.mark.parametrize(
    ("query", "takes"),
    [
        (LetterQuery(), True),
        (LetterQuery(reason="no_id"), False),
        (LetterQuery(source="events.raw/2"), True),
        (LetterQuery(source="events.raw"), True),
        (LetterQuery(source="events.raw/22"), False),
        (LetterQuery(source="events.ra"), False),
        (LetterQuery(lane=3), False),
        (LetterQuery(since_ms=NOW - 18_000), True),
        (LetterQuery(since_ms=NOW - 16_000), False),
        (LetterQuery(until_ms=NOW - 18_000), False),
        (LetterQuery(one="0/17"), True),
        (LetterQuery(one="0/1"), False),
    ],
)
def test_what_a_query_takes(query: LetterQuery, takes: bool) -> None:
    assert query.matches(letter()) is takes


def test_what_went_back_is_left_out_unless_asked_for() -> None:
    assert not LetterQuery().matches(letter(replayed=True))
    assert LetterQuery(replayed=True).matches(letter(replayed=True))


def test_the_newest_are_kept_and_all_are_counted() -> None:
    finder = Finder(LetterQuery(), 3)
    for n in range(50):
        finder.add_letter(letter(n))
    found = finder.letters_found({0: 50})
    assert [x.offset for x in found.letters] == [0, 1, 2]
    assert (found.count, found.reasons, found.upto) == (50, (("not_json", 50),), ((0, 50),))
    assert describe_found(found) == "50 dead letters: 50 not_json"


def test_what_goes_back_keeps_its_source_and_its_story() -> None:
    once = replay_headers(letter(), "ana@d")
    assert once == [
        ("geolane-src", b"events.raw/2/5"),
        ("geolane-replays", b"1"),
        ("geolane-died", b"not_json %d events.dead/0/17 ana@d" % (NOW - 17_000)),
        ("mine", b"x"),
    ]
    again = letter(
        40, headers=(*once, ("geolane-reason", b"pipeline_error"), ("geolane-lane", b"3"))
    )
    twice = dict(enumerate(replay_headers(again, "ben")))
    assert twice[1] == ("geolane-replays", b"2")
    assert [v for k, v in twice.values() if k == "geolane-died"] == [
        b"not_json %d events.dead/0/17 ana@d" % (NOW - 17_000),
        b"pipeline_error %d events.dead/0/40 ben" % (NOW - 40_000),
    ]
    assert "geolane-lane" not in dict(twice.values())
    assert describe_letter(again).endswith("pipeline_error lane 3 (failed 2 times)")


def test_nothing_of_a_value_reaches_the_screen_raw() -> None:
    text = "\n".join(
        describe_letter_fully(letter(value=b"\x1b[31mred\xff\n\x00" + b"y" * 9000), 100)
    )
    assert "\x1b" not in text.replace("\\x1b", "")
    assert "\\x1b[31mred\\xff\\n\\x00yyy" in text
    assert "value, 9,011 bytes" in text
    assert text.endswith("...")
