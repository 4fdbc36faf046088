"""One HTTP server that a provider asks. Each request is bounded. A server at fault (5xx, silence,
an answer that cannot be read) is asked again after a random pause, and after too many faults left
alone for a while (circuit.py)."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import msgspec

from agents.base import http_client, log
from agents.base.errors import ProviderFailed, ProviderUnavailable
from agents.base.text import to_one_line
from agents.base.token_bucket import TokenBucket
from agents.geo.circuit import Circuit

T = TypeVar("T")
TIMEOUT_S = 10.0
"""For one try."""
TRIES = 3
PAUSE_S = 0.5
"""The longest pause before the second try; before the third, twice that."""
MAX_BODY_BYTES = 1 << 20
"""Of an answer. The largest that is asked for, a matrix of 50 destinations, has some 10 kB."""
IN_FLIGHT = 8
WAITING = 1000
"""Requests that wait for one of these; more are refused."""
_SHOWN = 160
_AGENT = {"user-agent": "geolane"}

_log = log.get_logger("maps")


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server understood us and refuses: any status from 300 to 499. `message`: its own words,
    one line."""

    status: int
    message: str

    @property
    def in_words(self) -> str:
        return f"{self.status}" + (f", {self.message!r}" if self.message else "")


@dataclass(frozen=True, slots=True)
class _Fault:
    """The server is at fault, so that the same request may succeed later. `reason` continues its
    name."""

    reason: str


class _Message(msgspec.Struct):
    message: str | None = None


class _Refused(msgspec.Struct):
    """Photon has `message`, Valhalla a text in `error`, Apple and Nominatim a message in it."""

    message: str | None = None
    error: str | _Message | None = None


def _message_in(body: bytes) -> str:
    """The server's words in a refusal; empty if there are none."""
    try:
        said = msgspec.json.decode(body, type=_Refused)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    inner = said.error.message if isinstance(said.error, _Message) else said.error
    return inner or said.message or ""


@dataclass(slots=True)
class RequestCounts:
    """Since the process began. `calls`: requests that were sent; `failed`: of these, without a
    usable answer."""

    calls: int = 0
    failed: int = 0


async def _nothing() -> None:
    """The default of what comes before a try."""


@dataclass(slots=True)
class Online:
    """`name`: the server, for people. `tls`: for https. `hide`: takes secrets out of a text.
    `limit`: requests/s that a public server allows. `clock` does not go backwards, `wall_clock`
    gives epoch seconds. `ahead_s`: how far our clock was ahead of the server's at its last answer,
    None where it does not tell."""

    name: str
    url: str
    tls: ssl.SSLContext | None = None
    hide: Callable[[str], str] = str
    limit: TokenBucket | None = None
    timeout_s: float = TIMEOUT_S
    pause_s: float = PAUSE_S
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    dice: Callable[[], float] = random.random
    ahead_s: float | None = None
    circuit: Circuit = field(default_factory=Circuit)
    counts: RequestCounts = field(default_factory=RequestCounts)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(IN_FLIGHT))
    _at_the_limit: asyncio.Lock = field(default_factory=asyncio.Lock)
    _waiting: int = 0
    _last_fault: str = ""
    _refuses_us: bool = False

    async def request(
        self,
        path: str,
        answer: type[T],
        *,
        before: Callable[[], Awaitable[None]] = _nothing,
        headers: Mapping[str, str] | None = None,
        **options: Any,  # Any: `params` and `json` of httpx
    ) -> T | Refusal:
        """The answer to a GET (with `json`: a POST), as an `answer`. `before` comes before each
        try, and may raise.

        Raises ProviderUnavailable; ProviderFailed if this request was sent."""
        if self._waiting >= WAITING:
            raise ProviderUnavailable(f"{WAITING:,} requests wait for {self.name} already", 1.0)
        self._waiting += 1
        try:
            async with self._slots:
                return await self._try_repeatedly(
                    path, answer, before, headers=_AGENT | dict(headers or {}), **options
                )
        finally:
            self._waiting -= 1

    async def _try_repeatedly(
        self, path: str, answer: type[T], before: Callable[[], Awaitable[None]], **options: Any
    ) -> T | Refusal:  # Any: as `request`
        tried = 0
        while True:
            self._admit()
            try:
                await before()
                await self._wait_for_limit()
                got = await self._exchange(path, answer, **options)
            except BaseException:
                self.circuit.release()
                raise
            tried += 1
            if not isinstance(got, _Fault):
                self._note_answer(got)
                return got
            self._note_fault(got)
            if tried == TRIES or self.circuit.is_open:
                wait_s = max(1.0, self.circuit.open_until - self.clock())
                raise ProviderFailed(f"{self.name} {got.reason}", wait_s)
            await asyncio.sleep(self.dice() * self.pause_s * 2 ** (tried - 1))

    def refuse_for(self, open_s: float, reason: str) -> ProviderUnavailable:
        """Send nothing for this long: the server refuses us, whatever we ask. `reason` continues
        its name. Returns the error to raise."""
        self.circuit.open_for(self.clock(), open_s)
        self._last_fault = reason
        if not self._refuses_us:
            self._refuses_us = True
            _log.warning("maps_refused", provider=self.name, reason=reason, for_s=open_s)
        return ProviderUnavailable(f"{self.name} {reason}", open_s)

    def _admit(self) -> None:
        if (wait_s := self.circuit.admit(self.clock())) > 0:
            raise ProviderUnavailable(f"{self.name} {self._last_fault}", wait_s)

    async def _wait_for_limit(self) -> None:
        if (limit := self.limit) is None:
            return
        async with self._at_the_limit:  # so that one waits for the next token
            if not limit.try_take(self.clock()):
                await asyncio.sleep((1 - limit.tokens) / limit.per_s)
                limit.try_take(self.clock())

    async def _exchange(self, path: str, answer: type[T], **options: Any) -> T | Refusal | _Fault:
        """Any: as `request`."""
        self.counts.calls += 1
        method = "POST" if "json" in options else "GET"
        url = f"{self.url.rstrip('/')}{path}"
        try:
            response = await http_client.request(
                method,
                url,
                timeout_s=self.timeout_s,
                tls=self.tls,
                max_body_bytes=MAX_BODY_BYTES,
                **options,
            )
        except http_client.TimedOut:
            return _Fault(f"did not answer within {self.timeout_s:g} s")
        except http_client.FAILURES as e:
            words = to_one_line(self.hide(str(http_client.cause(e))), _SHOWN)
            return _Fault(f"gives no answer ({words})")
        self._note_date(response.headers.get("date", ""))
        status, body = response.status_code, response.content
        if status == 200:
            try:
                return msgspec.json.decode(body, type=answer)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
                words = to_one_line(self.hide(str(e)), _SHOWN)
                return _Fault(f"gives an answer that cannot be read ({words})")
        if not 300 <= status < 500:
            return _Fault(f"answers with status {status}")
        return Refusal(status, to_one_line(self.hide(_message_in(body)), _SHOWN))

    def _note_date(self, date: str) -> None:
        with suppress(TypeError, ValueError, OverflowError):
            told = parsedate_to_datetime(date)
            utc = told if told.tzinfo else told.replace(tzinfo=UTC)  # -0000 tells no zone
            self.ahead_s = self.wall_clock() - utc.timestamp()

    def _note_answer(self, got: object) -> None:
        """The server works; if it refuses us is for the caller to say."""
        closed = self.circuit.succeed()
        if isinstance(got, Refusal) and got.status != 400:
            return
        if closed or self._refuses_us:
            _log.info("maps_circuit_closed", provider=self.name)
        self._refuses_us = False

    def _note_fault(self, fault: _Fault) -> None:
        self.counts.failed += 1
        self._last_fault = fault.reason
        if (open_s := self.circuit.fail(self.clock(), self.dice())) and self.circuit.openings == 1:
            _log.warning(
                "maps_circuit_open", provider=self.name, reason=fault.reason, for_s=round(open_s, 1)
            )
