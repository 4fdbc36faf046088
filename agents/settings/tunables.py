"""What may be changed while everything runs (`tune`): some keys of the tables, described only
there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from agents.settings.calm import Calm
from agents.settings.fields import (
    convert_value,
    describe_allowed_values,
    key_types_of,
    meta_of,
    unit_of,
)
from agents.settings.processes import CalmKeys, Coordinator, Worker
from agents.settings.tables import ORDERED

_OF_WORKERS = ("commit_gap_ms", "batch_records", "telemetry_period_s", "ping_period_s")
_DIGITS = 9  # digits that a value keeps, so that it is the same in every form in which it is sent

Number = int | float
S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Tunable:
    """`by_worker`: each worker applies it; otherwise the planner does. `hint`: its type with its
    description."""

    name: str
    by_worker: bool
    hint: Any  # a type of any form

    @property
    def about(self) -> str:
        return meta_of(self.hint).description or ""

    @property
    def unit(self) -> str:
        return unit_of(self.hint)

    @property
    def wants(self) -> str:
        """The values it allows: `a whole number from 0 to 60000`."""
        return describe_allowed_values(self.hint)

    def parse_value(self, text: str) -> Number:
        """Raises ValueError that says what it must be."""
        value: Number = convert_value(self.hint, text, text=True)
        return value if isinstance(value, int) else float(f"{value:.{_DIGITS}g}")

    def check_value(self, value: Number) -> Number:
        """Raises ValueError."""
        checked: Number = convert_value(self.hint, value)
        return checked

    def format_value(self, value: Number) -> str:
        """With its unit: `200 ms`."""
        return f"{value:.{_DIGITS}g} {self.unit}".rstrip()


TUNABLES: Mapping[str, Tunable] = {
    t.name: t
    for t in (
        *(Tunable(name, True, key_types_of(Worker)[name]) for name in _OF_WORKERS),
        *(Tunable(name, False, hint) for name, hint in key_types_of(CalmKeys).items()),
    )
}
BELOW: tuple[tuple[str, str], ...] = tuple(
    (a.rpartition(".")[2], b.rpartition(".")[2]) for a, b in ORDERED
)
"""The first must not be above the second."""


def tunable_values_of(worker: Worker, calm: Calm) -> dict[str, Number]:
    """These settings' values of everything that may be tuned."""
    return {name: getattr(worker if t.by_worker else calm, name) for name, t in TUNABLES.items()}


DEFAULTS = tunable_values_of(Worker(), Coordinator().calm)


def with_tuned_values(settings: S, values: Mapping[str, Number]) -> S:
    """These settings with those of `values` that are among their fields."""
    fields = settings.__struct_fields__
    return msgspec.structs.replace(
        settings, **{name: v for name, v in values.items() if name in fields}
    )
