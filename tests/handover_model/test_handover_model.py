"""The protocol as a model: nothing is violated at small bounds, rules taken out break it, and the
core speaks its language."""

from __future__ import annotations

import pytest

from agents.core.fleet import reconcile
from agents.core.fleet.handover import LEASE, PARTITION, LeaseStep, Step
from agents.core.lanes import tenure
from tests.handover_model.check import BREAKS, MODEL, SMALL, check, missing

QUICK = [
    "FENCE",
    "FENCE_FIRST",
    "OWN_INIT",
    "START",
    "NEW_BOOT",
    "SENT",
    "SEEK",
    "UNKNOWN",
    "BACK_SHOWN",
]


@pytest.fixture(scope="module", autouse=True)
def spin() -> None:
    if lacking := missing():
        pytest.skip(lacking)


@pytest.mark.parametrize("bounds", SMALL)
def test_nothing_is_violated_with_all_rules(bounds: str) -> None:
    found = check(bounds.split(), limit_s=150)
    assert found.violated == "", "\n".join(found.story)
    assert found.complete
    assert found.states > 10_000


@pytest.mark.parametrize("rule", QUICK)
def test_without_a_rule_something_breaks(rule: str) -> None:
    bounds, breaks = BREAKS[rule]
    found = check([*bounds.split(), f"-DWITHOUT={rule}"], short=True, limit_s=150)
    assert found.violated == breaks, "\n".join(found.story)
    assert found.story[-1].startswith("VIOLATED")


@pytest.mark.parametrize("rule", ["ANSWERED", "GROWS"])
@pytest.mark.parametrize(("requests", "late"), [(1, "EndTxn"), (2, "TxnOffsetCommit")])
def test_a_request_that_arrives_late_breaks_the_next_transaction_without_its_rule(
    rule: str, requests: int, late: str
) -> None:
    bounds, breaks = BREAKS[rule]
    found = check([*bounds.split(), f"-DWITHOUT={rule}", f"-DREQUESTS={requests}"], short=True)
    assert found.violated == breaks, "\n".join(found.story)
    assert f"a late {late}" in found.story[-1]


def test_the_core_has_the_steps_of_the_model() -> None:
    model = MODEL.read_text("utf-8")
    inlines = {
        line.split("(")[0].removeprefix("inline ")
        for line in model.splitlines()
        if line.startswith("inline ")
    }
    said = {rule.say for rule in PARTITION.values()} | {rule.say for rule in LEASE.values()}
    # A reset is the model's rewind, except that an operator may accept a loss by it: then it goes
    # forward, which no invariant of the model could allow.
    assert {*map(str, Step), *map(str, LeaseStep), *said} - {"", str(Step.RESET)} <= inlines
    assert all(
        hasattr(reconcile, name)
        for name in ("say_fenced", "wants_lease", "say_assign", "ask_release")
    )
    assert "obey" in inlines
    assert hasattr(tenure.Tenure, "obey")


def test_every_rule_of_the_model_can_be_taken_out() -> None:
    model = MODEL.read_text("utf-8")
    defines = [
        line
        for line in model.splitlines()
        if line.startswith("#define ") and ("/* 2." in line or "/* 3." in line)
    ]
    covered_by_another = {"LEADER", "SHOWN", "WAITED"}  # what breaks shows when both are out
    assert {line.split()[1] for line in defines} == {
        r for rules in BREAKS for r in rules.split("+")
    } | covered_by_another
