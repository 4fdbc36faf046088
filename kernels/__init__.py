"""Numerics: what every lane would cost at every node, and where lanes are best placed.
`kernels.scoring.choose` picks the kernel.

Only names that need nothing but NumPy are exported here; the fast kernels are imported where they
are chosen."""

from kernels.reference import MatrixCosts, compute_terms
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
    make_problem,
    no_rtt_table,
    node_table,
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
    "compute_terms",
    "lane_table",
    "make_problem",
    "no_rtt_table",
    "node_table",
]
