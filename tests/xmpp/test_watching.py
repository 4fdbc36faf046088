"""The live view's connection: back after a cut, heard again when another client of the account
leaves, refused in words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agents.base.errors import CommandRefused
from agents.observe.dashboard import watcher
from agents.observe.dashboard.figures import Dashboard
from agents.observe.dashboard.watcher import Watcher
from tests.observe.dashboard.support import item, row, summary
from tests.xmpp.conftest import Coordinator, Links, until


@asynccontextmanager
async def publishing(leader: Coordinator) -> AsyncIterator[None]:
    """Another `fleet` all the time."""

    async def go() -> None:
        lag = 0
        while True:
            lag += 1
            leader.link.publish_item(item(summary([row(0)], lag_events=lag)))
            await asyncio.sleep(0.05)

    task = asyncio.create_task(go())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def lag(board: Dashboard) -> int:
    s = board.figures_at(0.0).summary
    return s.lag_events if s is not None else 0


async def ended(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_cut_connection_is_told_once_and_comes_back(links: Links) -> None:
    leader = await links.coordinator()
    ana = await links.server.person()
    board, told = Dashboard("geolane.test"), list[str]()
    async with publishing(leader):
        task = asyncio.create_task(
            Watcher(links.server.settings(ana), ana, board, linked=told.append).run()
        )
        await until(lambda: lag(board))
        await links.server.server.api.call("kick_user", user=ana, host=links.server.domain)
        await until(lambda: len(told) == 2)
        before = lag(board)
        await until(lambda: lag(board) > before + 3)
        await ended(task)
    assert told[0].startswith("lost: ")
    assert told[1:] == ["connected again"]
    assert board.link == ""


async def test_who_watches_hears_on_when_another_client_of_the_account_leaves(
    links: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "STALE_S", 0.5)
    leader = await links.coordinator()
    ana = await links.server.person()
    first, second = Dashboard("geolane.test"), Dashboard("geolane.test")
    async with publishing(leader):
        one = asyncio.create_task(Watcher(links.server.settings(ana), ana, first).run())
        await until(lambda: lag(first))  # its subscriptions are those of the account
        two = asyncio.create_task(Watcher(links.server.settings(ana), ana, second).run())
        await until(lambda: lag(second))
        await ended(one)
        before = lag(second)
        await until(lambda: lag(second) > before + 20)
        await ended(two)


async def test_who_may_not_read_is_told_so(links: Links) -> None:
    mallory = await links.server.stranger()
    with pytest.raises(CommandRefused, match=f"{mallory} may not read the feed") as refused:
        async with asyncio.timeout(20):
            await Watcher(links.server.settings(mallory), mallory, Dashboard("geolane.test")).run()
    assert refused.value.condition == "not-allowed"
