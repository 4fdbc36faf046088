"""What the core sends for (Errand) and who finds or does it: one entry for each kind of value. It decides nothing.

A few go at a time, each within ERRAND_S; an error of ours becomes words for whoever asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from agents import log
from agents.core.effects import Errand, Found
from agents.core.operators.errands import ERRAND_S
from agents.errors import GeolaneError

TOGETHER = 4

Run = Callable[[Any], Awaitable[object]]  # Any: each takes the value that it is entered for
_log = log.get("coordinator")


class Errands:
    """`kinds`: the value's class -> who takes the value and returns what is found."""

    def __init__(self, kinds: Mapping[type, Run]) -> None:
        self._kinds = dict(kinds)
        self._places = asyncio.Semaphore(TOGETHER)

    async def run(self, errand: Errand) -> Found:
        """Never raises an error of ours: it is told in the answer."""
        kind = type(errand.what)
        try:
            async with asyncio.timeout(ERRAND_S), self._places:
                return Found(errand.ref, await self._kinds[kind](errand.what))
        except TimeoutError:
            why = f"No answer within {ERRAND_S:.0f} s; try again."
        except GeolaneError as e:
            why = str(e)
        _log.warning("errand_failed", what=kind.__name__, error=why)
        return Found(errand.ref, error=why)
