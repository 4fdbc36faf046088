"""Which lanes are asked about now. Each question may cost a call of a provider's daily budget, so
the lanes come first whose traffic can change most: heavy ones, far from their node, whose figure is
old, and before all others those of hotspots.

Of a fleet with more lanes than can be asked about in time, always the same ones have a figure: a
lane that has one is asked about again before it expires, and before others of about its weight.
Lanes that had traffic by turns would move to and fro."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from agents.core.geo.figures import Figure, Figures

LEAST_COST = 1e-3
"""In ms x events/s: lanes that cost nothing where they are come last, and in order of age."""


@dataclass(frozen=True, slots=True)
class LaneStake:
    """What depends on a lane's traffic. `cost`: its rate by its cost at its node, in ms x events/s.
    `hot`: a hotspot that is open is in it."""

    lane: int
    cost: float
    hot: bool = False


def is_due(figure: Figure[float] | None, now: float, period_s: float, *, hot: bool) -> bool:
    """Whether a lane with this figure is to be asked about. `period_s`: how often lanes are chosen.

    It is due when its figure would expire before the next choice but one, so that it does not fall
    back to 1 in between; a hot one in every period. A lane for which the provider has no figure is
    due when that answer expires."""
    if figure is None:
        return True
    ends = figure.expires_s - now <= 2 * period_s
    return figure.value is not None and (ends or (hot and now - figure.asked_s >= period_s))


def choose_lanes(
    stakes: Iterable[LaneStake],
    figures: Figures[int, float],
    now: float,
    period_s: float,
    most: int,
) -> list[int]:
    """Of lanes that are due, up to `most`, the most important first. A lane without a figure counts
    as one whose figure is two periods old."""

    def rank(stake: LaneStake) -> tuple[bool, float, int]:
        figure = figures.get(stake.lane, now)
        age_s = 2 * period_s if figure is None else figure.age_s(now)
        return not stake.hot, -max(stake.cost, LEAST_COST) * age_s, stake.lane

    return [stake.lane for stake in heapq.nsmallest(most, stakes, key=rank)]
