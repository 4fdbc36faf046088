"""A record of the topic `geo.context`: a name or a traffic index, with its provider, and until when
it may be used. Readers distrust each record: `decode_record` refuses whatever a geo worker cannot
have written."""

from __future__ import annotations

from enum import StrEnum

import msgspec
from h3.api import basic_str

from agents.core.model.geo import (
    ATTRIBUTION_LIMIT,
    INDEX,
    NAME_LIMIT,
    PROVIDER_LIMIT,
    VALID_S,
    lane_key,
)

LATEST_S = 253_402_300_799.0  # the end of the year 9999


class ContextKind(StrEnum):
    TRAFFIC = "traffic"
    NAME = "name"


class GeoContext(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One record. `provider`, `attribution`: as in core/model/geo.py. `fetched_at`, `expires_at`:
    epoch s, by the geo worker's clock. `lane`: of a lane; `cell`: hex H3 index of a cell; a record
    has one of the two. `index`: of a record of kind TRAFFIC; `name`: of one of kind NAME."""

    kind: ContextKind
    provider: str
    fetched_at: float
    expires_at: float
    attribution: str = ""
    lane: int | None = None
    cell: str = ""
    index: float | None = None
    name: str = ""

    @property
    def key(self) -> str:
        """The record's key: `lane-12`, or the cell."""
        return lane_key(self.lane) if self.lane is not None else self.cell

    def encode(self) -> bytes:
        return msgspec.json.encode(self)


def decode_record(key: bytes | None, value: bytes | None) -> GeoContext:
    """The value of a record. Raises ValueError, which says what is wrong."""
    if value is None:
        raise ValueError("it has no value")
    try:
        found = msgspec.json.decode(value, type=GeoContext)
    except (msgspec.DecodeError, RecursionError) as e:
        raise ValueError(f"it is not a record of geo.context: {e}"[:200]) from e
    if (found.lane is None) == (not found.cell) or key != found.key.encode():
        raise ValueError("its key does not name its lane or its cell")
    if found.lane is not None and not 0 <= found.lane < 1_000_000:
        raise ValueError("its lane is impossible")
    if found.cell and not basic_str.is_valid_cell(found.cell):
        raise ValueError(f"{found.cell[:40]!r} is not an H3 cell")
    if not (
        0 < found.fetched_at <= found.expires_at <= LATEST_S
        and found.expires_at - found.fetched_at <= VALID_S[1] + 1
    ):
        raise ValueError("its times are impossible")
    if not 0 < len(found.provider) <= PROVIDER_LIMIT or len(found.attribution) > ATTRIBUTION_LIMIT:
        raise ValueError("its provider or its attribution is missing, or too long")
    if not all(x.isprintable() for x in (found.provider, found.attribution, found.name)):
        raise ValueError("its provider, attribution or name has a character that is not shown")
    if found.kind is ContextKind.TRAFFIC:
        if found.index is None or not INDEX[0] <= found.index <= INDEX[1]:
            raise ValueError(f"its index is not between {INDEX[0]:g} and {INDEX[1]:g}")
    elif not 0 < len(found.name) <= NAME_LIMIT:
        raise ValueError("its name is missing, or too long")
    return found
