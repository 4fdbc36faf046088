"""A record of the topic `hotspots`, checked: whatever is not a hotspot that an engine can write is
refused, so that nothing behind this has to distrust a figure."""

from __future__ import annotations

import re

import msgspec
from h3.api import basic_str

from agents.core.model.geo import NAME_LIMIT, PROVIDER_LIMIT
from agents.core.model.hotspots import Hotspot

MOST_EPS = 1e9
MOST_AREAS = 7
LAST_S = 253_402_300_799  # the end of the year 9999
MOST_QUIET_S = 86_400
_ID = re.compile(r"[0-9a-f]{15}-\d{1,12}", re.ASCII)


def decode_record(key: bytes | None, value: bytes | None) -> Hotspot:
    """The hotspot in a record, whose key is its id. Raises ValueError, which says what is wrong."""
    if value is None:
        raise ValueError("it has no value")
    try:
        found = Hotspot.decode(value)
    except (msgspec.DecodeError, RecursionError) as e:
        raise ValueError(f"it is not a hotspot: {e}"[:200]) from e
    if not _ID.fullmatch(found.id) or key != found.id.encode():
        raise ValueError("its key is not the id of a hotspot, or not this one's")
    if found.eps > MOST_EPS or found.usual_eps > MOST_EPS:
        raise ValueError(f"more than {MOST_EPS:,.0f} events/s is impossible")
    if not (max(found.last_s, found.ended_s) <= LAST_S and 0 <= found.quiet_s <= MOST_QUIET_S):
        raise ValueError("its times are impossible")
    if len(found.areas) > MOST_AREAS:
        raise ValueError(f"it covers more than {MOST_AREAS} areas")
    if len(found.name) > NAME_LIMIT or len(found.named_by) > PROVIDER_LIMIT:
        raise ValueError("its name is too long")
    for cell in (found.peak, *found.areas, *found.cells):
        if not basic_str.is_valid_cell(cell):
            raise ValueError(f"{cell[:40]!r} is not an H3 cell")
    return found
