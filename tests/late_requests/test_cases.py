"""Exactly once whichever request arrives late: a sample of the 144 cases
(docs/chaos-requests.md)."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from agents.kafka import transactions
from tests.fixtures.request_proxy import Api, Do
from tests.late_requests.broker import Setup
from tests.late_requests.cases import MAX_EPOCH, PLACES, Case, cases
from tests.late_requests.run import run
from tests.once import NotOnceError

SEED = 4
_MISCOUNTED = ("missing", "twice", "never sent")
_WORST = {Api.END_TXN: "between two Produce", Api.TXN_OFFSET_COMMIT: "before EndTxn"}
"""Where a copy that is taken tears a transaction, or sets the committed offset back."""


def sample(setup: Setup) -> list[Case]:
    """One of each request and fault, of those that can do harm the worst; for an older cluster half
    of the faults, since there the same rule answers both that go unanswered."""
    rng, everything = random.Random(SEED), cases(SEED, first_epoch=setup.first_epoch)
    picked = {
        (request, do): _WORST.get(request, rng.choice(list(PLACES))) for request in Api for do in Do
    }
    faults = tuple(Do) if setup.transactions >= 2 else (Do.LOSE_ANSWER, Do.RESET)
    return [c for c in everything if picked[c.request, c.do] == c.place and c.do in faults]


@pytest.mark.stack
@pytest.mark.parametrize(
    "setup", [Setup(), Setup(transactions=0, first_epoch=MAX_EPOCH - 2)], ids=str
)
async def test_every_input_once_and_the_offset_at_the_end(setup: Setup) -> None:
    outcomes = await run(setup, sample(setup))
    wrong = [f"{o.case.words}: {'; '.join(o.wrong)}" for o in outcomes if o.wrong]
    if any(what.startswith(_MISCOUNTED) for o in outcomes for what in o.wrong):
        raise NotOnceError(wrong)
    assert wrong == []


@pytest.mark.stack
async def test_a_producer_that_sends_again_under_the_same_epoch_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The ledger sees what the rules of agents/kafka/transactions.py keep out."""

    async def of_old(client: object) -> int:
        return 0

    monkeypatch.setattr(transactions, "_read_transaction_version", of_old)
    monkeypatch.setattr(transactions, "_SENT_ONCE", ())
    chosen = [
        replace(case, loss="", pause_s=0.1)  # the markers are written by then
        for case in cases(SEED)
        if _WORST.get(case.request) == case.place and case.do is Do.RESET
    ]
    torn, back = await run(Setup(), chosen)
    # The offsets are sent beside the first Produce: without them it comes twice, with them the
    # second is missing.
    assert any(wrong.startswith(_MISCOUNTED) for wrong in torn.wrong)
    assert any(wrong.startswith("offset") for wrong in back.wrong)


def test_there_are_144_cases_and_a_third_loses_its_worker() -> None:
    everything = cases(SEED)
    assert len({(c.request, c.do, c.place) for c in everything}) == 144
    assert Counter(c.loss for c in everything) == {"": 96, "killed": 24, "fenced": 24}
    assert cases(SEED) == everything
