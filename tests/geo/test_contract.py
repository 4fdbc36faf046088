"""Every case in cases/: a provider's client against a server that speaks the provider's API."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from agents.base.errors import PlaceUnknown, ProviderUnavailable
from agents.geo.providers import Providers
from agents.local.demo.maps.apple_maps import AppleMaps
from agents.local.demo.maps.http_stand_in import HttpStandIn
from tests.geo.contract import FOLDER, Ask, Case, Gives, open_for, read_case, settings_for, started

CASES = sorted(FOLDER.glob("*.json"))


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
async def test_case(file: Path, tmp_path: Path) -> None:
    case = read_case(file)
    async with started(case.provider, tmp_path) as server:
        _prepare(server, case)
        apple = {"daily_calls": case.daily_calls}
        providers = await open_for(
            settings_for(case.provider, server, **apple), timeout_s=case.timeout_s
        )
        try:
            await _check_answer(_ask(providers, case.ask), case.gives)
        finally:
            await providers.close()
        if case.sent is not None:
            sent = [
                (r.path, r.params) if not isinstance(wanted, str) else r.path
                for r, wanted in zip(server.requests, case.sent, strict=False)
            ]
            assert (len(server.requests), sent) == (len(case.sent), case.sent)


def _prepare(server: HttpStandIn, case: Case) -> None:
    for name, value in case.server.is_.items():
        assert hasattr(server, name), name
        setattr(server, name, value)
    server.atlas.unreachable.update(case.server.unreachable)  # type: ignore[attr-defined]
    if isinstance(server, AppleMaps) and server.access and case.server.quota is not None:
        server.access.daily_quota = case.server.quota
    faults = [fault for fault in case.server.faults for _ in range(fault.times or 100)]
    server.faults = deque(fault.to_fault() for fault in faults)


def _ask(providers: Providers, ask: Ask) -> Awaitable[Any]:
    if ask.find is not None:
        return providers.events.find(ask.find, ask.country)
    if ask.name_at is not None:
        return providers.events.name_at(*ask.name_at)
    assert ask.measure is not None
    assert providers.travel_times is not None
    return providers.travel_times.measure(ask.measure.origin, ask.measure.destinations)


async def _check_answer(answer: Awaitable[Any], gives: Gives) -> None:
    if gives.unknown is not None:
        with pytest.raises(PlaceUnknown) as unknown:
            await answer
        assert gives.unknown in str(unknown.value)
    elif gives.unavailable is not None:
        with pytest.raises(ProviderUnavailable) as away:
            await answer
        assert gives.unavailable in str(away.value)
        assert gives.retry_s[0] <= away.value.retry_s <= gives.retry_s[1]
    elif gives.place is not None:
        found = asdict(await answer)
        assert {name: found[name] for name in gives.place} == gives.place
    else:
        assert gives.times is not None
        times = [time and asdict(time) for time in await answer]
        wanted = [{} if w is None else w for w in gives.times]
        assert [
            None if t is None else {name: t[name] for name in w}
            for t, w in zip(times, wanted, strict=True)
        ] == gives.times
