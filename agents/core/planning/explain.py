"""A decision in words and ms (DESIGN 7.6): chosen, runner-up, each term, what binds, who was left out, what would revert it."""

from __future__ import annotations

import numpy as np

from agents.core.model import PAUSE, Partition, State, short_name
from agents.core.planning.placing import Placing, Scored


def explain(placing: Placing, p: Partition, now: float) -> str:
    """At most 8 lines. The milliseconds between sites are the RTT table's and a model's, and it says so."""
    scored, s = placing.last, placing.fleet.partitions[p]
    if scored is None or p not in scored.lanes:
        return f"Lane {p.n} has not been scored yet; try again in a second."
    row = scored.lanes.index(p)
    if s.state is State.ORPHAN or s.worker not in scored.nodes:
        wait = "no node has room for it" if p in placing.waiting else "it is about to be placed"
        return f"Lane {p.n} is with nobody: {wait}."
    own = scored.nodes.index(s.worker)
    name = short_name(s.worker)
    rtt = float(scored.terms.rtt_ms[row, own])
    others = [i for i in np.argsort(scored.terms.total_ms[row], kind="stable") if i != own and scored.columns[i].takes]
    lines = [f"Lane {p.n} is at {name}: {rtt:.1f} ms by network (modelled RTT), nothing for moving."]
    if others:
        lines += _runner_up(scored, row, own, int(others[0]))
    lines.append(_binds(scored, row, own, placing))
    left_out = [f"{short_name(c.id)} ({c.empty or 'not taking lanes'})" for c in scored.columns if not c.takes]
    if left_out:
        lines.append(f"Left out: {', '.join(left_out[:4])}{' ...' if len(left_out) > 4 else ''}.")
    lines.append(f"It is there because: {s.why or 'first placing'} (epoch {s.epoch}).")
    cool = placing.cooldown.get(p, 0.0) - now
    if PAUSE in placing.fleet.intents:
        lines.append("The planner is paused: nothing moves by itself.")
    elif cool > 0:
        lines.append(f"It moved lately and stays for {cool:.0f} s at least.")
    return "\n".join(lines)


def _runner_up(scored: Scored, row: int, own: int, other: int) -> list[str]:
    t = scored.terms
    rtt, move, total = float(t.rtt_ms[row, other]), float(t.move_ms[row, other]), float(t.total_ms[row, other])
    gap = total - float(t.total_ms[row, own])
    name = short_name(scored.nodes[other])
    lines = [f"Runner-up {name}: {rtt:.1f} ms by network + {move:.1f} ms for moving = {total:.1f} ms."]
    if gap >= 0:
        lines.append(f"It would go there if {name} came {gap:.1f} ms nearer.")
    else:
        lines.append(f"{name} would be {-gap:.1f} ms better; load or calm keeps it here.")
    return lines


def _binds(scored: Scored, row: int, own: int, placing: Placing) -> str:
    load = sum(w for w, lane in zip(scored.plan.load_eps, scored.rows, strict=True) if lane.owner == own)
    node = scored.columns[own]
    limit = placing.settings.calm.target_utilisation * node.capacity_eps
    lane = scored.plan.load_eps[row]
    if load > limit:
        return f"Over capacity: {load:,.0f} of {limit:,.0f} events/s allowed there, {lane:,.0f} by this lane."
    return f"Capacity does not bind: {load:,.0f} of {limit:,.0f} events/s there, {lane:,.0f} by this lane."
