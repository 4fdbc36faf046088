"""Operator commands on the leader: XEP-0050 dialogs with XEP-0004 forms, and the list of commands
that each person is offered (XEP-0030)."""

from plugins.commands.stanza import (
    NODE_PREFIX,
    answer_to,
    asked_of,
    asks_for_list,
    is_items_request,
    items_request,
    listing_of,
    refusal_of,
    reply_of,
    step_xml,
)

__all__ = [
    "NODE_PREFIX",
    "answer_to",
    "asked_of",
    "asks_for_list",
    "is_items_request",
    "items_request",
    "listing_of",
    "refusal_of",
    "reply_of",
    "step_xml",
]
