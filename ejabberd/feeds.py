"""The feeds (PubSub nodes, XEP-0060) that provisioning makes, and the stanzas that make them; pure.

The rights are those of PROTOCOL 4, 'Who may what', 1: `geolane` owns every feed, access is by
whitelist, and a worker is publish-only on its own feed.

The coordinator is subscribed to telemetry by its *bare* JID. A headline to a bare JID reaches every
session with a priority of 0 or more (RFC 6121, 8.5.2.1.1), so the leader (priority 10) gets it and
standbys (-1) do not. The subscription belongs to the account, so it survives a change of leader and
a restart of the server. Items that are published while there is no leader are lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import quoteattr

from agents.core.model import feeds

PUBSUB = "http://jabber.org/protocol/pubsub"
OWNER = f"{PUBSUB}#owner"
MAX_PAYLOAD_BYTES = 200_000  # telemetry of 1,000 lanes; below the stanza limit of ejabberd.yml

FeedAffiliation = Literal["owner", "publisher", "publish-only", "member", "none", "outcast"]


@dataclass(frozen=True, slots=True)
class Feed:
    """`keeps`: how many items the service stores (0: it only passes them on). `greets`: a new
    subscriber gets the last item."""

    name: str
    keeps: int
    greets: bool = False

    def node_config(self) -> dict[str, str]:
        """The node configuration (XEP-0060, 16.4.4)."""
        return {
            "pubsub#access_model": "whitelist",
            "pubsub#publish_model": "publishers",
            "pubsub#itemreply": "publisher",
            "pubsub#notification_type": "headline",
            "pubsub#persist_items": "1" if self.keeps else "0",
            "pubsub#max_items": str(max(self.keeps, 1)),
            "pubsub#send_last_published_item": "on_sub" if self.greets else "never",
            "pubsub#max_payload_size": str(MAX_PAYLOAD_BYTES),
            "pubsub#deliver_payloads": "1",
            "pubsub#notify_config": "0",
            "pubsub#notify_delete": "0",
            "pubsub#notify_retract": "0",
        }


FLEET, TUNING = Feed("fleet", keeps=1, greets=True), Feed("tuning", keeps=1, greets=True)
OPERATOR_FEEDS = tuple(
    FLEET if name == FLEET.name else Feed(name, keeps=100) for name in feeds.OPERATOR_FEEDS
)


def telemetry_feed(worker: str) -> Feed:
    """The feed of the worker with the account `worker`: `telemetry/node-iad-1`."""
    return Feed(f"telemetry/{worker}", keeps=0)


def _make_form(kind: str, fields: Mapping[str, str]) -> str:
    rows = "".join(
        f"<field var={quoteattr(k)}><value>{v}</value></field>" for k, v in fields.items()
    )
    return (
        '<x xmlns="jabber:x:data" type="submit"><field var="FORM_TYPE" '
        f'type="hidden"><value>{kind}</value></field>'
        f"{rows}</x>"
    )


def _make_iq(namespace: str, content: str, name: str) -> str:
    return (
        f'<iq xmlns="jabber:client" type="set" id={quoteattr(name)}><pubsub '
        f'xmlns="{namespace}">{content}</pubsub></iq>'
    )


def make_create_request(feed: Feed) -> str:
    """Make the feed. The answer is `conflict` if it exists."""
    form = _make_form(f"{PUBSUB}#node_config", feed.node_config())
    return _make_iq(
        PUBSUB,
        f"<create node={quoteattr(feed.name)}/><configure>{form}</configure>",
        f"make {feed.name}",
    )


def make_configure_request(feed: Feed) -> str:
    """Give an existing feed this configuration."""
    form = _make_form(f"{PUBSUB}#node_config", feed.node_config())
    return _make_iq(
        OWNER,
        f"<configure node={quoteattr(feed.name)}>{form}</configure>",
        f"configure {feed.name}",
    )


def make_delete_request(feed: str) -> str:
    """Delete the feed with all its items. The answer is `item-not-found` if it does not exist."""
    return _make_iq(OWNER, f"<delete node={quoteattr(feed)}/>", f"delete {feed}")


def make_affiliate_request(feed: str, affiliations: Iterable[tuple[str, FeedAffiliation]]) -> str:
    """Set the affiliations of these bare JIDs; others keep theirs."""
    rows = "".join(
        f'<affiliation jid={quoteattr(jid)} affiliation="{a}"/>' for jid, a in affiliations
    )
    return _make_iq(
        OWNER, f"<affiliations node={quoteattr(feed)}>{rows}</affiliations>", f"affiliate {feed}"
    )


def make_subscribe_request(feed: str, jid: str) -> str:
    """Subscribe `jid`, as the owner. Idempotent."""
    row = f'<subscription jid={quoteattr(jid)} subscription="subscribed"/>'
    return _make_iq(
        OWNER, f"<subscriptions node={quoteattr(feed)}>{row}</subscriptions>", f"subscribe {feed}"
    )
