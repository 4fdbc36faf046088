"""Only what an engine can write counts as a hotspot."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core.hotspots.records import decode_record
from agents.core.model.hotspots import Hotspot, HotspotState

AREA = "8326cbfffffffff"
GOOD = Hotspot(f"{AREA}-1000", HotspotState.OPEN, 900, 1000, 1000, (AREA,), AREA, 14.2, 2.1, 120)


def changed(**fields: object) -> bytes:
    return msgspec.json.encode(msgspec.to_builtins(GOOD) | fields)


def test_what_an_engine_writes_is_read_as_it_was() -> None:
    assert decode_record(GOOD.id.encode(), GOOD.encode()) == GOOD
    assert decode_record(GOOD.id.encode(), changed(quiet_s=0)).quiet_s == 0


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff\xfe",
        b"{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        changed(id=""),
        changed(id="a\nb-1"),
        changed(eps=2e9),
        changed(eps="much"),
        changed(usual_eps=-1.0),
        changed(usual_eps=1e300),
        changed(quiet_s=-1),
        changed(quiet_s=10**6),
        changed(last_s=10**15),
        changed(ended_s=10**15),
        changed(last_s=10**30),
        changed(started_s=2000),
        changed(peak="nowhere"),
        changed(areas=[]),
        changed(areas=["zz"]),
        changed(areas=[AREA] * 8),
        changed(cells=[AREA] * 51),
        changed(cells=["842b9bdffffffff", "é"]),
        changed(state="burning"),
    ],
)
def test_anything_else_is_refused(value: bytes | None) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any text
        decode_record(GOOD.id.encode(), value)


def test_what_is_no_cell_is_quoted_in_40_characters() -> None:
    with pytest.raises(ValueError, match=rf"^'{'z' * 40}' is not an H3 cell$"):
        decode_record(GOOD.id.encode(), changed(peak="z" * 99))


def test_another_key_is_refused() -> None:
    for key in (None, b"", b"8326cbfffffffff-1001"):
        with pytest.raises(ValueError, match="key"):
            decode_record(key, GOOD.encode())


@given(st.binary(max_size=60), st.binary(max_size=200))
def test_rubbish_is_refused_and_nothing_else_happens(key: bytes, value: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any text
        decode_record(key, value)
