"""The ops room (XEP-0045): the content of its messages and presences, and the stanzas that we send
there."""

from plugins.room.stanza import (
    Changed,
    HeardMessage,
    Occupant,
    affiliation_lists_request,
    affiliations_of,
    changed_in,
    correction,
    heard,
    is_history,
    join_presence,
    occupant,
)

__all__ = [
    "Changed",
    "HeardMessage",
    "Occupant",
    "affiliation_lists_request",
    "affiliations_of",
    "changed_in",
    "correction",
    "heard",
    "is_history",
    "join_presence",
    "occupant",
]
