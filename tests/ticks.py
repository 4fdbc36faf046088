"""Made-up decisions for the journal: small, and each another."""

from __future__ import annotations

from agents.core.planning.plan import (
    Calm,
    Figures,
    Frame,
    Lane,
    Memory,
    Moment,
    Move,
    Node,
    NodePlace,
    Optimum,
    Plan,
)
from agents.core.planning.replay import Decided
from kernels.tables import Weights, no_rtt_table

FRAME = Frame(
    (39.0, 41.9), (-77.5, -87.6), (-1, -1),
    (NodePlace("node-iad-1", 39.0, -77.5), NodePlace("node-ord-1", 41.9, -87.6)), (),
    no_rtt_table(1.0, 0.01), Calm(), Weights(),
)  # fmt: skip


def decided(n: int, frame: Frame | None = None) -> Decided:
    """Number `n` of a series; its plan moves lane `n`."""
    moment = Moment(
        float(n), (Lane(0, n + 0.5, owner=0), Lane(1, None)), (Node("node-iad-1", 9.0), Node("node-ord-1", 9.0))
    )
    figures = Figures(1.0, 1.0, 0.5)
    plan = Plan(
        (), (Move(n, 0, 1, -3.5, "nearer"),), (1,), (), (), figures, figures, Optimum(1.0, 1.0, 0.0, 1),
        (n + 0.5, 1.0), (9.0, 9.0), (0.0, 0.0), Memory(at_s=float(n)),
    )  # fmt: skip
    return Decided(frame, moment, plan, "improve", "test")
