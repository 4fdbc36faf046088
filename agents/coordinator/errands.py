"""What the core sends for (Errand) and who finds or does it: one entry for each kind of value. It decides nothing.

A few go at a time, each within ERRAND_S; an error becomes words for whoever asked: one that we did not foresee is logged under an
id that they are told, and ends nobody."""

from __future__ import annotations

import asyncio
import secrets
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
        """Never raises: it is told in the answer."""
        kind = type(errand.what)
        try:
            async with asyncio.timeout(ERRAND_S), self._places:
                return Found(errand.ref, await self._kinds[kind](errand.what))
        except TimeoutError:
            why = f"No answer within {ERRAND_S:.0f} s; try again."
        except GeolaneError as e:
            why = str(e)
        except Exception:  # noqa: BLE001 - the boundary: it is logged and told
            name = f"fault {secrets.token_hex(2)}"
            _log.exception("fault_outlived", name=name, what="errand", about=repr(errand.what)[:1000])
            why = f"Something in me failed at that ({name}); my log tells what it was."
        _log.warning("errand_failed", what=kind.__name__, error=why)
        return Found(errand.ref, error=why)
