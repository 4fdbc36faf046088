"""Operator feeds: Atom entries with a typed element inside, and the PubSub (XEP-0060) requests for
feeds."""

from plugins.feeds.atom import (
    append_moves,
    item_from_entry,
    item_to_entry,
    moves_from_xml,
    updated_s_from_entry,
)
from plugins.feeds.stanza import (
    Published,
    affiliations_from_result,
    feed_from_notification,
    items_from_notification,
    items_from_result,
    make_affiliations_change,
    make_affiliations_request,
    make_last_item_request,
    make_own_affiliations_request,
    make_own_subscriptions_request,
    make_publish_request,
    make_subscribe_request,
    make_subscribers_request,
    make_subscriptions_removal,
    own_affiliations_from_result,
    own_subscriptions_from_result,
    subscribers_from_result,
)

__all__ = [
    "Published",
    "affiliations_from_result",
    "append_moves",
    "feed_from_notification",
    "item_from_entry",
    "item_to_entry",
    "items_from_notification",
    "items_from_result",
    "make_affiliations_change",
    "make_affiliations_request",
    "make_last_item_request",
    "make_own_affiliations_request",
    "make_own_subscriptions_request",
    "make_publish_request",
    "make_subscribe_request",
    "make_subscribers_request",
    "make_subscriptions_removal",
    "moves_from_xml",
    "own_affiliations_from_result",
    "own_subscriptions_from_result",
    "subscribers_from_result",
    "updated_s_from_entry",
]
