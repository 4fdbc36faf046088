"""Numerics: what every lane would cost at every node, and where lanes are best placed.
`kernels.scoring.choose` picks the kernel.

Only names that need nothing but NumPy are exported here; the fast kernels are imported where they
are chosen."""

from kernels.reference import MatrixCosts, terms
from kernels.tables import (
    Candidates,
    Costs,
    LaneTable,
    NodeTable,
    Numerics,
    Problem,
    RttModel,
    Solution,
    Solve,
    Terms,
    Weights,
    lane_table,
    no_rtt_table,
    node_table,
    problem,
)

__all__ = [
    "Candidates",
    "Costs",
    "LaneTable",
    "MatrixCosts",
    "NodeTable",
    "Numerics",
    "Problem",
    "RttModel",
    "Solution",
    "Solve",
    "Terms",
    "Weights",
    "lane_table",
    "no_rtt_table",
    "node_table",
    "problem",
    "terms",
]
