"""PubSub (XEP-0060) requests and notifications. A notification counts only if the service itself
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
    """One item as the service delivered it. `publisher`: the JID that the service stamped on it,
    empty if none. `kept`: an older item that we asked for."""

    feed: str
    item_id: str
    publisher: str
    payload: ET.Element
    kept: bool = False


# Notifications.


def _published_from_items(
    items: ET.Element, item_tag: str, *, kept: bool = False
) -> list[Published]:
    return [
        Published(
            items.get("node", ""), item.get("id", ""), item.get("publisher", ""), item[0], kept
        )
        for item in items.iterfind(item_tag)
        if len(item) == 1
    ]


def feed_from_notification(stanza: ET.Element) -> str:
    """The feed of a notification, whichever sender it has; empty if this is not a notification."""
    items = stanza.find(f"{_E}event/{_E}items")
    return "" if items is None else items.get("node", "")


def items_from_notification(message: Message, service: str) -> list[Published]:
    """The items in a notification from `service`; none if anyone else sent it, or if it is not a
    notification of items.

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
    return [] if items is None else _published_from_items(items, f"{_E}item")


def items_from_result(iq: Iq) -> list[Published]:
    """The items in the result of `make_last_item_request`."""
    items = iq.xml.find(f"{_P}pubsub/{_P}items")
    return [] if items is None else _published_from_items(items, f"{_P}item", kept=True)


# Requests.


def _append_pubsub(iq: Iq, kind: str, service: str, namespace: str) -> ET.Element:
    iq["type"] = kind
    iq["to"] = service
    root = ET.Element(f"{{{namespace}}}pubsub")
    iq.xml.append(root)
    return root


def make_publish_request(iq: Iq, service: str, feed: str, item_id: str, payload: ET.Element) -> Iq:
    """Publish one item."""
    publish = ET.SubElement(
        _append_pubsub(iq, "set", service, ns.PUBSUB), f"{_P}publish", node=feed
    )
    ET.SubElement(publish, f"{_P}item", id=item_id).append(payload)
    return iq


def make_subscribe_request(iq: Iq, service: str, feed: str, jid: str, *, undo: bool = False) -> Iq:
    """Subscribe (or with `undo` unsubscribe) `jid`."""
    name = "unsubscribe" if undo else "subscribe"
    ET.SubElement(_append_pubsub(iq, "set", service, ns.PUBSUB), f"{_P}{name}", node=feed, jid=jid)
    return iq


def make_last_item_request(iq: Iq, service: str, feed: str, most: int = 1) -> Iq:
    """Ask for the newest item, or for the `most` newest."""
    ET.SubElement(
        _append_pubsub(iq, "get", service, ns.PUBSUB), f"{_P}items", node=feed, max_items=str(most)
    )
    return iq


def make_own_subscriptions_request(iq: Iq, service: str) -> Iq:
    """Ask to which feeds we are subscribed."""
    ET.SubElement(_append_pubsub(iq, "get", service, ns.PUBSUB), f"{_P}subscriptions")
    return iq


def own_subscriptions_from_result(iq: Iq) -> set[tuple[str, str]]:
    """(feed, subscribed JID) in the result of `make_own_subscriptions_request`."""
    found = iq.xml.iterfind(f"{_P}pubsub/{_P}subscriptions/{_P}subscription")
    return {
        (x.get("node", ""), x.get("jid", ""))
        for x in found
        if x.get("subscription") == "subscribed"
    }


def make_own_affiliations_request(iq: Iq, service: str) -> Iq:
    """Ask for our affiliations with all feeds."""
    ET.SubElement(_append_pubsub(iq, "get", service, ns.PUBSUB), f"{_P}affiliations")
    return iq


def own_affiliations_from_result(iq: Iq) -> dict[str, str]:
    """Feed -> affiliation in the result of `make_own_affiliations_request`."""
    found = iq.xml.iterfind(f"{_P}pubsub/{_P}affiliations/{_P}affiliation")
    return {x.get("node", ""): x.get("affiliation", "") for x in found}


def make_affiliations_request(iq: Iq, service: str, feed: str) -> Iq:
    """Ask, as owner, for all affiliations with `feed`."""
    ET.SubElement(
        _append_pubsub(iq, "get", service, ns.PUBSUB_OWNER), f"{_O}affiliations", node=feed
    )
    return iq


def affiliations_from_result(iq: Iq) -> dict[str, str]:
    """Bare JID -> affiliation in the result of `make_affiliations_request`."""
    found = iq.xml.iterfind(f"{_O}pubsub/{_O}affiliations/{_O}affiliation")
    return {x.get("jid", ""): x.get("affiliation", "") for x in found}


def make_affiliations_change(iq: Iq, service: str, feed: str, changes: Mapping[str, str]) -> Iq:
    """Set, as owner, the affiliation of each bare JID with `feed`; `none` removes all its
    rights."""
    root = ET.SubElement(
        _append_pubsub(iq, "set", service, ns.PUBSUB_OWNER), f"{_O}affiliations", node=feed
    )
    for jid, affiliation in changes.items():
        ET.SubElement(root, f"{_O}affiliation", jid=jid, affiliation=affiliation)
    return iq


def make_subscribers_request(iq: Iq, service: str, feed: str) -> Iq:
    """Ask, as owner, for the subscribers of `feed`."""
    ET.SubElement(
        _append_pubsub(iq, "get", service, ns.PUBSUB_OWNER), f"{_O}subscriptions", node=feed
    )
    return iq


def subscribers_from_result(iq: Iq) -> list[str]:
    """The JIDs (bare or full) in the result of `make_subscribers_request`."""
    found = iq.xml.iterfind(f"{_O}pubsub/{_O}subscriptions/{_O}subscription")
    return [x.get("jid", "") for x in found if x.get("subscription") != "none"]


def make_subscriptions_removal(iq: Iq, service: str, feed: str, jids: Iterable[str]) -> Iq:
    """End, as owner, the subscriptions of `jids`, exactly as they are in the list (PROTOCOL 4, who
    may what 2)."""
    root = ET.SubElement(
        _append_pubsub(iq, "set", service, ns.PUBSUB_OWNER), f"{_O}subscriptions", node=feed
    )
    for jid in jids:
        ET.SubElement(root, f"{_O}subscription", jid=jid, subscription="none")
    return iq
