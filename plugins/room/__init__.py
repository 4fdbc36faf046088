"""The ops room (XEP-0045): the content of its messages and presences, and the stanzas that we send
there."""

from plugins.room.stanza import (
    Changed,
    HeardMessage,
    Occupant,
    affiliation_changes_in,
    affiliations_from_list,
    fill_join_presence,
    is_history,
    make_affiliation_list_request,
    mark_correction,
    mark_reply,
    message_from_stanza,
    occupant_from_presence,
    reaction_from_stanza,
    stanza_id_from_message,
)

__all__ = [
    "Changed",
    "HeardMessage",
    "Occupant",
    "affiliation_changes_in",
    "affiliations_from_list",
    "fill_join_presence",
    "is_history",
    "make_affiliation_list_request",
    "mark_correction",
    "mark_reply",
    "message_from_stanza",
    "occupant_from_presence",
    "reaction_from_stanza",
    "stanza_id_from_message",
]
