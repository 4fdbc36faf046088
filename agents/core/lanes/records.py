"""What a valid event is: raw bytes become a checked event, or the reason why they are a dead
letter. Nothing here raises.

The reasons are those of PROTOCOL 1, checked in the order of `Reason`'s members from `too_large`
on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice

import msgspec
import orjson

# Headers of every record between topics (PROTOCOL 1).
SRC, RAW_MS, CELL, TS, MAP = (
    "geolane-src",
    "geolane-raw-ms",
    "geolane-cell",
    "geolane-ts",
    "geolane-map",
)
PART, REASON, DETAIL, LANE = "geolane-part", "geolane-reason", "geolane-detail", "geolane-lane"
# Of an event without coordinates: the key that it had in events.raw; and once they are filled in,
# who told them and how precise they are (`offline city`). If they could not be, where the event was
# in events.unplaced (`PARTITION/OFFSET`).
RAW_KEY, PLACED, UNPLACED_AT = "geolane-raw-key", "geolane-placed", "geolane-unplaced-at"
# Of a replayed dead letter: how often it was replayed, and a line for each death
# (core/lanes/dead_letters.py). Its results keep them.
REPLAYS, DIED = "geolane-replays", "geolane-died"
OURS = frozenset(
    {
        *(SRC, RAW_MS, CELL, TS, MAP, PART, REASON, DETAIL, LANE),
        *(RAW_KEY, PLACED, UNPLACED_AT, REPLAYS, DIED),
    }
)

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt "
    r"][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MIN_MS, _MAX_MS = -62_135_596_800_000, 253_402_300_799_999  # the years 1 to 9999
_SECONDS_FROM, _SECONDS_TO = 100_000_000, 31_536_000_000
"""Integers in this range are taken for seconds (1973 to 2969); as ms they would be within a year of
1970."""

_QUOTED = 80
"""How many characters of a value a detail quotes."""
_PLACED = re.compile(rb"[!-~]{1,60} (?:address|city|region|country)")
_SRC = re.compile(r"[A-Za-z0-9._-]{1,249}/[0-9]{1,9}/[0-9]{1,19}", re.ASCII)


class BadName(str):
    """A header's name that is not UTF-8, in a form that can be shown; `encode` returns its
    bytes."""

    __slots__ = ("raw",)
    raw: bytes

    def __new__(cls, raw: bytes) -> BadName:
        name = super().__new__(cls, raw.decode("utf-8", "backslashreplace"))
        name.raw = raw
        return name

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self.raw


class Unread(str):
    """The only header's name of a record that cannot be read; it says why."""

    __slots__ = ()


Headers = Sequence[tuple[str, bytes | None]]


def parse_source(content: bytes | None) -> str:
    """`TOPIC/PARTITION/OFFSET` from a header `geolane-src`; empty if it is not valid."""
    text = (content or b"").decode("ascii", "replace")
    return text if _SRC.fullmatch(text) else ""


def is_placed_header(content: bytes | None) -> bool:
    """Whether a header `geolane-placed` has its form."""
    return content is not None and _PLACED.fullmatch(content) is not None


def parse_number(content: bytes | None, otherwise: int) -> int:
    """The 64-bit integer that a header holds as decimal digits, or `otherwise`."""
    if content is None or not 1 <= len(content) <= 20:
        return otherwise
    try:
        value = int(content)
    except ValueError:
        return otherwise
    return value if -(1 << 63) <= value < 1 << 63 else otherwise


class Reason(StrEnum):
    """Why a record is a dead letter: the value of its header `geolane-reason`."""

    UNREADABLE = "unreadable"
    BAD_HEADER = "bad_header"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    NOT_OBJECT = "not_object"
    NO_ID = "no_id"
    NO_TS = "no_ts"
    BAD_TS = "bad_ts"
    FUTURE_TS = "future_ts"
    NO_ORIGIN = "no_origin"
    BAD_ORIGIN = "bad_origin"
    UNKNOWN_PLACE = "unknown_place"
    PIPELINE_ERROR = "pipeline_error"


@dataclass(slots=True)
class Record:
    """One event as a user's pipeline sees it. A pipeline must not change it, because it may be run
    again on the same records.

    `src`: the raw record that it came from (TOPIC/PARTITION/OFFSET). `ts_ms`: event time in epoch
    ms. `cell`: the H3 cell (hex) of its origin. Source: PROTOCOL 3.6."""

    key: bytes | None
    value: bytes
    src: str
    ts_ms: int
    cell: str

    def with_value(self, value: bytes) -> Record:
        """This record with another value: what a pipeline returns."""
        return Record(self.key, value, self.src, self.ts_ms, self.cell)


class Event(msgspec.Struct, gc=False):
    """A checked event with coordinates in degrees, or with the name of a place (then `lat` and
    `lon` are None)."""

    id: str
    ts_ms: int
    lat: float | None
    lon: float | None
    place: str = ""


@dataclass(slots=True)
class Rejected:
    """Not a valid event: the reason, and a detail for people of at most 200 characters."""

    reason: Reason
    detail: str


def find_bad_header(headers: Headers) -> Rejected | None:
    """Why a record with these headers is not passed on; None if it is."""
    for name, _ in headers:
        if type(name) is Unread:
            return Rejected(Reason.UNREADABLE, name[:200])
        if type(name) is BadName:
            return Rejected(Reason.BAD_HEADER, f"the name of a header is not UTF-8: {name[:80]!r}")
    return None


def parse_event(
    raw: bytes | None, append_ms: int, max_bytes: int, future_limit_ms: int
) -> Event | Rejected:
    """Check one raw value. `append_ms`: when the broker appended it (epoch ms); an event time later
    than that by more than `future_limit_ms` is refused. Values over `max_bytes` are not parsed."""
    if raw is None:
        return Rejected(Reason.NOT_JSON, "no value (a tombstone)")
    # The size is checked before parsing: it bounds the work.
    if len(raw) > max_bytes:
        return Rejected(Reason.TOO_LARGE, f"{len(raw)} bytes, the limit is {max_bytes}")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as e:
        return Rejected(Reason.NOT_JSON, str(e)[:200])
    if type(value) is not dict:
        return Rejected(Reason.NOT_OBJECT, f"JSON {_json_type_name(value)}")
    ident = value.get("id")
    if type(ident) is not str or not ident:
        return Rejected(
            Reason.NO_ID, f"`id` must be a string that is not empty, is {_quote_value(ident)}"
        )
    ts = value.get("ts")
    if ts is None:
        return Rejected(Reason.NO_TS, "`ts` is missing")
    ts_ms = parse_timestamp(ts)
    if ts_ms is None:
        return Rejected(
            Reason.BAD_TS,
            f"`ts` {_guess_unit(ts)}must be RFC 3339 or epoch ms, is {_quote_value(ts)}",
        )
    if ts_ms > append_ms + future_limit_ms:
        return Rejected(
            Reason.FUTURE_TS, f"`ts` is {(ts_ms - append_ms) // 1000} s after the append"
        )
    origin = value.get("origin")
    if origin is None:
        return Rejected(Reason.NO_ORIGIN, "`origin` is missing")
    if type(origin) is not dict:
        return Rejected(Reason.BAD_ORIGIN, f"`origin` must be an object, is {_quote_value(origin)}")
    lat, lon = origin.get("lat"), origin.get("lon")
    if lat is None and lon is None:
        place = origin.get("place")
        if place is None:
            return Rejected(Reason.NO_ORIGIN, "`origin` has neither lat and lon nor place")
        if type(place) is not str or not place.strip():
            return Rejected(
                Reason.BAD_ORIGIN,
                f"`place` must be a string that is not empty, is {_quote_value(place)}",
            )
        return Event(ident, ts_ms, None, None, place)
    # By exact type, since a bool is an int too; the comparisons also refuse a NaN.
    if (type(lat) is float or type(lat) is int) and (type(lon) is float or type(lon) is int):
        if -90.0 <= lat <= 90.0 and -180.0 <= lon <= 180.0:
            return Event(ident, ts_ms, lat, lon)
        return Rejected(
            Reason.BAD_ORIGIN,
            f"outside lat -90..90, lon -180..180: {_quote_value(lat)}, {_quote_value(lon)}",
        )
    return Rejected(
        Reason.BAD_ORIGIN,
        f"lat and lon must be numbers, are {_quote_value(lat)}, {_quote_value(lon)}",
    )


def parse_timestamp(ts: object) -> int | None:
    """Epoch ms of an RFC 3339 string, or of an integer that is epoch ms; None for anything else,
    and outside the years 1 to 9999.

    An integer that can only be seconds is refused. A leap second, the 61st of the last minute (UTC)
    of a month, counts as the second after it, as in POSIX: `23:59:60.5Z` is half a second past
    midnight."""
    if type(ts) is str:
        if _RFC3339.fullmatch(ts) is None:
            return None
        leap = ts[17:19] == "60"
        try:
            at = datetime.fromisoformat((f"{ts[:17]}59{ts[19:]}" if leap else ts).upper())
            since = (at + timedelta(seconds=1) if leap else at) - _EPOCH
            if leap and ((_EPOCH + since).day, since.seconds) != (1, 0):
                return None
        except (ValueError, OverflowError):
            return None
        return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000
    if type(ts) is int and _MIN_MS <= ts <= _MAX_MS and not _SECONDS_FROM <= abs(ts) < _SECONDS_TO:
        return ts
    return None


def _guess_unit(ts: object) -> str:
    """The unit that a number seems to have if it is not epoch ms, for people; "" if it is not
    clear."""
    if type(ts) is not int and type(ts) is not float:
        return ""
    for unit, factor in (("seconds", 1), ("microseconds", 10**6), ("nanoseconds", 10**9)):
        if _SECONDS_FROM * factor <= abs(ts) < _SECONDS_TO * factor:
            return f"looks like {unit}; it "
    return ""


@dataclass(slots=True)
class NotEvents:
    """The records of a sample that are not valid events: how many by reason, and the first detail
    of each."""

    counts: Counter[Reason] = field(default_factory=Counter)
    first: dict[Reason, str] = field(default_factory=dict)

    def add_rejected(self, rejected: Rejected) -> None:
        self.counts[rejected.reason] += 1
        self.first.setdefault(rejected.reason, rejected.detail)

    def describe_counts(self) -> str:
        """The end of a sentence that tells how many: `: 3 bad_ts (...), 1 not_json (...)`; "" if
        there are none."""
        said = (f"{n:,} {reason} ({self.first[reason]})" for reason, n in self.counts.most_common())
        return f": {', '.join(said)}" if self.counts else ""


def _json_type_name(value: object) -> str:
    names = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _quote_value(value: object) -> str:
    return "missing" if value is None else repr(_first_items(value, _QUOTED))[:_QUOTED]


def _first_items(value: object, levels: int) -> object:
    """The part of a value that can show in the first `_QUOTED` characters of its repr. The repr of
    a deeply nested one raises RecursionError."""
    if type(value) is list:
        return [_first_items(x, levels - 1) for x in value[:_QUOTED]] if levels else []
    if type(value) is dict:
        items = islice(value.items(), _QUOTED if levels else 0)
        return {key: _first_items(x, levels - 1) for key, x in items}
    return value
