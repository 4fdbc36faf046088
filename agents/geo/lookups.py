"""Places by name for a batch of events: asked side by side, each once, within a bounded time.

A name at which the provider fails may be one that it always fails at, and all events behind it
would wait. So before it is asked for again, the provider has to answer another question.

The stage calls from its thread; the geocoder is asked in the event loop, where its connections
are."""

from __future__ import annotations

import asyncio
import random
import time
import traceback
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path

from agents.base import log
from agents.base.errors import PlaceUnknown, ProviderFailed, ProviderUnavailable
from agents.base.text import to_one_line
from agents.core.model.places import Place
from agents.geo.provider import Geocoder

_log = log.get_logger("geo")
AT_ONCE = 16
LOOK_S = 1.0
"""After this time a batch goes on with what has been found. What was asked meanwhile is known when
its records are read again, since online geocoders keep their answers."""
FIRST_S = 5.0
"""How long the first place of each partition is waited for; without it nothing of that goes on."""
_GRACE_S = 5.0
FAILS_AT_MOST = 3
"""How often the provider may fail at a name, though it has just answered another question; then
the event is given up."""
GIVEN_UP_S = 600.0
"""How long it is not asked for this name again."""
SUSPECTS = 1000
"""Names that are remembered because the provider has failed at them."""
PROBE = "London {}"
"""A question that is easy to answer; the number is random, so that no cache has the answer."""


@dataclass(slots=True)
class _Suspect:
    """A name at which the provider has failed. `failures`: those that followed on an answer to
    another question. `until`: it is given up until then (monotonic)."""

    failures: int = 0
    until: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """`answers`: by text, a place or the reason why there is none. `refused`: by text, why the
    provider does not answer now, for people. Texts that were not asked are in neither."""

    answers: dict[str, Place | str]
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def waits(self) -> str:
        """Why the rest waits; empty if only time was short."""
        return next(iter(self.refused.values()), "")


def describe_fault(error: Exception) -> str:
    """A bug's kind and place in the code. Not its message: that may hold a secret."""
    if isinstance(error, ExceptionGroup):
        return describe_fault(error.exceptions[0])
    frames = traceback.extract_tb(error.__traceback__)
    at = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{at}"


class Lookups:
    """`loop` is the running event loop, which stays responsive: an answer that needs no waiting
    lets others run."""

    def __init__(self, geocoder: Geocoder, loop: asyncio.AbstractEventLoop) -> None:
        self._geocoder, self._loop = geocoder, loop
        self._suspects: OrderedDict[str, _Suspect] = OrderedDict()

    def find_places(self, texts: Sequence[str], firsts: int = 1) -> Found:
        """Look up these texts, the first ones first; for the first `firsts` of them, something
        waits that nothing else can overtake. It blocks, for LOOK_S + 2 * FIRST_S at most
        (if the loop is busy, some seconds more); call it in another thread than the loop's."""
        if not texts:
            return Found({})
        asked = asyncio.run_coroutine_threadsafe(self._find(texts, firsts), self._loop)
        try:
            return asked.result(LOOK_S + 2 * FIRST_S + _GRACE_S)
        except (TimeoutError, CancelledError):
            asked.cancel()
            return Found({}, {texts[0]: "the process is too busy, or ends"})

    async def _find(self, texts: Sequence[str], firsts: int) -> Found:
        answers: dict[str, Place | str] = {}
        refused: dict[str, str] = {}
        asked = await self._set_suspects_aside(texts, answers, refused)
        left = iter(asked)
        try:
            async with asyncio.timeout(LOOK_S), asyncio.TaskGroup() as asks:
                for _ in range(min(AT_ONCE, len(asked))):
                    asks.create_task(self._ask(left, answers, refused))
        except TimeoutError:
            pass
        if not refused:
            await self._wait_for_firsts(texts[:firsts], answers, refused)
        return Found(answers, refused)

    async def _wait_for_firsts(
        self, texts: Sequence[str], answers: dict[str, Place | str], refused: dict[str, str]
    ) -> None:
        try:
            async with asyncio.timeout(FIRST_S), asyncio.TaskGroup() as asks:
                for text in texts:
                    if text not in answers:
                        asks.create_task(self._ask(iter((text,)), answers, refused))
        except TimeoutError:
            for text in texts:
                if text not in answers and text not in refused:
                    self._note_failure(text, self._describe_silence(), answers, refused)

    async def _set_suspects_aside(
        self, texts: Sequence[str], answers: dict[str, Place | str], refused: dict[str, str]
    ) -> Sequence[str]:
        """The texts to ask for: those at which the provider has failed only if it answers another
        question now. Notes what is given up, and why the others are not asked for."""
        now = time.monotonic()
        given_up = {t: x.why for t in texts if (x := self._suspects.get(t)) and now < x.until}
        answers |= given_up
        suspects = {t for t in texts if t in self._suspects and t not in given_up}
        if suspects and (why := await self._probe()):
            refused |= dict.fromkeys(suspects, why)
            return [t for t in texts if t not in self._suspects]
        return [t for t in texts if t not in given_up]

    async def _probe(self) -> str:
        """Why the provider answers nothing now; empty if it does answer."""
        text = PROBE.format(random.randrange(10**6))
        refused: dict[str, str] = {}
        try:
            async with asyncio.timeout(FIRST_S):
                await self._ask(iter((text,)), {}, refused)
        except TimeoutError:
            return self._describe_silence()
        self._suspects.pop(text, None)
        return refused.get(text, "")

    def _describe_silence(self) -> str:
        return f"{self._geocoder.name} has not answered for {FIRST_S:g} s"

    def _note_failure(
        self, text: str, why: str, answers: dict[str, Place | str], refused: dict[str, str]
    ) -> None:
        suspect = self._suspects.get(text)
        if suspect is None:
            suspect = self._suspects[text] = _Suspect()
            if len(self._suspects) > SUSPECTS:
                self._suspects.popitem(last=False)
        else:  # the probe was answered
            suspect.failures += 1
        if suspect.failures < FAILS_AT_MOST:
            refused[text] = why
            return
        answers[text] = suspect.why = f"the provider answers others, and fails at this name: {why}"
        suspect.until = time.monotonic() + GIVEN_UP_S
        _log.warning("place_given_up", place=to_one_line(text, 80), why=why)

    async def _ask(
        self, left: Iterator[str], answers: dict[str, Place | str], refused: dict[str, str]
    ) -> None:
        for text in left:
            try:
                answers[text] = await self._geocoder.find(text)
                self._suspects.pop(text, None)
            except PlaceUnknown as e:
                answers[text] = str(e)
                self._suspects.pop(text, None)
            except ProviderFailed as e:
                self._note_failure(text, str(e), answers, refused)
            except ProviderUnavailable as e:
                refused[text] = str(e)
            except Exception as e:  # noqa: BLE001 - a bug: one event must not end the worker
                where = describe_fault(e)
                _log.error("lookup_failed", place=to_one_line(text, 80), error=where)
                answers[text] = f"a fault of the provider or of ours: {where}"
            if refused:
                return
            await asyncio.sleep(0)
