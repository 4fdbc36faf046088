"""The tables and diagrams of docs/handover.md, from agents/core/fleet/handover.py (tests/pages.py
puts them there)."""

from __future__ import annotations

from agents.core.fleet.handover import LEASE, PARTITION, LeaseStep, Owner, Step
from agents.core.model.placement import State

MEANS: dict[Step, str] = {
    Step.PLACE: "the planner gives an orphan to a worker that has a live lease",
    Step.MOVE: "the planner or an operator wants it elsewhere",
    Step.RELEASED: "the owner has finished, and its committed offset shows",
    Step.FENCE: "the owner is gone, or has another boot",
    Step.REWIND: "an operator wants its events processed once more; the group's offset is set back "
    "in the same transaction",
    Step.RESET: "its offset is not in its log, and an operator sets it where it can go on; the "
    "group's is set in the same transaction",
}
LEASE_MEANS: dict[LeaseStep, str] = {
    LeaseStep.WANTS_LEASE: "a boot is heard that has none",
    LeaseStep.OTHER_BOOT: "another boot is heard than the lease is for: a death",
    LeaseStep.FENCE: "the worker is gone, silent, or does not release",
}
OWNERS: dict[Owner, str] = {Owner.NEW: "the new one", Owner.SAME: "stays", Owner.NONE: "nobody"}


def partitions() -> str:
    rows = [
        "| state | step | when | written: state | epoch | owner | then said | rule |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (state, step), rule in PARTITION.items():
        owner = (
            "stays, as the last"
            if rule.then is State.ORPHAN and rule.owner is Owner.SAME
            else OWNERS[rule.owner]
        )
        epoch, said = (
            (f"+ {rule.epoch}" if rule.epoch else "same"),
            (f"`{rule.say}`" if rule.say else ""),
        )
        rows.append(
            f"| {state} | `{step}` | {MEANS[step]} | {rule.then} | {epoch} | {owner} | {said} | "
            f"{rule.rule} |"
        )
    return "\n".join(rows)


def leases() -> str:
    rows = [
        "| lease | step | when | written: lease | its partitions | then said | rule |",
        "|---|---|---|---|---|---|---|",
    ]
    for (before, step), rule in LEASE.items():
        orphans = "`fence`, in the same transaction" if rule.orphans else ""
        rows.append(
            f"| {before} | `{step}` | {LEASE_MEANS[step]} | {rule.then} | {orphans} | `{rule.say}` "
            f"| {rule.rule} |"
        )
    return "\n".join(rows)


def diagram() -> str:
    lines = [
        "```mermaid",
        "stateDiagram-v2",
        "    direction LR",
        f"    [*] --> {State.ORPHAN}: new, offset 0",
    ]
    for (state, step), rule in PARTITION.items():
        lines.append(
            f"    {state} --> {rule.then}: {step}"
            + (f" (epoch + {rule.epoch})" if rule.epoch else "")
        )
    return "\n".join([*lines, "```"])


PARTS = {"partitions": partitions, "leases": leases, "diagram": diagram}
