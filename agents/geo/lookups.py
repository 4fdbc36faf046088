"""Places by name for a batch of events: asked side by side, each once, within a bounded time.

The stage calls from its thread; the geocoder is asked in the event loop, where its connections
are."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path

from agents.base import log
from agents.base.errors import PlaceUnknown, ProviderUnavailable
from agents.base.text import to_one_line
from agents.core.model.places import Place
from agents.geo.provider import Geocoder

_log = log.get_logger("geo")
AT_ONCE = 16
LOOK_S = 1.0
"""After this time a batch goes on with what has been found. What was asked meanwhile is known when
its records are read again, since online geocoders keep their answers."""
FIRST_S = 5.0
"""How long the first place of a batch is waited for; without it nothing goes on."""
_GRACE_S = 5.0


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

    def find_places(self, texts: Sequence[str]) -> Found:
        """Look up these texts, the first ones first. It blocks, for LOOK_S + FIRST_S at most; call
        it in another thread than the loop's."""
        if not texts:
            return Found({})
        asked = asyncio.run_coroutine_threadsafe(self._find(texts), self._loop)
        try:
            return asked.result(LOOK_S + FIRST_S + _GRACE_S)
        except (TimeoutError, CancelledError):
            return Found({}, {texts[0]: "the process is too busy, or ends"})

    async def _find(self, texts: Sequence[str]) -> Found:
        answers: dict[str, Place | str] = {}
        refused: dict[str, str] = {}
        left, first = iter(texts), texts[0]
        try:
            async with asyncio.timeout(LOOK_S), asyncio.TaskGroup() as asks:
                for _ in range(min(AT_ONCE, len(texts))):
                    asks.create_task(self._ask(left, answers, refused))
        except TimeoutError:
            pass
        if first not in answers and not refused:
            try:
                async with asyncio.timeout(FIRST_S):
                    await self._ask(iter((first,)), answers, refused)
            except TimeoutError:
                refused[first] = f"{self._geocoder.name} has not answered for {FIRST_S:g} s"
        return Found(answers, refused)

    async def _ask(
        self, left: Iterator[str], answers: dict[str, Place | str], refused: dict[str, str]
    ) -> None:
        for text in left:
            try:
                answers[text] = await self._geocoder.find(text)
            except PlaceUnknown as e:
                answers[text] = str(e)
            except ProviderUnavailable as e:
                refused[text] = str(e)
            except Exception as e:  # noqa: BLE001 - a bug: one event must not end the worker
                where = describe_fault(e)
                _log.error("lookup_failed", place=to_one_line(text, 80), error=where)
                answers[text] = f"a fault of the provider or of ours: {where}"
            if refused:
                return
            await asyncio.sleep(0)
