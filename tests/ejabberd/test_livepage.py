"""The live page in Chromium against a real ejabberd on which this test is the leader: whatever a
feed carries is shown as text or counted as not readable, and the page goes on."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from playwright.async_api import expect

from agents.core.fleet.summary import fleet_item
from agents.core.model.feeds import (
    ALERTS,
    AlertItem,
    FeedItem,
    FleetSummary,
    LaneRow,
    LaneRows,
    Severity,
    WorkerRow,
    WorkerRows,
)
from agents.local.servers.livepage import LivePlace, install_live_page
from agents.xmpp.client import Handlers, Login, Session
from plugins import namespaces as ns
from plugins.feeds import item_to_entry, make_publish_request
from tests.fixtures.xmpp import XmppServer
from tests.stack.browser import LivePage, chromium, closed

FLEET_TAG = f"{{{ns.FEED}}}fleet"
LANE = LaneRow(3, "fra-1", "ok", 48.1, 11.5, 41.5, 3, 9.4)
NODE = WorkerRow("node-fra-1", "fra", "Hesse", 50.1, 8.7, "ok", 1, 41.5, 3, 9.4, 2000.0)
SUMMARY = FleetSummary(
    1, 1, 1, 1, 1, 0, 0, 41.5, 41.0, 3, 3.1, 9.4, False,
    WorkerRows(0, 1, (NODE,)), None, LaneRows(0, 1, (LANE,)),
)  # fmt: skip
MARKUP = "<img src=x onerror='window.hacked=1'>"


class Leader:
    """Publishes what it likes as the coordinator."""

    def __init__(self, session: Session, service: str) -> None:
        self._session, self._service = session, service

    async def publish(
        self, item: FeedItem, spoil: Callable[[ET.Element], None] = lambda entry: None
    ) -> None:
        entry = item_to_entry(item, datetime.now(UTC))
        spoil(entry)
        request = make_publish_request(
            self._session.stream.Iq(), self._service, item.feed, item.item_id, entry
        )
        await self._session.send_request(request)


@asynccontextmanager
async def leading(server: XmppServer) -> AsyncIterator[Leader]:
    xmpp = server.settings()
    login = Login(xmpp, f"{xmpp.coordinator}/leader", 15.0, 8.0)
    async with Session(login, Handlers()) as session:
        yield Leader(session, xmpp.pubsub)


@asynccontextmanager
async def watching(server: XmppServer, who: str) -> AsyncIterator[LivePage]:
    port = server.server.http_port
    place = LivePlace(server.domain, "/ws", (f"ws://127.0.0.1:{port}",))
    installed = await asyncio.to_thread(install_live_page, server.server.web / "live", place)
    assert installed, "install.sh brings the libraries"
    async with chromium() as browser:
        context = await browser.new_context()
        page = LivePage(await context.new_page(), f"http://127.0.0.1:{port}/live/")
        await page.open()
        await page.log_in(server.jid(who), server.password(who))
        yield page
        await closed(context.close())


def with_attribute(tag: str, name: str, value: str) -> Callable[[ET.Element], None]:
    def spoil(entry: ET.Element) -> None:
        next(x for x in entry.iter() if x.tag == f"{{{ns.FEED}}}{tag}").set(name, value)

    return spoil


def with_many_lanes(entry: ET.Element) -> None:
    lanes = next(x for x in entry.iter() if x.tag == f"{{{ns.FEED}}}lanes")
    for _ in range(1_001):
        ET.SubElement(lanes, f"{{{ns.FEED}}}lane", n="1")


def with_another_element(entry: ET.Element) -> None:
    entry[-1].tag = "{urn:x}script"


HOSTILE = [
    with_attribute("worker", "name", MARKUP),
    with_attribute("worker", "lat", "91"),
    with_attribute("lane", "lag_events", "1e999"),
    with_attribute("lanes", "turns", "100000000"),
    with_attribute("fleet", "nodes", "NaN"),
    with_many_lanes,
    with_another_element,
]


@pytest.mark.stack
async def test_hostile_items_are_counted_and_markup_is_text(xmpp_server: XmppServer) -> None:
    who = await xmpp_server.person("member")
    async with leading(xmpp_server) as leader, watching(xmpp_server, who) as live:
        await leader.publish(fleet_item(SUMMARY, 4))
        await live.shows_fleet()
        for i, spoil in enumerate(HOSTILE, 1):
            await leader.publish(fleet_item(SUMMARY, 4), spoil)
            await leader.publish(fleet_item(replace(SUMMARY, lag_events=i), 4))
            figures = live.page.locator("#figures dl")
            await expect(figures).to_contain_text(f"Not readable{i} item", timeout=30_000)
        title = f"{MARKUP} \u202efo tuo"
        alert = FeedItem(ALERTS, "a1", title, "c", AlertItem(Severity.WARNING, "x"), 4)
        await leader.publish(alert)
        await expect(live.page.get_by_role("log")).to_contain_text(f"{MARKUP}")
        assert await live.page.evaluate("window.hacked") is None
        assert await live.page.locator("#live img").count() == 0
        assert "\u202e" not in await live.page.locator("#news").inner_text()
        assert live.complaints == []


@pytest.mark.stack
async def test_whoever_may_not_read_the_feeds_is_told_so(xmpp_server: XmppServer) -> None:
    who = await xmpp_server.stranger()
    async with watching(xmpp_server, who) as live:
        await expect(live.page.get_by_role("alert").first).to_contain_text("has to invite you")


@pytest.mark.stack
async def test_no_item_counts_that_another_account_sent(xmpp_server: XmppServer) -> None:
    who, other = await xmpp_server.person("member"), await xmpp_server.person("member")
    async with leading(xmpp_server) as leader, watching(xmpp_server, who) as live:
        await leader.publish(fleet_item(SUMMARY, 4))
        await live.shows_fleet()
        login = Login(xmpp_server.settings(other), xmpp_server.jid(other), 15.0, 8.0)
        async with Session(login, Handlers()) as stranger:
            host = xmpp_server.domain
            resources = await xmpp_server.server.api.call("user_resources", user=who, host=host)
            assert isinstance(resources, list)
            reader = f"{who}@{host}/{resources[0]}"
            message = stranger.stream.make_message(reader, mtype="headline")
            event = ET.SubElement(message.xml, f"{{{ns.PUBSUB_EVENT}}}event")
            items = ET.SubElement(event, f"{{{ns.PUBSUB_EVENT}}}items", node=ALERTS)
            item = ET.SubElement(items, f"{{{ns.PUBSUB_EVENT}}}item", id="a9")
            alert = FeedItem(ALERTS, "a9", "all is lost", "c", AlertItem(Severity.CRITICAL, "x"), 4)
            item.append(item_to_entry(alert, datetime.now(UTC)))
            stranger.send(message)
            await stranger.ping(host)  # its answer follows the message
        await leader.publish(FeedItem(ALERTS, "a2", "real", "c", AlertItem(Severity.INFO, "x"), 4))
        log = live.page.get_by_role("log")
        await expect(log).to_contain_text("real")
        await expect(log).not_to_contain_text("all is lost")
