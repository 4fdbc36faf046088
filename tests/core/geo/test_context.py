"""A record of geo.context survives, and whatever a geo worker cannot have written is refused."""

from __future__ import annotations

import msgspec
import pytest

from agents.core.geo.context import ContextKind, GeoContext, decode_record

TRAFFIC = GeoContext(
    kind=ContextKind.TRAFFIC,
    lane=12,
    index=1.4,
    provider="apple",
    attribution="Apple Maps",
    fetched_at=1_795_000_000.0,
    expires_at=1_795_000_300.0,
)
NAME = GeoContext(
    kind=ContextKind.NAME,
    cell="842a107ffffffff",
    name="Dallas",
    provider="offline",
    fetched_at=1_795_000_000.0,
    expires_at=1_795_086_400.0,
)


@pytest.mark.parametrize("record", [TRAFFIC, NAME], ids=["traffic", "name"])
def test_a_record_survives(record: GeoContext) -> None:
    assert decode_record(record.key.encode(), record.encode()) == record
    assert b"null" not in record.encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"index": None},
        {"index": 0.0},
        {"index": 17.0},
        {"index": "1.4"},
        {"lane": -1},
        {"lane": None},
        {"cell": "842a107ffffffff"},
        {"provider": ""},
        {"provider": "ap\nple"},
        {"attribution": "\u202eelppA"},
        {"attribution": "a" * 10_000},
        {"fetched_at": 0.0},
        {"expires_at": 1_794_999_999.0},
        {"expires_at": 1_796_000_000.0},
        {"expires_at": None},
        {"kind": "fortune"},
        {"kind": "name"},
    ],
    ids=str,
)
def test_an_impossible_record_is_refused(changes: dict[str, object]) -> None:
    value = msgspec.json.encode(msgspec.to_builtins(TRAFFIC) | changes)
    with pytest.raises(ValueError, match=r"."):
        decode_record(b"lane-12", value)


def test_a_cell_must_be_one() -> None:
    value = msgspec.json.encode(msgspec.to_builtins(NAME) | {"cell": "Robert'); DROP TABLE"})
    with pytest.raises(ValueError, match="not an H3 cell"):
        decode_record(b"Robert'); DROP TABLE", value)


@pytest.mark.parametrize("value", [None, b"", b"null", b"[]", b"{}", b"\xff", b"[" * 10_000])
def test_whatever_is_not_a_record_is_refused(value: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_record(b"lane-12", value)


def test_the_key_must_be_its_own() -> None:
    with pytest.raises(ValueError, match="key"):
        decode_record(b"lane-13", TRAFFIC.encode())
