"""PubSub (XEP-0060) requests and notifications; a notification counts only if the service itself
sent it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from slixmpp.stanza import Iq, Message

from plugins import namespaces as ns

_P, _O, _E = f"{{{ns.PUBSUB}}}", f"{{{ns.PUBSUB_OWNER}}}", f"{{{ns.PUBSUB_EVENT}}}"


@dataclass(frozen=True, slots=True)
class Published:
    """One item as the service delivered it. `publisher` is the JID that the service stamped on it,
    empty if none; `kept`: we asked for what it had from before."""

    feed: str
    item_id: str
    publisher: str
    payload: ET.Element
    kept: bool = False


# ---- notifications ----


def _items(items: ET.Element, item_tag: str, *, kept: bool = False) -> list[Published]:
    return [
        Published(
            items.get("node", ""), item.get("id", ""), item.get("publisher", ""), item[0], kept
        )
        for item in items.iterfind(item_tag)
        if len(item) == 1
    ]


def feed_of(stanza: ET.Element) -> str:
    """The feed that a notification is of, whoever sent it; empty for what is none."""
    items = stanza.find(f"{_E}event/{_E}items")
    return "" if items is None else items.get("node", "")


def published_in(message: Message, service: str) -> list[Published]:
    """The items in a notification from `service`; none if anyone else sent it, or if it says
    something else.

    ::

        <message from='pubsub.fleet.example.org' type='headline'><event xmlns='http://jabber.org/protocol/pubsub#event'>
          <items node='telemetry/node-fra-1'>
           <item id='current' publisher='node-fra-1@fleet.example.org/etl'>
             <telemetry xmlns='...'/></item>
          </items></event></message>
    """
    if message.xml.get("from") != service or message.xml.get("type") == "error":
        return []
    items = message.xml.find(f"{_E}event/{_E}items")
    return [] if items is None else _items(items, f"{_E}item")


def published_of_result(iq: Iq) -> list[Published]:
    """The items in the result of `last_item_request`."""
    items = iq.xml.find(f"{_P}pubsub/{_P}items")
    return [] if items is None else _items(items, f"{_P}item", kept=True)


# ---- requests ----


def _request(iq: Iq, kind: str, service: str, namespace: str) -> ET.Element:
    iq["type"] = kind
    iq["to"] = service
    root = ET.Element(f"{{{namespace}}}pubsub")
    iq.xml.append(root)
    return root


def publish_request(iq: Iq, service: str, feed: str, item_id: str, payload: ET.Element) -> Iq:
    """Publish one item."""
    publish = ET.SubElement(_request(iq, "set", service, ns.PUBSUB), f"{_P}publish", node=feed)
    ET.SubElement(publish, f"{_P}item", id=item_id).append(payload)
    return iq


def subscribe_request(iq: Iq, service: str, feed: str, jid: str, *, undo: bool = False) -> Iq:
    """Subscribe (or, `undo`, unsubscribe) `jid`."""
    name = "unsubscribe" if undo else "subscribe"
    ET.SubElement(_request(iq, "set", service, ns.PUBSUB), f"{_P}{name}", node=feed, jid=jid)
    return iq


def last_item_request(iq: Iq, service: str, feed: str, most: int = 1) -> Iq:
    """Ask for the newest item, or so many of the newest."""
    ET.SubElement(
        _request(iq, "get", service, ns.PUBSUB), f"{_P}items", node=feed, max_items=str(most)
    )
    return iq


def own_subscriptions_request(iq: Iq, service: str) -> Iq:
    """Ask to which feeds we are subscribed."""
    ET.SubElement(_request(iq, "get", service, ns.PUBSUB), f"{_P}subscriptions")
    return iq


def own_subscriptions_of(iq: Iq) -> set[tuple[str, str]]:
    """(feed, subscribed JID) in the result of `own_subscriptions_request`."""
    found = iq.xml.iterfind(f"{_P}pubsub/{_P}subscriptions/{_P}subscription")
    return {
        (x.get("node", ""), x.get("jid", ""))
        for x in found
        if x.get("subscription") == "subscribed"
    }


def own_affiliations_request(iq: Iq, service: str) -> Iq:
    """Ask what we are on which feed."""
    ET.SubElement(_request(iq, "get", service, ns.PUBSUB), f"{_P}affiliations")
    return iq


def own_affiliations_of(iq: Iq) -> dict[str, str]:
    """Feed -> affiliation in the result of `own_affiliations_request`."""
    found = iq.xml.iterfind(f"{_P}pubsub/{_P}affiliations/{_P}affiliation")
    return {x.get("node", ""): x.get("affiliation", "") for x in found}


def affiliations_request(iq: Iq, service: str, feed: str) -> Iq:
    """Ask, as owner, who is what on `feed`."""
    ET.SubElement(_request(iq, "get", service, ns.PUBSUB_OWNER), f"{_O}affiliations", node=feed)
    return iq


def affiliations_of(iq: Iq) -> dict[str, str]:
    """Bare JID -> affiliation in the result of `affiliations_request`."""
    found = iq.xml.iterfind(f"{_O}pubsub/{_O}affiliations/{_O}affiliation")
    return {x.get("jid", ""): x.get("affiliation", "") for x in found}


def change_affiliations(iq: Iq, service: str, feed: str, changes: Mapping[str, str]) -> Iq:
    """Set, as owner, what each bare JID is on `feed`; `none` takes everything away."""
    root = ET.SubElement(
        _request(iq, "set", service, ns.PUBSUB_OWNER), f"{_O}affiliations", node=feed
    )
    for jid, affiliation in changes.items():
        ET.SubElement(root, f"{_O}affiliation", jid=jid, affiliation=affiliation)
    return iq


def subscribers_request(iq: Iq, service: str, feed: str) -> Iq:
    """Ask, as owner, who is subscribed to `feed`."""
    ET.SubElement(_request(iq, "get", service, ns.PUBSUB_OWNER), f"{_O}subscriptions", node=feed)
    return iq


def subscribers_of(iq: Iq) -> list[str]:
    """The JIDs (bare or full) in the result of `subscribers_request`."""
    found = iq.xml.iterfind(f"{_O}pubsub/{_O}subscriptions/{_O}subscription")
    return [x.get("jid", "") for x in found if x.get("subscription") != "none"]


def drop_subscriptions(iq: Iq, service: str, feed: str, jids: Iterable[str]) -> Iq:
    """End, as owner, the subscriptions of `jids` exactly as they stand in the list (PROTOCOL 4, who
    may what 2)."""
    root = ET.SubElement(
        _request(iq, "set", service, ns.PUBSUB_OWNER), f"{_O}subscriptions", node=feed
    )
    for jid in jids:
        ET.SubElement(root, f"{_O}subscription", jid=jid, subscription="none")
    return iq
