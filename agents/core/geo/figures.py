"""What geo workers have told, until it expires: the traffic of lanes, and names. Nothing is kept
longer than its provider allows, and nothing is invented: a lane without a figure has no traffic.

Times are the coordinator's own monotonic clock, in seconds."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from agents.core.model.geo import Source
from agents.core.model.times import format_duration

NAMES_KEPT = 5_000
LANES_KEPT = 100_000
NO_TRAFFIC = 1.0
REASON_SHOWN_S = 600.0
"""People are told for this long why there is no figure, also when the lane may be asked about
again at once."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Figure(Generic[V]):
    """`value`: None if the provider has none, and then `reason` says why. `asked_s`: when the geo
    worker was asked; age and validity count from then, so that a slow answer makes a figure older,
    never younger. `live`: from traffic as it was then."""

    value: V | None
    reason: str
    source: Source
    asked_s: float
    live: bool = False

    @property
    def expires_s(self) -> float:
        return self.asked_s + self.source.valid_s

    def age_s(self, now: float) -> float:
        """How long ago the provider was asked, at most."""
        return max(0.0, now - self.asked_s) + self.source.age_s


@dataclass(slots=True)
class Figures(Generic[K, V]):
    """By lane or place, at most `most` of them: the oldest are dropped."""

    most: int
    _of: dict[K, Figure[V]] = field(default_factory=dict)

    def put(self, key: K, figure: Figure[V]) -> None:
        """Keep the newest; but a provider that cannot tell for a moment does not end a figure that
        holds for longer."""
        if figure.value is None:
            held = self.get(key, figure.asked_s)
            if held and held.value is not None and held.expires_s > figure.expires_s:
                return
        self._of.pop(key, None)
        self._of[key] = figure
        while len(self._of) > self.most:
            del self._of[next(iter(self._of))]

    def get(self, key: K, now: float) -> Figure[V] | None:
        """The figure until it expires; its value may be None."""
        found = self._of.get(key)
        return found if found is not None and now < found.expires_s else None

    def last(self, key: K) -> Figure[V] | None:
        """What was told last, whether it still holds or not."""
        return self._of.get(key)

    def refusal_of(self, key: K, now: float) -> Figure[V] | None:
        """The last answer, if it had no value; also after it has expired, for REASON_SHOWN_S."""
        found = self._of.get(key)
        if found is None or found.value is not None:
            return None
        return found if now < max(found.expires_s, found.asked_s + REASON_SHOWN_S) else None

    def drop_refusals(self) -> None:
        """Of another process, which may know what this one does not."""
        self._of = {key: x for key, x in self._of.items() if x.value is not None}

    def known(self, now: float) -> Iterator[tuple[K, Figure[V], V]]:
        """The figures with a value, while they hold."""
        for key, figure in self._of.items():
            if figure.value is not None and now < figure.expires_s:
                yield key, figure, figure.value

    def drop_expired(self, now: float) -> None:
        """Refusals stay for as long as people are told of them."""
        self._of = {
            key: x
            for key, x in self._of.items()
            if now < x.expires_s or self.refusal_of(key, now) is not None
        }


@dataclass(slots=True)
class GeoFigures:
    """`traffic`: the index of each lane. `names`: of cells (hex H3 index) and of lanes
    (`lane-12`)."""

    traffic: Figures[int, float] = field(default_factory=lambda: Figures(LANES_KEPT))
    names: Figures[str, str] = field(default_factory=lambda: Figures(NAMES_KEPT))

    def name_of(self, key: str, now: float) -> Figure[str] | None:
        """The name of a cell or lane, while it holds."""
        found = self.names.get(key, now)
        return found if found is not None and found.value is not None else None

    def index_of(self, lane: int, now: float) -> float:
        """The lane's traffic for the planner: 1 unless a figure says otherwise now."""
        found = self.traffic.get(lane, now)
        return NO_TRAFFIC if found is None or found.value is None else found.value


def format_figure_source(figure: Figure[V], now: float) -> str:
    """`apple, live, 35 s ago`, for people."""
    live = ", live" if figure.live else ""
    age = format_duration(figure.age_s(now))
    return f"{figure.source.provider or 'no provider'}{live}, {age} ago"
