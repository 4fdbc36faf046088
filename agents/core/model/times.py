"""Times as people write and read them: UTC, epoch ms. The clock is passed in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from agents.base.errors import OperatorError

_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd])", re.ASCII | re.IGNORECASE)
_TODAY = re.compile(r"\d{1,2}:\d\d(:\d\d(\.\d+)?)?", re.ASCII)
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def utc_from_ms(ms: int) -> datetime:
    """Of epoch ms."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def format_utc(ms: int) -> str:
    """RFC 3339 with milliseconds: 2026-07-01T10:00:00.000Z."""
    return utc_from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_clock(ms: int) -> str:
    """The time of day in UTC: HH:MM:SS."""
    s = ms // 1000 % 86400
    return f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}"


def format_minute(ms: int) -> str:
    """For people: `29 Nov 2026, 23:45 UTC`."""
    return f"{utc_from_ms(ms):%d %b %Y, %H:%M} UTC"


def format_duration(seconds: float) -> str:
    """A duration for people, in whole units: `< 1 s`, `74 s`, `12 min`, `5 h`, `3 d`."""
    if seconds < 1:
        return "< 1 s"
    for unit_s, most, unit in ((1, 120, "s"), (60, 120, "min"), (3600, 48, "h")):
        if seconds < most * unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def format_took(seconds: float) -> str:
    """How long something took, with two digits that matter: `< 0.1 s`, `0.4 s`, `3.4 s`, `74 s`,
    `12 min`."""
    if seconds < 0.1:
        return "< 0.1 s"
    return f"{seconds:.1f} s" if seconds < 9.95 else format_duration(seconds)


def parse_span_s(text: str) -> float | None:
    """The seconds of `90s`, `10m`, `1.5h` or `3d`; None if `text` is not a span."""
    span = _SPAN.fullmatch(text)
    return float(span[1]) * _UNIT_S[span[2].lower()] if span else None


def parse_time(text: str, now: datetime) -> int:
    """Epoch ms of `text`: an RFC 3339 time (UTC if it has no zone), HH:MM[:SS] of today in UTC,
    `-10m` (that long before now, in s, m, h or d), or `now`. Raises OperatorError."""
    try:
        if text == "now":
            at = now
        elif text[:1] == "-" and (ago_s := parse_span_s(text[1:])) is not None:
            at = now - timedelta(seconds=ago_s)
        elif _TODAY.fullmatch(text):
            hour, _, rest = text.partition(":")
            of_day = datetime.fromisoformat(f"2000-01-01T{hour:0>2}:{rest}")
            at = now.astimezone(UTC).replace(
                hour=of_day.hour,
                minute=of_day.minute,
                second=of_day.second,
                microsecond=of_day.microsecond,
            )
        else:
            at = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as e:
        raise OperatorError(
            f"{text[:40]!r} is not a valid time; write 2026-07-01T10:00:00Z, or 10:00:00 (today, "
            "UTC), or -10m (s, m, h, d), or now"
        ) from e
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return round(at.timestamp() * 1000)


def parse_time_ms(text: str, now_ms: int) -> int:
    """Like `parse_time`, with the clock as epoch ms."""
    return parse_time(text, utc_from_ms(now_ms))


def parse_past_time_ms(text: str, now_ms: int) -> int:
    """Like `parse_time_ms`, and `1h` also means an hour ago."""
    return parse_time_ms(text if parse_span_s(text) is None else f"-{text}", now_ms)
