"""What is an event, and what the reason is when it is none (PROTOCOL 1)."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core.lanes.records import Event, Reason, Record, Rejected, parse_event, parse_timestamp

NOW_MS = 1_700_000_000_000
GOOD: dict[str, object] = {
    "id": "a",
    "ts": "2001-01-08T14:35:00Z",
    "origin": {"lat": 41.9, "lon": -87.9},
}


def check(raw: bytes | None, max_bytes: int = 1 << 20) -> Event | Rejected:
    return parse_event(raw, NOW_MS, max_bytes, 300_000)


def reason(raw: bytes | None) -> Reason | None:
    found = check(raw)
    return found.reason if isinstance(found, Rejected) else None


def having(**changes: object) -> bytes:
    return json.dumps({k: v for k, v in {**GOOD, **changes}.items() if v != "absent"}).encode()


def test_a_good_event() -> None:
    assert check(having()) == Event("a", 978_964_500_000, 41.9, -87.9)
    assert check(having(origin={"place": "Chicago"})) == Event(
        "a", 978_964_500_000, None, None, "Chicago"
    )
    assert check(having(origin={"lat": 1, "lon": 2, "place": "x"}, ts=5)) == Event("a", 5, 1, 2)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (None, Reason.NOT_JSON),
        (b"", Reason.NOT_JSON),
        (b"\xff\x00garbage", Reason.NOT_JSON),
        (b'{"id":"a"', Reason.NOT_JSON),
        (b'{"id":"a"} {}', Reason.NOT_JSON),
        (b"\xef\xbb\xbf{}", Reason.NOT_JSON),
        (b"[" * 5000, Reason.NOT_JSON),
        (having(delay=float("nan")), Reason.NOT_JSON),
        (having(origin={"lat": float("nan"), "lon": 1}), Reason.NOT_JSON),
        (having(delay=float("-inf")), Reason.NOT_JSON),
        (b"[1]", Reason.NOT_OBJECT),
        (b"null", Reason.NOT_OBJECT),
        (b"true", Reason.NOT_OBJECT),
        (b'"x"', Reason.NOT_OBJECT),
        (b"7", Reason.NOT_OBJECT),
        (having(id="absent"), Reason.NO_ID),
        (having(id=7), Reason.NO_ID),
        (having(id=""), Reason.NO_ID),
        (having(ts="absent"), Reason.NO_TS),
        (having(ts=None), Reason.NO_TS),
        (having(ts="yesterday"), Reason.BAD_TS),
        (having(ts="2001-01-08"), Reason.BAD_TS),
        (having(ts="2001-01-08T14:35:00"), Reason.BAD_TS),
        (having(ts="2001-W02-1T14:35:00Z"), Reason.BAD_TS),
        (having(ts="2001-02-30T14:35:00Z"), Reason.BAD_TS),
        (having(ts=True), Reason.BAD_TS),
        (having(ts=1.5), Reason.BAD_TS),
        (having(ts=2**62), Reason.BAD_TS),
        (having(ts=978_964_500), Reason.BAD_TS),
        (having(ts=1_700_000_000), Reason.BAD_TS),
        (having(ts=-1_000_000_000), Reason.BAD_TS),
        (having(ts="2016-12-31T22:59:60Z"), Reason.BAD_TS),
        (having(ts="2016-12-30T23:59:60Z"), Reason.BAD_TS),
        (having(ts="2016-12-31T23:59:61Z"), Reason.BAD_TS),
        (having(ts=NOW_MS + 300_001), Reason.FUTURE_TS),
        (having(ts="2099-01-01T00:00:00Z"), Reason.FUTURE_TS),
        (having(origin="absent"), Reason.NO_ORIGIN),
        (having(origin={}), Reason.NO_ORIGIN),
        (having(origin=[1, 2]), Reason.BAD_ORIGIN),
        (having(origin={"lat": 91, "lon": 0}), Reason.BAD_ORIGIN),
        (having(origin={"lat": 0, "lon": -180.1}), Reason.BAD_ORIGIN),
        (having(origin={"lat": "41", "lon": 1}), Reason.BAD_ORIGIN),
        (having(origin={"lat": True, "lon": 1}), Reason.BAD_ORIGIN),
        (having(origin={"lat": 1}), Reason.BAD_ORIGIN),
        (having(origin={"lat": 1, "place": "x"}), Reason.BAD_ORIGIN),
        (having(origin={"place": " "}), Reason.BAD_ORIGIN),
        (having(origin={"place": 7}), Reason.BAD_ORIGIN),
    ],
)
def test_reasons(raw: bytes | None, why: Reason) -> None:
    assert reason(raw) is why


def test_too_large_is_not_looked_into() -> None:
    assert check(b"x" * 11, 10) == Rejected(Reason.TOO_LARGE, "11 bytes, the limit is 10")


@pytest.mark.parametrize(
    "ts", [NOW_MS + 300_000, "2001-01-08t14:35:00.123456789z", "2001-01-08 14:35:00+05:30", 0, -1]
)
def test_times_that_pass(ts: object) -> None:
    assert isinstance(check(having(ts=ts)), Event)


def test_edges_of_the_earth_pass() -> None:
    for lat, lon in ((90, 180), (-90, -180), (0, 0), (-0.0, 179.999999)):
        assert isinstance(check(having(origin={"lat": lat, "lon": lon})), Event)


@pytest.mark.parametrize(
    ("ts", "ms"),
    [("01.999Z", 1999), ("01.999999Z", 1999), ("01.0009Z", 1000), ("02Z", 2000)],
)
def test_a_part_of_a_ms_is_cut_off(ts: str, ms: int) -> None:
    assert parse_timestamp(f"1970-01-01T00:00:{ts}") == ms


@given(st.datetimes(timezones=st.timezones()).filter(lambda d: 1971 < d.year < 9990))
def test_rfc3339_times_are_read_to_the_ms(when: object) -> None:
    import datetime as dt

    assert isinstance(when, dt.datetime)
    utc = when.astimezone(dt.UTC)
    expected = int(
        (utc - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(milliseconds=1) // 1
    )
    found = parse_timestamp(utc.isoformat())
    assert found is not None
    assert abs(found - expected) <= 1


@pytest.mark.parametrize(
    ("ts", "looks"),
    [
        (1_700_000_000, "seconds"),
        (1_700_000_000.25, "seconds"),
        (978_964_500, "seconds"),
        (1_700_000_000_000_000, "microseconds"),
        (1_700_000_000_000_000_000, "nanoseconds"),
    ],
)
def test_a_number_in_another_unit_is_refused_and_the_unit_named(ts: float, looks: str) -> None:
    found = check(having(ts=ts))
    assert isinstance(found, Rejected)
    assert found.detail == f"`ts` looks like {looks}; it must be RFC 3339 or epoch ms, is {ts!r}"


def test_small_and_old_epoch_ms_stay_what_they_are() -> None:
    for ts in (0, 5, -5, 99_999_999, 31_536_000_000, -2_208_988_800_000):
        assert parse_timestamp(ts) == ts


@pytest.mark.parametrize(
    ("leap", "after"),
    [
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("2016-12-31t23:59:60.250z", "2017-01-01T00:00:00.250Z"),
        ("2017-01-01T08:59:60+09:00", "2017-01-01T00:00:00Z"),
        ("1990-12-31T15:59:60-08:00", "1991-01-01T00:00:00Z"),
    ],
)
def test_a_leap_second_is_the_second_after_it(leap: str, after: str) -> None:
    assert parse_timestamp(leap) == parse_timestamp(after) is not None


def test_a_leap_second_behind_the_last_year_is_refused() -> None:
    assert parse_timestamp("9999-12-31T22:59:60-01:00") is None


@pytest.mark.parametrize("levels", [79, 1000])
def test_a_value_however_deep_is_quoted(levels: int) -> None:
    for begin, end in (("[", "]"), ('{"a":', "}")):
        found = check(f'{{"id":{begin * levels}1{end * levels}}}'.encode())
        assert isinstance(found, Rejected)
        shown = (begin.replace('"', "'").replace(":", ": ") * 80)[:79]
        quoted = found.detail.rpartition("is ")[2]
        assert (len(quoted), quoted[:79]) == (80, shown)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "ts", "origin", "lat"]), inner)
    ),
    max_leaves=10,
)


@given(st.binary(max_size=200) | json_values.map(lambda v: json.dumps(v).encode()))
def test_nothing_raises(raw: bytes) -> None:
    found = check(raw)
    assert isinstance(found, Event) or len(found.detail) <= 200


@given(json_values, json_values, json_values)
def test_what_passes_has_what_an_event_has(ident: object, ts: object, origin: object) -> None:
    raw = json.dumps({"id": ident, "ts": ts, "origin": origin}).encode()
    found = check(raw)
    if isinstance(found, Event):
        event = orjson.loads(raw)
        assert event["id"] == found.id
        assert (found.lat is None) == (found.lon is None) == bool(found.place)


def test_with_value_leaves_the_record_alone() -> None:
    a = Record(b"k", b"v", "events.raw/0/1", 5, "cell")
    assert a.with_value(b"w") == Record(b"k", b"w", "events.raw/0/1", 5, "cell")
    assert a.value == b"v"
