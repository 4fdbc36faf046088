"""Where lanes go: `planner` makes a plan, `limits` and `residency` constrain it, `damping` holds
moves back, `recording` and `replay` make recorded plans again."""

from __future__ import annotations
