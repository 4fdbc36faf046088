"""How many calls to Apple may be sent: at most `daily_calls` in any 24 hours, wherever a day begins
for Apple, spread over the day, the important ones first.

It is a token bucket that is kept in a file: each call is counted there before it is sent, so that
neither a restart nor a second process on the machine sends more. The bucket holds an eighth of the
day; the rest flows in evenly. A call that is less important leaves a part of it for those that are
more so, and people have a bucket of their own within it. A 429 from Apple ends the day."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from agents.base import log
from agents.base.errors import ProviderUnavailable, SettingsError
from agents.base.files import locked_folder, read_whole_file, replace_file
from agents.base.token_bucket import TokenBucket
from agents.core.model.times import format_utc

T = TypeVar("T")
DAY_S = 86_400.0
BURST = 1 / 8
"""The share of the day that may be sent at once."""
PEOPLE = 1 / 4
"""The share of the day that people may use: one person alone could ask for more than a day's."""
AGAIN_S = 3600.0
"""If Apple answers 429 once more, though it is another day here: its day begins at another hour."""
MOST_CALLS = 1_000_000
_MAX_BYTES = 4096

_log = log.get_logger("maps")


class CallPriority(Enum):
    """Who asks, and the share of a full bucket that such a call leaves to the ones before it."""

    TOKEN = 0.0
    PERSON = 0.02
    TRAFFIC = 0.1
    EVENT = 0.4
    NAME = 0.6


class Spent(msgspec.Struct, forbid_unknown_fields=True):
    """The file. Times are epoch seconds. `tokens`: calls that were allowed at `refilled_at`.
    `ended_until`: when the day ends that Apple's 429 has ended; 0: Apple has answered since.
    `calls`: on the UTC day `day` (of the epoch). `people`: the tokens that people may use;
    None: all of their share."""

    tokens: float
    refilled_at: float
    ended_until: float = 0.0
    day: int = 0
    calls: Annotated[int, msgspec.Meta(ge=0, le=MOST_CALLS)] = 0
    people: float | None = None


@dataclass(frozen=True, slots=True)
class CallsLeft:
    """`calls_left`: that may be sent at once. `calls`: since midnight UTC. `ended_for_s`: how long
    nothing is sent because Apple has answered 429; 0: it has not."""

    calls_left: int
    calls: int
    ended_for_s: float


@dataclass(slots=True)
class CallBudget:
    """`file` is shared by the processes of a machine. `now`: epoch seconds. `refused`: calls that
    this process was not allowed."""

    file: Path
    daily_calls: int
    now: Callable[[], float] = time.time
    refused: int = 0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _ended: bool = False
    _was_ahead: bool = False

    @property
    def burst(self) -> float:
        return _burst_of(self.daily_calls)

    @property
    def per_s(self) -> float:
        return _flow_of(self.daily_calls)

    @property
    def peoples_calls(self) -> float:
        """What people may send in 24 hours."""
        return max(1.0, self.daily_calls * PEOPLE)

    async def count_call(self, priority: CallPriority) -> None:
        """Count a call. Raises ProviderUnavailable if it may not be sent now."""
        refusal = await self._in_thread(lambda: self._count_call(priority))
        if refusal is not None:
            self.refused += 1
            raise refusal

    async def end_day(self) -> None:
        """Apple has answered 429: nothing is sent until midnight UTC."""
        ended_until = await self._in_thread(self._end_day)
        if not self._ended:
            self._ended = True
            _log.warning("maps_quota_used_up", for_s=round(ended_until - self.now()))

    async def note_success(self) -> None:
        """Apple has answered."""
        if self._ended and await self._in_thread(self._begin_day):
            self._ended = False
            _log.info("maps_quota_there_again")

    async def left(self) -> CallsLeft:
        """Raises ProviderUnavailable."""
        return await self._in_thread(self.read_left)

    def read_left(self) -> CallsLeft:
        """As `left`. Blocks. Raises SettingsError."""
        now = self.now()
        spent = self._read(now)
        ended_for_s = max(0.0, spent.ended_until - now)
        return CallsLeft(0 if ended_for_s else int(spent.tokens), spent.calls, ended_for_s)

    def check(self) -> None:
        """Raises SettingsError if the file cannot be read and written. Blocks."""
        with locked_folder(self.file):
            self._write(self._read(self.now()))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            async with self._lock:
                return await asyncio.to_thread(work)
        except SettingsError as e:  # a call that is not counted is not sent
            raise ProviderUnavailable(f"calls to Apple cannot be counted: {e}", 60.0) from e

    def _count_call(self, priority: CallPriority) -> ProviderUnavailable | None:
        with locked_folder(self.file):
            now = self.now()
            spent = self._read(now)
            self._ended = spent.ended_until > 0
            if now < spent.ended_until:
                until = format_utc(int(spent.ended_until * 1000))
                return ProviderUnavailable(
                    f"Apple says that the team's quota is used up; it is asked again at {until}",
                    spent.ended_until - now,
                )
            needed = 1 + priority.value * (self.burst - 1)
            if spent.tokens < needed:
                if self._was_ahead:
                    self._write(spent)  # it flows in from now on
                which = "is kept for more urgent calls" if spent.tokens >= 1 else "is used up"
                return ProviderUnavailable(
                    f"what geo.apple.daily_calls ({self.daily_calls:,}) allows now {which}",
                    (needed - spent.tokens) / self.per_s,
                )
            if priority is CallPriority.PERSON:
                if (people := spent.people or 0.0) < 1:
                    return ProviderUnavailable(
                        f"people have used what is theirs now of geo.apple.daily_calls "
                        f"({self.peoples_calls:,.0f} of {self.daily_calls:,} in 24 hours)",
                        (1 - people) / _flow_of(self.peoples_calls),
                    )
                spent.people = people - 1
            spent.tokens -= 1
            spent.calls += 1
            self._write(spent)
        return None

    def _end_day(self) -> float:
        with locked_folder(self.file):
            now = self.now()
            spent = self._read(now)
            if now >= spent.ended_until:
                # Once more 429, though it is another day here: Apple's begins at another hour.
                again = spent.ended_until > 0
                spent.ended_until = now + AGAIN_S if again else (now // DAY_S + 1) * DAY_S
                self._write(spent)
            return spent.ended_until

    def _begin_day(self) -> bool:
        with locked_folder(self.file):
            now = self.now()
            spent = self._read(now)
            if now < spent.ended_until:  # the answer to a call from before the 429
                return False
            spent.ended_until = 0.0
            self._write(spent)
            return True

    def _read(self, now: float) -> Spent:
        """What the file holds, as it is now. Its times may be later than now, since a clock may be
        set back: then Apple is asked again, and calls flow in from now on."""
        day = int(now // DAY_S)
        try:
            spent = msgspec.json.decode(read_whole_file(self.file, _MAX_BYTES), type=Spent)
        except FileNotFoundError:
            return Spent(self.burst, now, day=day, people=_burst_of(self.peoples_calls))
        except OSError as e:
            raise SettingsError(f"{self.file}: cannot be read ({e.strerror})") from e
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise SettingsError(f"{self.file}: is damaged ({e}); remove it") from e
        self._was_ahead = spent.refilled_at > now
        since = min(spent.refilled_at, now)
        people = _burst_of(self.peoples_calls) if spent.people is None else spent.people
        return Spent(
            _refill(spent.tokens, self.daily_calls, since, now),
            now,
            spent.ended_until if spent.ended_until <= now + DAY_S else 0.0,
            day,
            spent.calls if spent.day == day else 0,
            _refill(people, self.peoples_calls, since, now),
        )

    def _write(self, spent: Spent) -> None:
        try:
            replace_file(self.file, msgspec.json.encode(spent).decode() + "\n")
        except OSError as e:
            raise SettingsError(f"{self.file}: cannot be written ({e.strerror})") from e


def _burst_of(daily_calls: float) -> float:
    return max(1.0, daily_calls * BURST)


def _flow_of(daily_calls: float) -> float:
    """Calls a second, so that a full bucket and what flows in during 24 hours are `daily_calls`
    together."""
    return max(daily_calls - _burst_of(daily_calls), BURST) / DAY_S


def _refill(tokens: float, daily_calls: float, since: float, now: float) -> float:
    bucket = TokenBucket(_burst_of(daily_calls), _flow_of(daily_calls))
    bucket.tokens = min(max(0.0, tokens), bucket.burst)
    bucket.refilled_at = since
    bucket.refill(now)
    return bucket.tokens
