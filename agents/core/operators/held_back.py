"""The moves that damping holds back now, and until when: for a while the placement is, on purpose,
not the best."""

from __future__ import annotations

from agents.base.text import counted
from agents.core.fleet.placing import Placing
from agents.core.model.placement import State
from agents.core.model.times import format_duration
from agents.core.model.topology import Partition, WorkerKind, short_name
from agents.core.operators.explain import NOTICEABLE_MS, gains_elsewhere_ms

LOOKED_AT = 50  # lanes
NAMED = 3


def describe_held_back(placing: Placing, now: float) -> list[str]:
    """Lines for people; none if nothing is held back."""
    lines = []
    cooldown = placing.inputs.cooldown
    cool = [p for p, until in cooldown.items() if until > now and WorkerKind.NODE.works(p)]
    gains_ms = _find_gains_ms(placing, cool[:LOOKED_AT])
    offers = {p: ms for p, ms in gains_ms.items() if ms >= NOTICEABLE_MS}
    if offers:
        until_s = max(cooldown[p] for p in offers) - now
        best = max(offers, key=lambda p: offers[p])
        lines.append(
            f"{counted(len(offers), 'lane')} moved recently and may not move yet ("
            f"{format_duration(until_s)} at most), although up to {offers[best]:.1f} ms an event "
            f"could be saved (lane {best.n}). rebalance does not wait."
        )
    ramp_s = placing.inputs.settings.calm.ramp_s
    ramped = {
        w: came + ramp_s - now for w, came in placing.inputs.came.items() if came + ramp_s > now
    }
    if ramped:
        some = ", ".join(short_name(w) for w in sorted(ramped)[:NAMED]) + (
            " ..." if len(ramped) > NAMED else ""
        )
        lines.append(
            f"{some} joined recently; full capacity in {format_duration(max(ramped.values()))}."
        )
    return lines


def _find_gains_ms(placing: Placing, lanes: list[Partition]) -> dict[Partition, float]:
    """The ms per event that these lanes would save elsewhere, according to the last plan."""
    scored, written = placing.last, placing.fleet.partitions
    if scored is None:
        return {}
    owners = {
        p: placed.worker
        for p in lanes
        if (placed := written.get(p)) is not None
        and placed.state is State.ASSIGNED
        and p in scored.partitions
        and placed.worker in scored.workers
    }
    return gains_elsewhere_ms(scored, owners)


def describe_return(placing: Placing) -> str:
    """When lanes return to a node that takes them again, for people."""
    calm = placing.inputs.settings.calm
    first_s = max(1.0, calm.window_s * (calm.windows - 1))
    return (
        f"Lanes that gain come back: the first in about {format_duration(first_s)}, "
        f"{calm.in_flight} at a time."
    )
