"""Questions to geo workers: XEP-0050 single-step executes with XEP-0004 forms."""

from plugins.forms import COMMAND_TAG
from plugins.geo.stanza import (
    NODE_PREFIX,
    answer_from_result,
    answer_to_xml,
    command_from_iq,
    command_to_xml,
    is_geo_command,
)

__all__ = [
    "COMMAND_TAG",
    "NODE_PREFIX",
    "answer_from_result",
    "answer_to_xml",
    "command_from_iq",
    "command_to_xml",
    "is_geo_command",
]
