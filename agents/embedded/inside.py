"""What a run knows of itself without asking anybody: the topics it follows, the processes it keeps. The view is made of it until
the feeds say more."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import replace

from agents.core.feeds import FleetSummary, Severity, WorkerRow, WorkerRows
from agents.core.model import Kind, State
from agents.embedded.stack import Stack
from agents.live.figures import MOVE, Act, Figures

LAST = (Severity.INFO.value, Severity.CALM.value)


def _order(act: Act) -> tuple[int, int]:
    """Alerts come with whole seconds: within one, what began goes before the steps that follow, what ended goes after."""
    return int(act.at_s), 1 if act.kind == MOVE else 2 if act.kind in LAST else 0


class Rates:
    """Counts now and some seconds ago, as events/s."""

    def __init__(self, over_s: float = 5.0) -> None:
        self._over_s = over_s
        self._past: deque[tuple[float, Counter[str]]] = deque()

    def note(self, counts: Counter[str]) -> dict[str, float]:
        now = time.monotonic()
        self._past.append((now, counts))
        while len(self._past) > 2 and now - self._past[1][0] > self._over_s:
            self._past.popleft()
        then, before = self._past[0]
        return {key: (counts[key] - before[key]) / max(now - then, 0.001) for key in counts}


class Inside:
    """Of one run."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._rates = Rates()
        self._since_s = time.time()  # the service may keep alerts of earlier runs

    def figures(self, heard: Figures) -> Figures:
        """`heard`, with every step that was written instead of the plans alone, and with our own figures where none came."""
        written = [Act(at_s, MOVE, text) for at_s, text in self._stack.follower.acts]
        alerts = [act for act in heard.acts if act.kind != MOVE and act.at_s >= self._since_s]
        acts = tuple(sorted([*written, *alerts], key=_order))
        if heard.summary is not None:
            return replace(heard, acts=acts)
        summary, rows = self._own()
        return replace(heard, acts=acts, summary=summary, rows=rows, silent_s=0.0)

    def _own(self) -> tuple[FleetSummary, tuple[WorkerRow, ...]]:
        stack, a = self._stack, self._stack.accounting
        counts = Counter({"in": a.events_in, "clean": a.clean}) + Counter({f"{n}": c for n, c in a.lane_out.items()})
        eps = self._rates.note(counts)
        placed = stack.follower.placed
        by_worker, lanes = Counter[str](), Counter[str]()
        for p, record in placed.items():
            if record.state is not State.ORPHAN:
                lanes[record.worker] += 1
                by_worker[record.worker] += round(eps.get(f"{p.n}", 0.0)) if p.kind is Kind.NODE else 0
        rows = []
        for spec in stack.workers:
            site = stack.inventory.sites[spec.site]
            alive = stack.family.children[spec.worker].pid is not None
            rate = eps.get("in", 0.0) if spec.kind is Kind.ROUTER else by_worker[spec.worker]
            rows.append(
                WorkerRow(
                    spec.worker, site.name, site.region, site.lat, site.lon, "ok" if alive else "gone",
                    lanes[spec.worker], rate, 0, 0.0, spec.capacity_eps,
                )
            )  # fmt: skip
        states = [record.state for p, record in placed.items() if p.kind is Kind.NODE]
        well = [r for r in rows if r.state == "ok"]
        recent = a.recent.summary()
        summary = FleetSummary(
            nodes=sum(spec.kind is Kind.NODE for spec in stack.workers),
            nodes_available=sum(r.worker.startswith("node-") for r in well),
            routers=sum(r.worker.startswith("router-") for r in well),
            lanes=len(states),
            lanes_assigned=states.count(State.ASSIGNED),
            lanes_moving=states.count(State.RELEASING),
            lanes_orphaned=states.count(State.ORPHAN),
            rate_eps=eps.get("clean", 0.0),
            arrival_eps=eps.get("in", 0.0),
            lag_events=max(0, a.open),
            p50_ms=recent["p50"] or 0.0,
            p99_ms=recent["p99"] or 0.0,
            workers=WorkerRows(0, 1, tuple(rows)),
        )
        return summary, tuple(rows)
