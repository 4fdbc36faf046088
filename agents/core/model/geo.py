"""What the coordinator asks a geo worker, and the answers, as frozen values (docs/maps.md). Points
are (latitude, longitude) in degrees.

Every figure carries its `provider` as people read it (`apple`, `offline`; `invented` in a
demonstration), the `attribution` that this provider's terms ask for, its age and how long it still
holds. Both are durations by the worker's own clock, so that no two clocks are compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agents.core.model.places import Place, TravelTime

TRAFFIC_LANES_AT_MOST = 10
"""Lanes in one command `traffic`."""
DESTINATIONS_AT_MOST = 10
"""Destinations of one lane: one request of a provider."""
NAMES_AT_MOST = 50
"""Places in one command `names`."""
INDEX = (0.25, 16.0)
"""The traffic index: expected by static travel time, clipped to this."""
LONGEST_S = 30 * 86_400.0
"""No road takes longer: what a provider tells beyond it is not a travel time."""
VALID_S = (0.0, 86_400.0)
"""How long a figure may hold; what does not expire is told as the longest."""
AGE_S = (0.0, 86_400.0)
PLACE_TEXT_LIMIT = 200
NAME_LIMIT = 120
PROVIDER_LIMIT = 60
REASON_LIMIT = 200
ATTRIBUTION_LIMIT = 200

NO_PROVIDER = "none"
"""Stands for the provider where the settings choose none."""
NO_ROUTE = "no route"
NO_STATIC = "the provider tells no times without traffic"
"""With NO_ROUTE: the reasons of a provider that has answered, and has no index."""

Point = tuple[float, float]


def lane_key(lane: int) -> str:
    """A lane's key among names, and in the topic `geo.context`."""
    return f"lane-{lane}"


def traffic_index(times: Iterable[TravelTime | None]) -> float | None:
    """The index of the ways to a lane's destinations: the sum of the expected times by that of the
    static ones, clipped to INDEX. None without a way that has both."""
    known = [(t.expected_s, t.static_s) for t in times if t is not None and t.static_s]
    known = [(e, s) for e, s in known if 0 < e <= LONGEST_S and 0 < s <= LONGEST_S]
    if not known:
        return None
    low, high = INDEX
    return min(high, max(low, sum(e for e, _ in known) / sum(s for _, s in known)))


# ---- commands ----


@dataclass(frozen=True, slots=True)
class LaneRoutes:
    """Measure the traffic of this lane on the ways from `origin` to `destinations`."""

    lane: int
    origin: Point
    destinations: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class TrafficCommand:
    """Measure the traffic of these lanes, the most important first."""

    leader_epoch: int
    boot: str
    lanes: tuple[LaneRoutes, ...]


@dataclass(frozen=True, slots=True)
class Unnamed:
    """A place that people should read the name of. `key`: a cell (hex H3 index), or a
    `lane_key`."""

    key: str
    at: Point


@dataclass(frozen=True, slots=True)
class NamesCommand:
    """Name these places, the most important first."""

    leader_epoch: int
    boot: str
    places: tuple[Unnamed, ...]


@dataclass(frozen=True, slots=True)
class PlaceCommand:
    """Find the place that `text` names, or if it is empty, name the point `at`."""

    leader_epoch: int
    boot: str
    text: str = ""
    at: Point | None = None


GeoCommand = TrafficCommand | NamesCommand | PlaceCommand


# ---- answers ----


@dataclass(frozen=True, slots=True)
class Source:
    """Where a figure is from. `age_s`: how long ago the provider was asked; `valid_s`: how long the
    figure still holds."""

    provider: str
    attribution: str = ""
    age_s: float = 0.0
    valid_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LaneTraffic:
    """The traffic of one lane: an `index`, or None and the `reason`, for people. `live`: whether
    the provider used live traffic."""

    lane: int
    index: float | None
    source: Source
    reason: str = ""
    live: bool = False

    @property
    def refused(self) -> bool:
        """Whether a provider is chosen, and did not answer."""
        answered = self.index is not None or self.reason in (NO_ROUTE, NO_STATIC)
        return not answered and self.source.provider != NO_PROVIDER


@dataclass(frozen=True, slots=True)
class ProviderCalls:
    """How many calls the provider had on this UTC day, and how many it may have; 0: no limit, and
    then `calls` counts from the worker's start."""

    calls: int = 0
    daily_calls: int = 0


@dataclass(frozen=True, slots=True)
class TrafficAnswer:
    """In the order of the command; lanes that could not be asked now may be left out."""

    lanes: tuple[LaneTraffic, ...]
    budget: ProviderCalls = ProviderCalls()


@dataclass(frozen=True, slots=True)
class Named:
    """The name of one place, or an empty `name` and the `reason`, for people."""

    key: str
    name: str
    source: Source
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NamesAnswer:
    """In the order of the command; places that could not be asked now may be left out."""

    places: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class PlaceAnswer:
    """`place`: None if there is none, and then `reason` says why, for people."""

    place: Place | None
    attribution: str = ""
    reason: str = ""


GeoAnswer = TrafficAnswer | NamesAnswer | PlaceAnswer
