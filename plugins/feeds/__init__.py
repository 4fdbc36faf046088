"""Operator feeds: Atom entries with a typed element inside, and the PubSub (XEP-0060) requests for
feeds."""

from plugins.feeds.atom import entry_of, entry_xml, updated_of
from plugins.feeds.stanza import (
    Published,
    affiliations_of,
    affiliations_request,
    change_affiliations,
    drop_subscriptions,
    feed_of,
    last_item_request,
    own_affiliations_of,
    own_affiliations_request,
    own_subscriptions_of,
    own_subscriptions_request,
    publish_request,
    published_in,
    published_of_result,
    subscribe_request,
    subscribers_of,
    subscribers_request,
)

__all__ = [
    "Published",
    "affiliations_of",
    "affiliations_request",
    "change_affiliations",
    "drop_subscriptions",
    "entry_of",
    "entry_xml",
    "feed_of",
    "last_item_request",
    "own_affiliations_of",
    "own_affiliations_request",
    "own_subscriptions_of",
    "own_subscriptions_request",
    "publish_request",
    "published_in",
    "published_of_result",
    "subscribe_request",
    "subscribers_of",
    "subscribers_request",
    "updated_of",
]
