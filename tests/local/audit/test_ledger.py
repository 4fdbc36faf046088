"""What counts once, what counts twice, and that memory has a bound."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.local.audit.ledger import BLOCK, OPEN_BLOCKS, Ledger

RAW = "events.raw/0"


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    ledger.begin_partition(RAW, 0)
    return ledger


@given(
    st.lists(st.tuples(st.sampled_from(["clean", "dead"]), st.integers(0, 3 * BLOCK)), max_size=200)
)
def test_each_source_counts_once_and_every_other_time_is_a_duplicate(
    records: list[tuple[str, int]],
) -> None:
    ledger = Ledger()
    ledger.begin_partition(RAW, 0)
    first: dict[int, str] = {}
    for outcome, offset in records:
        assert ledger.add_source(outcome, f"{RAW}/{offset}") is (offset not in first)
        first.setdefault(offset, outcome)
    assert ledger.duplicates == len(records) - len(first)
    assert ledger.counts == Counter(first.values())


def test_several_records_of_one_source_count_when_all_are_there(ledger: Ledger) -> None:
    assert ledger.add_source("clean", f"{RAW}/7", "0/3")
    assert ledger.add_source("clean", f"{RAW}/7", "2/3")
    assert not ledger.counts
    assert ledger.add_source("clean", f"{RAW}/7", "1/3")
    assert ledger.counts["clean"] == 1
    assert not ledger.add_source("clean", f"{RAW}/7", "1/3")
    assert not ledger.add_source("clean", f"{RAW}/7")
    assert ledger.duplicates == 2


def test_a_part_that_comes_twice_before_the_others_is_a_duplicate(ledger: Ledger) -> None:
    assert ledger.add_source("clean", f"{RAW}/7", "0/2")
    assert not ledger.add_source("clean", f"{RAW}/7", "0/2")
    assert ledger.duplicates == 1


def test_what_went_in_before_the_count_began_is_passed_over() -> None:
    ledger = Ledger()
    ledger.begin_partition(RAW, 100)
    assert not ledger.add_source("clean", f"{RAW}/99")
    assert ledger.add_source("clean", f"{RAW}/100")
    assert (ledger.duplicates, ledger.strangers) == (0, 0)


def test_a_record_without_a_source_is_a_stranger(ledger: Ledger) -> None:
    for src in ("", "events.raw/0/x", "other/0/1"):
        assert not ledger.add_source("clean", src)
    assert ledger.strangers == 3


def test_a_full_block_is_let_go_and_still_knows_its_duplicates(ledger: Ledger) -> None:
    for offset in range(BLOCK):
        ledger.add_source("clean", f"{RAW}/{offset}")
    assert ledger.open_blocks == 0
    assert not ledger.add_source("clean", f"{RAW}/17")
    assert (ledger.counts["clean"], ledger.duplicates) == (BLOCK, 1)


def test_memory_has_a_bound_whatever_never_arrives(ledger: Ledger) -> None:
    for block in range(3 * OPEN_BLOCKS):
        ledger.add_source("clean", f"{RAW}/{block * BLOCK + 5}")
    assert ledger.open_blocks <= OPEN_BLOCKS
    ledger.add_source("clean", f"{RAW}/6")
    assert ledger.late == 1
