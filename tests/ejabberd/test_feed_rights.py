"""PROTOCOL 4, 'Who may what', 1, against the real service: each right, and each thing that is
nobody's right."""

from __future__ import annotations

import asyncio

import pytest

from ejabberd import feeds
from tests.ejabberd.client import EVENT, create, event_of, items, publish, session, subscribe
from tests.fixtures.xmpp import XmppServer


@pytest.fixture
def service(xmpp_server: XmppServer) -> str:
    return f"pubsub.fleet.{xmpp_server.domain}"


async def test_the_leader_hears_a_worker_with_its_name_stamped_on(
    xmpp_server: XmppServer, service: str
) -> None:
    worker = await xmpp_server.worker()
    feed = f"telemetry/{worker}"
    async with (
        session(xmpp_server, "geolane", "leader", priority=10) as leader,
        session(xmpp_server, worker, priority=-1) as node,
    ):
        await leader.answers()
        await node.iq("set", service, publish(feed))
        heard = await leader.message(event_of(feed))
    assert (heard.get("from"), heard.get("type")) == (service, "headline")
    item = next(heard.iter(f"{EVENT}item"))
    assert item.get("publisher") == f"{xmpp_server.jid(worker)}/etl"


async def test_a_standby_hears_nothing_until_it_leads(
    xmpp_server: XmppServer, service: str
) -> None:
    worker = await xmpp_server.worker("router")
    feed = f"telemetry/{worker}"
    async with (
        session(xmpp_server, "geolane", "standby", priority=-1) as standby,
        session(xmpp_server, worker, priority=-1) as node,
    ):
        async with session(xmpp_server, "geolane", "leader", priority=10) as leader:
            await leader.answers()
            await standby.answers()
            await node.iq("set", service, publish(feed, item="first"))
            await leader.message(event_of(feed))
        await standby.answers()
        async with session(xmpp_server, "geolane", "leader", priority=10) as next_leader:
            await next_leader.answers()
            await node.iq("set", service, publish(feed, item="second"))
            heard = await next_leader.message(event_of(feed))
        await standby.answers()
        while not standby.messages.empty():
            assert not event_of(feed)(standby.messages.get_nowait())
    assert next(heard.iter(f"{EVENT}item")).get("id") == "second"


async def test_a_worker_may_do_nothing_with_anothers_feed(
    xmpp_server: XmppServer, service: str
) -> None:
    worker, other = await xmpp_server.worker(), await xmpp_server.worker()
    feed = f"telemetry/{other}"
    async with session(xmpp_server, worker, priority=-1) as node:
        assert await node.refused("set", service, publish(feed)) == "forbidden"
        assert (
            await node.refused("set", service, subscribe(feed, str(node.raw.boundjid)))
            == "not-allowed"
        )
        assert await node.refused("get", service, items(feed)) == "not-allowed"


@pytest.mark.parametrize("feed", [f.name for f in (*feeds.OPERATOR_FEEDS, feeds.TUNING)])
async def test_only_the_coordinator_publishes(
    xmpp_server: XmppServer, service: str, feed: str
) -> None:
    worker, owner = await xmpp_server.worker(), await xmpp_server.person("owner")
    async with (
        session(xmpp_server, worker, priority=-1) as node,
        session(xmpp_server, owner) as person,
        session(xmpp_server, "geolane", "leader", priority=10) as leader,
    ):
        assert await node.refused("set", service, publish(feed)) == "forbidden"
        assert await person.refused("set", service, publish(feed)) == "forbidden"
        assert await leader.refused("set", service, publish(feed)) == "accepted"


async def test_nobody_but_the_coordinator_makes_feeds(
    xmpp_server: XmppServer, service: str
) -> None:
    worker, owner = await xmpp_server.worker(), await xmpp_server.person("owner")
    async with (
        session(xmpp_server, worker, priority=-1) as node,
        session(xmpp_server, owner) as person,
    ):
        assert await node.refused("set", service, create("telemetry/node-own")) == "forbidden"
        assert await person.refused("set", service, create("mine")) == "forbidden"
        assert (
            await person.refused("set", f"pubsub.{xmpp_server.domain}", create("mine"))
            == "forbidden"
        )


async def test_a_stranger_reads_nothing(xmpp_server: XmppServer, service: str) -> None:
    worker, stranger = await xmpp_server.worker(), await xmpp_server.stranger()
    async with session(xmpp_server, stranger) as client:
        for feed in ("fleet", "placement", "alerts", "tuning", f"telemetry/{worker}"):
            assert (
                await client.refused("set", service, subscribe(feed, str(client.raw.boundjid.bare)))
                == "not-allowed"
            )
            assert await client.refused("get", service, items(feed)) == "not-allowed"


async def test_a_worker_reads_no_operator_feed(xmpp_server: XmppServer, service: str) -> None:
    worker = await xmpp_server.worker()
    async with session(xmpp_server, worker, priority=-1) as node:
        assert (
            await node.refused("set", service, subscribe("fleet", str(node.raw.boundjid)))
            == "not-allowed"
        )


async def test_a_member_gets_the_current_fleet_on_subscribing_then_every_item(
    xmpp_server: XmppServer, service: str
) -> None:
    member = await xmpp_server.person()
    async with (
        session(xmpp_server, "geolane", "leader", priority=10) as leader,
        session(xmpp_server, member) as person,
    ):
        await person.answers()
        await leader.iq("set", service, publish("fleet", "<x xmlns='urn:test' n='1'/>"))
        await person.iq("set", service, subscribe("fleet", xmpp_server.jid(member)))
        first = await person.message(event_of("fleet"))
        await leader.iq("set", service, publish("fleet", "<x xmlns='urn:test' n='2'/>"))
        second = await person.message(event_of("fleet"))
    numbers = [x.get("n") for m in (first, second) for x in m.iter("{urn:test}x")]
    assert numbers == ["1", "2"]


async def test_workers_read_tuning_at_their_full_jid(xmpp_server: XmppServer, service: str) -> None:
    worker = await xmpp_server.worker()
    async with (
        session(xmpp_server, "geolane", "leader", priority=10) as leader,
        session(xmpp_server, worker, priority=-1) as node,
    ):
        await leader.iq("set", service, publish("tuning", "<x xmlns='urn:test' n='1'/>"))
        await node.iq("set", service, subscribe("tuning", str(node.raw.boundjid)))
        fetched = await node.iq("get", service, items("tuning"))
        await leader.iq("set", service, publish("tuning", "<x xmlns='urn:test' n='2'/>"))
        heard = await node.message(lambda m: any(x.get("n") == "2" for x in m.iter("{urn:test}x")))
    assert [x.get("n") for x in fetched.iter("{urn:test}x")] == ["1"]
    assert heard.get("type") == "headline"


async def test_telemetry_is_not_kept(xmpp_server: XmppServer, service: str) -> None:
    worker = await xmpp_server.worker()
    feed = f"telemetry/{worker}"
    async with (
        session(xmpp_server, worker, priority=-1) as node,
        session(xmpp_server, "geolane", "leader", priority=10) as leader,
    ):
        await node.iq("set", service, publish(feed))
        kept = await leader.iq("get", service, items(feed))
    assert list(kept.iter("{http://jabber.org/protocol/pubsub}item")) == []


@pytest.mark.parametrize(
    "feed",
    [*feeds.OPERATOR_FEEDS, feeds.TUNING, feeds.telemetry_feed("node-WORKER")],
    ids=lambda f: f.name,
)
async def test_feeds_are_configured_as_designed(
    xmpp_server: XmppServer, service: str, feed: feeds.Feed
) -> None:
    if feed.name.endswith("WORKER"):
        feed = feeds.telemetry_feed(await xmpp_server.worker())
    ask = f"<pubsub xmlns='{feeds.OWNER}'><configure node='{feed.name}'/></pubsub>"
    async with session(xmpp_server, "geolane", "leader", priority=10) as leader:
        answer = await leader.iq("get", service, ask)
    fields = {
        f.get("var"): f.findtext("{jabber:x:data}value")
        for f in answer.iter("{jabber:x:data}field")
        if f.get("var")
    }
    assert {name: fields.get(name) for name in feed.node_config()} == feed.node_config()


async def test_a_big_telemetry_item_passes(xmpp_server: XmppServer, service: str) -> None:
    worker = await xmpp_server.worker()
    feed = f"telemetry/{worker}"
    lane = (
        "<lane topic='main/events.lanes' n='12' epoch='7' rate_eps='812.5' lag_events='40' "
        "p50_ms='3.1' p99_ms='9.4'/>"
    )
    content = f"<telemetry xmlns='urn:geolane:telemetry:1'>{lane * 1000}</telemetry>"
    async with (
        session(xmpp_server, "geolane", "leader", priority=10) as leader,
        session(xmpp_server, worker, priority=-1) as node,
    ):
        await leader.answers()
        async with asyncio.timeout(10):
            await node.iq("set", service, publish(feed, content))
            heard = await leader.message(event_of(feed))
    assert len(list(heard.iter("{urn:geolane:telemetry:1}lane"))) == 1000
