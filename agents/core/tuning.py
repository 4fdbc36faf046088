"""What can be tuned while the fleet runs, each with its limits; which values hold is written in `placement` (intents `tune/NAME`), so
that they outlive coordinators and workers. The feed `tuning` only tells of them (PROTOCOL 4)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from agents.core.feeds import CURRENT, TUNING, FeedItem, Tuning
from agents.core.model import Intent
from agents.core.planning.plan import Calm
from agents.errors import OperatorError

PREFIX = "tune/"
WORKER_NAMES = ("commit_gap_ms", "batch_records", "telemetry_period_s", "ping_period_s")
CALM_NAMES = Calm.__struct_fields__
NAMES = (*WORKER_NAMES, *CALM_NAMES)


@dataclass(frozen=True, slots=True)
class Tunable:
    """One setting: `default` is what the settings say, `low` and `high` its limits (None: none; `above`: low itself is not
    allowed)."""

    name: str
    default: float
    unit: str
    text: str
    whole: bool
    low: float | None = None
    high: float | None = None
    above: bool = False

    @property
    def limits(self) -> str:
        low = "" if self.low is None else f"{'above' if self.above else 'at least'} {self.low:g}"
        high = "" if self.high is None else f"at most {self.high:g}"
        return " and ".join(filter(None, (low, high))) or "any number"

    def value(self, text: str) -> float:
        """Raises OperatorError, saying what would be right."""
        try:
            value: float = int(text) if self.whole else float(text)
        except ValueError:
            value = math.nan
        good = math.isfinite(value) and (self.high is None or value <= self.high)
        good = good and (self.low is None or (value > self.low if self.above else value >= self.low))
        if not good:
            kind = "a whole number" if self.whole else "a number"
            raise OperatorError(f"{self.name} is {kind} of {self.unit or 'no unit'}, {self.limits}; not {text[:40]!r}.")
        return value


def written(intents: Mapping[str, Intent]) -> dict[str, str]:
    """Name -> value of what is tuned now."""
    return {name.removeprefix(PREFIX): i.value for name, i in intents.items() if name.startswith(PREFIX) and i.value}


def version(intents: Mapping[str, Intent]) -> int:
    """Of all that was ever tuned: when the newest was written (epoch ms); 0 before the first."""
    return max((i.since_ms for name, i in intents.items() if name.startswith(PREFIX)), default=0)


def next_version(intents: Mapping[str, Intent], now_ms: int) -> int:
    """Above all before, whatever the clock says."""
    return max(now_ms, version(intents) + 1)


def tuning_item(intents: Mapping[str, Intent], leader_epoch: int) -> FeedItem:
    """The item `current` of the feed `tuning`: what concerns workers."""
    values = tuple(sorted((n, v) for n, v in written(intents).items() if n in WORKER_NAMES))
    title = ", ".join(f"{n} {v}" for n, v in values) or "as the settings say"
    return FeedItem(TUNING, CURRENT, title, title, Tuning(version(intents), values), leader_epoch)


def tuned_calm(calm: Calm, tunables: Mapping[str, Tunable], intents: Mapping[str, Intent]) -> Calm:
    """`calm` with what was tuned; what is no value any more, after an upgrade, is passed over."""
    for name, text in written(intents).items():
        if name in CALM_NAMES and name in tunables:
            try:
                calm = msgspec.structs.replace(calm, **{name: tunables[name].value(text)})
            except (OperatorError, ValueError):
                continue
    return calm


def check_calm(calm: Calm) -> None:
    """Raises OperatorError where two of them do not go together."""
    if calm.settle_to > calm.act_above:
        raise OperatorError("settle_to may not be above act_above: tune the other first.")
    if calm.cooldown_most_s < calm.cooldown_s:
        raise OperatorError("cooldown_most_s may not be below cooldown_s: tune the other first.")


def lacking(versions: Iterable[tuple[str, int]], wanted: int) -> list[str]:
    """Which of the workers (name, version that it shows) do not have it."""
    return [name for name, shown in versions if shown < wanted]
