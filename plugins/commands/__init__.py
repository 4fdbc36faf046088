"""Operator commands on the leader: XEP-0050 dialogs with XEP-0004 forms, and the list of commands
that each person is offered (XEP-0030)."""

from plugins.commands.stanza import (
    NODE_PREFIX,
    command_step_from_iq,
    command_step_to_xml,
    is_items_request,
    is_list_request,
    listing_from_result,
    make_answer,
    make_items_request,
    refusal_from_error,
    reply_from_result,
)

__all__ = [
    "NODE_PREFIX",
    "command_step_from_iq",
    "command_step_to_xml",
    "is_items_request",
    "is_list_request",
    "listing_from_result",
    "make_answer",
    "make_items_request",
    "refusal_from_error",
    "reply_from_result",
]
