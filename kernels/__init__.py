"""Numerics: what every lane would cost at every node. `score` has each term in ms, the planner reads `candidates`."""

from kernels.reference import candidates, choose, score
from kernels.tables import Candidates, LaneTable, NodeTable, RttModel, Terms

__all__ = ["Candidates", "LaneTable", "NodeTable", "RttModel", "Terms", "candidates", "choose", "score"]
