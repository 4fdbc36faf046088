"""Keeps what an online geocoder has answered, in memory, for as long as its provider allows. A
question that is asked while the same one is under way waits for its answer, so that a thousand
events with one place cost one call."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from agents.base.errors import PlaceUnknown
from agents.core.model.places import Place, check_place_text
from agents.geo.provider import Geocoder, check_point

KEPT = 10_000
"""Answers; the one that was used the longest ago is dropped first."""
UNKNOWN_S = 600.0
"""How long it is kept that there is no such place."""

Key = tuple[str, ...]


@dataclass(slots=True)
class CachedGeocoder:
    """`inner` has a limit on questions that wait. `now`: epoch seconds."""

    inner: Geocoder
    now: Callable[[], float] = time.time
    _answers: OrderedDict[Key, tuple[Place | str, float]] = field(default_factory=OrderedDict)
    _under_way: dict[Key, asyncio.Task[Place | str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def attribution(self) -> str:
        return self.inner.attribution

    async def find(self, text: str, country: str = "") -> Place:
        asked = check_place_text(text)
        return await self._get(
            ("name", asked.casefold(), country), lambda: self.inner.find(asked, country)
        )

    async def name_at(self, lat: float, lon: float) -> Place:
        check_point(lat, lon)
        return await self._get(
            ("point", f"{lat:.5f}", f"{lon:.5f}"), lambda: self.inner.name_at(lat, lon)
        )

    async def close(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.inner.close()

    async def _get(self, key: Key, ask: Callable[[], Coroutine[None, None, Place]]) -> Place:
        answer = self._kept_answer(key)
        if answer is None:
            task = self._under_way.get(key) or self._begin(key, ask)
            answer = await asyncio.shield(task)  # if one caller gives up, the others go on
        if isinstance(answer, str):
            raise PlaceUnknown(answer)
        return answer

    def _kept_answer(self, key: Key) -> Place | str | None:
        answer, until = self._answers.get(key, (None, 0.0))
        if answer is None:
            return None
        if until and until <= self.now():
            del self._answers[key]
            return None
        self._answers.move_to_end(key)
        return answer

    def _begin(
        self, key: Key, ask: Callable[[], Coroutine[None, None, Place]]
    ) -> asyncio.Task[Place | str]:
        task = asyncio.create_task(self._ask(key, ask))
        self._under_way[key] = task
        task.add_done_callback(lambda done: self._end(key, done))
        return task

    def _end(self, key: Key, done: asyncio.Task[Place | str]) -> None:
        del self._under_way[key]
        if not done.cancelled():
            done.exception()  # nobody may be left who waits for it

    async def _ask(self, key: Key, ask: Callable[[], Coroutine[None, None, Place]]) -> Place | str:
        answer: Place | str
        try:
            answer = await ask()
            until = answer.expires_at
        except PlaceUnknown as e:
            answer, until = str(e), self.now() + UNKNOWN_S
        self._answers[key] = answer, until
        if len(self._answers) > KEPT:
            self._answers.popitem(last=False)
        return answer
