"""How long work tells its caller what it has done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

StepOutcome = Literal["made", "changed", "set", "unchanged", "removed", "note"]
"""What happened to a thing. `set`: it is right now; its earlier state cannot be seen. `note`:
nothing happened, but a person should know."""

ReportStep = Callable[[StepOutcome, str], None]
"""Takes a step's outcome, and what the step was about."""

PrintLine = Callable[[str], None]
"""Shows one line to the person at the terminal."""


def report_to_nobody(outcome: StepOutcome, what: str) -> None:
    """For callers that want no report."""
