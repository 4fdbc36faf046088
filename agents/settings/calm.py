"""How calm the planner keeps the fleet: the values of the table `coordinator.calm`."""

from __future__ import annotations

import msgspec


class Calm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules that keep a fleet calm (DESIGN 7.4); calm.py and limits.py apply them. Times in s
    unless their name says ms.

    `target_utilisation`: share of its capacity that a node is given at most, unless the whole fleet
    is that full. `act_above`, `settle_to`: times the fleet's mean utilisation at which a node is
    relieved, and to which; `comfortable`: utilisation up to which imbalance costs nobody anything,
    so that no node is relieved below it. `window_s`, `windows`: for how long, without a break, a
    move must look right. `horizon_s`: time in which a move has to earn what it costs; it costs the
    events of `pause_ms` their wait. `cooldown_s`: how long a lane that moved is left alone, doubled
    each time it comes back to where it just was, up to `cooldown_most_s`. `budget_share` of the
    load may be on the move at once, or one lane. `in_flight`: moves from or to one node; halved on
    trouble, one more again after each window without. `ramp_s`: a node that comes gets its room by
    and by, from `ramp_from` of it. `forecast_s`: how far ahead the load is looked at."""

    target_utilisation: float = 0.85
    act_above: float = 1.25
    settle_to: float = 1.10
    comfortable: float = 0.50
    window_s: float = 5.0
    windows: int = 2
    horizon_s: float = 300.0
    pause_ms: float = 300.0
    cooldown_s: float = 30.0
    cooldown_most_s: float = 480.0
    budget_share: float = 0.09
    in_flight: int = 5
    ramp_s: float = 60.0
    ramp_from: float = 0.25
    forecast_s: float = 60.0
