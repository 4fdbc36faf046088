"""Operator feeds: published by the leader, read by members, and by nobody whose membership
ended."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from agents.base.errors import CommandRefused
from agents.core.model.feeds import (
    ALERTS,
    CURRENT,
    FLEET,
    PLACEMENT,
    AlertItem,
    FeedItem,
    FleetSummary,
    MoveItem,
    PlacementPlan,
    Severity,
)
from agents.xmpp import operator_client, pubsub
from agents.xmpp.operator_client import OperatorClient
from plugins.feeds import item_from_entry, make_subscribers_request, subscribers_from_result
from tests.xmpp.conftest import Coordinator, Links, until

SUMMARY = FleetSummary(10, 9, 1, 32, 30, 1, 1, 998.5, 1001.0, 40, 3.1, 9.4, True)
PLAN = FeedItem(
    PLACEMENT,
    "plan-4-918",
    "1 lane moved: fra-1 draining",
    "12: fra-1 to ams-2, +2.1 ms",
    PlacementPlan(918, "drain", "ana@geolane.test", (MoveItem(12, "fra-1", "ams-2", 8, 2.1),)),
    4,
)


def _published(leader: Coordinator, n: int) -> bool:
    leader.link.publish_item(alert(n))
    return True


async def _reading(client: OperatorClient) -> tuple[list[str], asyncio.Task[None]]:
    """The ids of the alerts that come, and the task that reads them."""
    got: list[str] = []

    async def read() -> None:
        async with aclosing(client.watch_feed(ALERTS)) as items:
            async for item in items:
                got.append(item.item_id)  # noqa: PERF401  # read while it runs

    reader = asyncio.create_task(read())
    await until(lambda: ALERTS in client._items)
    return got, reader


def alert(n: int) -> FeedItem:
    return FeedItem(
        ALERTS,
        f"alert-4-{n}",
        f"node gone {n}",
        "",
        AlertItem(Severity.WARNING, "node_gone", "node-a"),
        4,
    )


async def test_a_member_reads_what_the_leader_publishes(links: Links) -> None:
    leader = await links.coordinator()
    ana = await links.server.person()
    async with OperatorClient(links.server.settings(ana), ana) as client:
        leader.link.publish_item(PLAN)
        for feed, item in (
            (FLEET, FeedItem(FLEET, CURRENT, "calm", "10 nodes", SUMMARY, 4)),
            (PLACEMENT, PLAN),
            (ALERTS, alert(1)),
        ):
            async with aclosing(client.watch_feed(feed)) as items, asyncio.timeout(10):
                leader.link.publish_item(item)
                async for got in items:
                    if (
                        got.payload.tag.endswith("}entry")
                        and item_from_entry(got.feed, got.item_id, got.payload) == item
                    ):
                        assert got.publisher == f"{links.server.settings().coordinator}/leader"
                        break


async def test_a_watcher_gets_every_alert_in_order(links: Links) -> None:
    leader = await links.coordinator()
    ana = await links.server.person()
    async with OperatorClient(links.server.settings(ana), ana) as client:
        got, reader = await _reading(client)
        await until(lambda: _published(leader, 100) and got)
        for n in range(101, 121):
            leader.link.publish_item(alert(n))
        await until(lambda: got and got[-1] == "alert-4-120")
        assert got[-20:] == [f"alert-4-{n}" for n in range(101, 121)]
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def test_who_watches_troubles_no_other_client_of_the_account(links: Links) -> None:
    leader = await links.coordinator()
    ana = await links.server.person()
    settings = links.server.settings(ana)
    async with OperatorClient(settings, ana) as phone, OperatorClient(settings, ana) as terminal:
        heard = phone._items[ALERTS] = asyncio.Queue(10)
        async with aclosing(terminal.watch_feed(ALERTS)) as items, asyncio.timeout(10):
            leader.link.publish_item(alert(300))
            async for item in items:
                if item.item_id == "alert-4-300":
                    break
        assert not await _subscribed(leader, links.server.jid(ana)), "it ends with the watching"
        assert heard.empty()


async def test_what_killed_watchers_left_is_cleared_and_those_who_live_go_on(
    links: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator_client, "RENEW_S", 0.5)
    monkeypatch.setattr(pubsub, "SESSIONS", 3)
    leader = await links.coordinator()
    ana = await links.server.person()
    for _ in range(4):
        async with OperatorClient(links.server.settings(ana), ana) as killed:
            await killed.subscribe_to_feed(ALERTS)
    async with OperatorClient(links.server.settings(ana), ana) as client:
        got, reader = await _reading(client)
        await leader.link.mirror_affiliations(await leader.link.read_affiliations(), [ALERTS])
        await until(lambda: _published(leader, 400) and "alert-4-400" in got)
        assert await _subscribed(leader, links.server.jid(ana)) == {client.session.jid}
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def _subscribed(leader: Coordinator, who: str) -> set[str]:
    """Who of that account, or which of its sessions, is subscribed to the alerts."""
    session, service = leader.link._require_leadership().session, leader.link._xmpp.pubsub
    answer = await session.send_request(
        make_subscribers_request(session.stream.Iq(), service, ALERTS)
    )
    return {jid for jid in subscribers_from_result(answer) if jid.startswith(who)}


async def test_a_stranger_cannot_read(links: Links) -> None:
    mallory = await links.server.stranger()
    async with OperatorClient(links.server.settings(mallory), mallory) as client:
        for feed in (ALERTS, "telemetry/node-t1"):
            with pytest.raises(CommandRefused):
                await anext(client.watch_feed(feed))


async def test_who_is_banned_stops_reading(links: Links) -> None:
    leader = await links.coordinator()
    server = links.server
    ana, bob = await server.person(), await server.person()
    both = [ALERTS, PLACEMENT]
    async with (
        OperatorClient(server.settings(ana), ana) as banned,
        OperatorClient(server.settings(bob), bob) as other,
    ):
        following = {client.account: await _reading(client) for client in (banned, other)}
        read = {account: got for account, (got, _) in following.items()}
        tasks = [task for _, task in following.values()]
        await until(
            lambda: _published(leader, 200) and all("alert-4-200" in x for x in read.values())
        )
        affiliations = await leader.link.read_affiliations()
        await leader.link.mirror_affiliations(
            {jid: a for jid, a in affiliations.items() if jid != server.jid(ana)}, both
        )
        leader.link.publish_item(alert(201))
        await until(lambda: "alert-4-201" in read[bob])
        assert "alert-4-201" not in read[ana]
        with pytest.raises(CommandRefused):
            await anext(banned.watch_feed(PLACEMENT))
        await leader.link.mirror_affiliations(affiliations, both)
        async with aclosing(banned.watch_feed(PLACEMENT)):
            pass
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
