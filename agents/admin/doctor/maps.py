"""The servers of maps that the settings choose: whether they answer; and of Apple Maps the key, the
budget and the clock.

Apple is asked for a token, once, unless the budget is used up. That call is not counted there: the
doctor changes nothing, and a file that it made could belong to another user than the workers'."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from agents import settings
from agents.admin.doctor.check import Check
from agents.admin.doctor.judge.host import judge_clock
from agents.admin.doctor.judge.maps import (
    judge_budget,
    judge_key_file,
    judge_team,
    judge_valhalla,
)
from agents.admin.doctor.judge.roles import Role, Whom
from agents.admin.doctor.judge.verdict import NotLookedAt, Verdict, fault, ok
from agents.core.model.inventory import Inventory
from agents.core.model.topology import WorkerKind
from agents.geo.apple.budget import CallBudget
from agents.geo.apple.tokens import CREDENTIAL, MapsKey, read_key
from agents.geo.online import Online, Refusal
from agents.geo.providers import connect_apple, connect_server
from agents.geo.valhalla import ValhallaTravelTimes
from agents.settings import find_secret_file

GROUP = "maps"
DOCS = "docs/maps.md says what it needs"


class MapsCheck:
    """`now`: this machine's clock, in epoch seconds. `inventory`: None where it is not known."""

    def __init__(
        self,
        geo: settings.Geo,
        who: Whom,
        now: Callable[[], float] = time.time,
        inventory: Inventory | None = None,
    ) -> None:
        self._geo, self._who, self._now = geo, who, now
        workers = inventory.workers_of(WorkerKind.GEO) if inventory else []
        self._sites, self._workers = len({worker.site for worker in workers}), len(workers)
        self._budget = CallBudget(Path(geo.apple.budget_file), geo.apple.daily_calls, now)
        self._apple_online: Online | None = None

    def list_checks(self) -> list[Check]:
        """None if no server is used: the offline provider needs nothing."""
        used = {self._geo.geocoder, self._geo.travel_times}
        checks = []
        if "apple" in used:
            checks += [
                Check(GROUP, "apple key", self._check_key, todo=DOCS),
                Check(GROUP, "apple budget", self._check_budget, todo=DOCS),
                Check(
                    GROUP,
                    "apple",
                    self._check_apple,
                    (f"{GROUP} apple key", f"{GROUP} apple budget"),
                    bound_s=30.0,
                    todo=DOCS,
                ),
                Check(
                    GROUP, "apple clock", self._check_clock, after=(f"{GROUP} apple",), bound_s=35.0
                ),
            ]
            if self._sites:
                checks.append(Check(GROUP, "apple team", self._check_team, todo=DOCS))
        for name, look in (
            ("photon", self._check_photon),
            ("nominatim", self._check_nominatim),
            ("valhalla", self._check_valhalla),
        ):
            if name in used:
                todo = f"see that {getattr(self._geo, name).url} answers from here; {DOCS}"
                checks.append(Check(GROUP, name, look, bound_s=30.0, todo=todo))
        return checks

    async def _check_key(self) -> Verdict:
        await asyncio.to_thread(self._read_key)
        file = find_secret_file(self._geo.apple.key_file, CREDENTIAL)
        return judge_key_file(file)

    def _read_key(self) -> MapsKey:
        apple = self._geo.apple
        if self._who.role is not Role.GEO and find_secret_file(apple.key_file, CREDENTIAL) is None:
            raise NotLookedAt("no key is given here, and only geo workers need one")
        return read_key(apple)

    async def _check_budget(self) -> Verdict:
        left = await asyncio.to_thread(self._budget.read_left)
        return judge_budget(left, self._budget.daily_calls, self._budget.file)

    async def _check_team(self) -> Verdict:
        return judge_team(self._sites, self._workers, self._budget.daily_calls)

    async def _check_apple(self) -> Verdict:
        if (await asyncio.to_thread(self._budget.read_left)).calls_left < 1:
            raise NotLookedAt("the budget allows no call now")
        with tempfile.TemporaryDirectory() as folder:
            apple = msgspec.structs.replace(
                self._geo.apple, budget_file=f"{folder}/budget.json", daily_calls=1000
            )
            client = await asyncio.to_thread(connect_apple, apple, self._now)
            self._apple_online = client.online
            begun = time.monotonic()
            await client.tokens.get()
        return ok(f"{client.online.name} accepts the key ({_ms_since(begun)})")

    async def _check_clock(self) -> Verdict:
        if self._apple_online is None or self._apple_online.ahead_s is None:
            raise NotLookedAt("Apple was not asked, or does not tell its time")
        return judge_clock(self._apple_online.ahead_s, "Apple's")

    async def _check_photon(self) -> Verdict:
        online = await asyncio.to_thread(connect_server, self._geo, "photon")
        return await _check_status(online)

    async def _check_nominatim(self) -> Verdict:
        online = await asyncio.to_thread(connect_server, self._geo, "nominatim")
        return await _check_status(online, format="json")

    async def _check_valhalla(self) -> Verdict:
        online = await asyncio.to_thread(connect_server, self._geo, "valhalla")
        begun = time.monotonic()
        status = await ValhallaTravelTimes(online).status()
        return judge_valhalla(status, _ms_since(begun))


async def _check_status(online: Online, **params: str) -> Verdict:
    """Photon and Nominatim both have /status, with an object."""
    begun = time.monotonic()
    got = await online.request("/status", dict[str, object], params=params)
    if isinstance(got, Refusal):
        return fault(
            f"{online.url} refuses /status ({got.in_words})",
            f"correct geo.{online.name.lower()}.url",
        )
    return ok(f"{online.url} answers ({_ms_since(begun)})")


def _ms_since(begun: float) -> str:
    return f"{(time.monotonic() - begun) * 1000:,.0f} ms"
