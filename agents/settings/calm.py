"""How calm the planner keeps the fleet: the values of the table `coordinator.calm`."""

from __future__ import annotations

import msgspec


class Calm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules that keep a fleet calm (docs/planning.md); core/planning/damping.py and limits.py
    apply them. Times are in seconds unless their name says ms.

    `target_utilisation`: the largest share of its capacity that a node is given, unless the whole
    fleet is fuller than that. `act_above`, `settle_to`: multiples of the fleet's mean utilisation;
    a node above the first is relieved down to the second. `comfortable`: no node is relieved below
    this utilisation, since imbalance costs nothing there. `window_s`, `windows`: how long, without
    a break, a move must look right. `horizon_s`: the time in which a move must earn its cost, which
    is the wait of its events for `pause_ms`. `cooldown_s`: how long a moved lane is left alone,
    doubled each time it returns to where it just was, up to `cooldown_most_s`. `budget_share`: the
    share of the load that may be moving at once (or one lane, if that is more). `in_flight`: moves
    from or to one node at once; halved on trouble, then one more after each window without trouble.
    `ramp_s`: a new node gets its room gradually over this time, starting with the share
    `ramp_from`. `forecast_s`: how far ahead the load is forecast."""

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
