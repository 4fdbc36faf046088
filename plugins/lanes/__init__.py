"""Commands to workers: XEP-0050 single-step executes with XEP-0004 forms."""

from plugins.lanes.stanza import (
    COMMAND_TAG,
    NODE_PREFIX,
    answer_of,
    answer_xml,
    command_of,
    command_xml,
    is_ours,
    refusal,
    stale_seen,
)

__all__ = [
    "COMMAND_TAG",
    "NODE_PREFIX",
    "answer_of",
    "answer_xml",
    "command_of",
    "command_xml",
    "is_ours",
    "refusal",
    "stale_seen",
]
