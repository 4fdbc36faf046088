"""Names that are written on are those that do not expire."""

from __future__ import annotations

from msgspec.structs import replace

from agents.core.geo import cell_names
from agents.core.geo.cell_names import NO_NAME, CellName, CellNames
from tests.core.geo.test_context import NAME, TRAFFIC


def test_a_name_holds_until_it_expires() -> None:
    names = CellNames()
    names.note(NAME)
    assert names.name_of(NAME.cell, NAME.expires_at - 1) == CellName("Dallas", "offline")
    assert names.name_of(NAME.cell, NAME.expires_at) == NO_NAME
    assert names.name_of("842a107ffffffff"[::-1], NAME.fetched_at) == NO_NAME


def test_the_newest_one_counts() -> None:
    names = CellNames()
    names.note(NAME)
    names.note(replace(NAME, name="Irving"))
    assert names.name_of(NAME.cell, NAME.fetched_at).name == "Irving"


def test_what_a_provider_only_lends_is_left_out() -> None:
    names = CellNames()
    names.note(replace(NAME, expires_at=NAME.fetched_at + 300))
    names.note(TRAFFIC)
    names.note(replace(NAME, cell="", lane=3))
    assert names == CellNames()


def test_it_is_bounded() -> None:
    names = CellNames()
    for n in range(cell_names.KEPT + 5):
        names.note(replace(NAME, cell=f"{n:015x}"))
    assert names.name_of(f"{4:015x}", NAME.fetched_at) == NO_NAME
    assert names.name_of(f"{5:015x}", NAME.fetched_at) != NO_NAME
