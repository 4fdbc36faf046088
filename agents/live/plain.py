"""The view for logs and pipes: a line for the fleet now and then, a line for each move and alert."""

from __future__ import annotations

import time

from agents.live.figures import MOVE, Act, Figures, well
from agents.live.picture import LIVE, state

NAMED = 6


def fleet_line(f: Figures, at_s: float) -> str:
    """The fleet in one line; the word after the time tells lines apart: `fleet`, `move`, `alert`, `link`."""
    told = state(f)[0]
    s = f.summary
    if s is None:
        return f"{stamp(at_s)} fleet {told}"
    ill = [f"{r.worker.removeprefix('node-')} {r.state}" for r in f.rows if not well(r)]
    wrong = s.troubles.rows if s.troubles is not None else ()
    more = f" (and {s.troubles.total - 1} more)" if s.troubles is not None and s.troubles.total > 1 else ""
    said = [
        *([f"{wrong[0].severity.value}: {wrong[0].text}{more}"] if wrong else []),
        f"{s.nodes_available}/{s.nodes} nodes", f"{s.routers} router{'' if s.routers == 1 else 's'}",
        f"{s.lanes_assigned}/{s.lanes} lanes ({s.lanes_moving} moving, {s.lanes_orphaned} orphaned)",
        f"{s.arrival_eps:,.0f} events/s in", f"{s.rate_eps:,.0f} worked", f"lag {s.lag_events:,}",
        f"p50 {s.p50_ms:,.0f} ms", f"p99 {s.p99_ms:,.0f} ms",
    ]  # fmt: skip
    if f.placement is not None:
        said.append(f"gap {f.placement.gap:.1%}")
    if ill:
        said.append("not well: " + ", ".join(ill[:NAMED]) + (f" and {len(ill) - NAMED} more" if ill[NAMED:] else ""))
    return f"{stamp(at_s)} fleet {'; '.join([*([told] if told != LIVE else []), ', '.join(said)])}"


def act_line(act: Act) -> str:
    """One move or alert in one line, with its own time."""
    kind = act.kind if act.kind == MOVE else f"alert {act.kind}"
    return f"{stamp(act.at_s)} {kind}: {' '.join(act.text.split())}"


def link_line(text: str, at_s: float) -> str:
    """The connection came or went."""
    return f"{stamp(at_s)} link {text}"


def stamp(at_s: float) -> str:
    """As in our logs: UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))
