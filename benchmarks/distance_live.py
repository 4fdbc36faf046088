"""The same events under different ways to place lanes, live: three sites with real delays, one
broker. Part of benchmarks.distance.

One stack runs all the time. For each way the planner is paused, the lanes are moved by hand, and the
events are replayed; for geolane's own the planner goes on from where the lanes are, at random."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agents.base.errors import OperatorError, XmppError
from agents.cli.operator_console import DONE, Outcome, run_command
from agents.core.lanes.lane_map import LaneMap
from agents.core.model.placement import State
from agents.core.model.topology import WorkerKind
from agents.kafka import compacted
from agents.local import headless
from agents.local.audit.accounting import LatencyHistogram
from agents.local.demo import flights
from agents.local.demo.replay import Replay
from agents.local.servers.delays import AZURE
from agents.local.servers.folder import RunFolder
from agents.local.stack import Stack, StackPlan
from agents.settings import Coordinator, Settings, load_settings
from kernels.geo import haversine_km_matrix

SITES, BROKER_AT = ("iad", "sfo", "mwh"), "iad"
LANES = 12
RATE_EPS = 150.0
WARM_EVENTS = 450
QUIET_S, SETTLE_S, MOVED_S = 25.0, 150.0, 30.0
QUANTILES = {"p50": 0.5, "p75": 0.75, "p99": 0.99}
OURS = "geolane"
WHAT = {
    "robin": "round robin",
    "two": "power of two choices",
    "nearest": "nearest by km",
    OURS: "geolane",
    "hand": "by hand: all beside Kafka",
}


class Measured(NamedTuple):
    """`ms`: p50, p75 and p99 of each round. `here`: the share of the lanes at Kafka's site, of each
    round. `missing`, `duplicates`: over all rounds of all ways."""

    ms: Mapping[str, Mapping[str, Sequence[float]]]
    here: Mapping[str, Sequence[float]]
    missing: int
    duplicates: int


class Live:
    """The running stack, and what is done to it."""

    def __init__(self, stack: Stack, lane_map: LaneMap) -> None:
        self.stack = stack
        self.sent = 0
        self._lane_map = lane_map
        self._nodes = {w.site: w for w in stack.inventory.workers_of(WorkerKind.NODE)}
        self._person = load_settings(stack.folder.settings / "operator.toml")

    def lanes_at(self) -> list[str]:
        """The site of each lane's owner."""
        sites = {w.worker: w.site for w in self._nodes.values()}
        placed = self.stack.follower.placed
        return [sites[placed[WorkerKind.NODE.partition(n)].worker] for n in range(LANES)]

    def place(self, way: str, dice: random.Random) -> list[str]:
        """The site for each lane."""
        if way == "robin":
            return [SITES[n % len(SITES)] for n in range(LANES)]
        if way == "hand":
            return [BROKER_AT] * LANES
        if way == "nearest":
            sites = [self.stack.inventory.sites[name] for name in SITES]
            at = np.array(self._lane_map.centroid)
            lat, lon = (np.array([getattr(s, x) for s in sites]) for x in ("lat", "lon"))
            km = haversine_km_matrix(at[:, 0], at[:, 1], lat, lon)
            return [SITES[i] for i in km.argmin(axis=1)]
        load = dict.fromkeys(SITES, 0.0)
        found = []
        for rate in self._lane_map.rate_eps:
            site = min(dice.sample(SITES, 2), key=load.__getitem__)
            load[site] += rate
            found.append(site)
        return found

    async def command(self, *words: str) -> None:
        """As the operator, with its dry run confirmed; again while nobody leads, or while the leader
        says that there are too many steps. Raises RuntimeError if it is refused."""

        async def confirm() -> bool:
            return True

        deadline = time.monotonic() + MOVED_S
        while True:
            outcome = Outcome(words[0])
            try:
                await run_command(
                    self._person, "operator", words, outcome, confirm, lambda text: None
                )
            except (OperatorError, XmppError) as e:
                outcome.text.append(f"{e}; try again" if isinstance(e, XmppError) else str(e))
            if outcome.code == DONE:
                return
            if "try again" not in outcome.text[-1] or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(words)}: {' '.join(outcome.text)}")
            await asyncio.sleep(1.0)

    async def move_lanes(self, wanted: Sequence[str]) -> None:
        for n, site in enumerate(wanted):
            if self.lanes_at()[n] != site:
                await self.command("move", str(n), self._nodes[site].name)
                await self._until(partial(self._is_at, n, site), f"lane {n} at {site}")

    def _is_at(self, n: int, site: str) -> bool:
        record = self.stack.follower.placed[WorkerKind.NODE.partition(n)]
        return record.state is State.ASSIGNED and record.worker == self._nodes[site].worker

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + MOVED_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {MOVED_S:g} s: {what}")
            await asyncio.sleep(0.02)

    async def replay(self, events: int) -> None:
        """The first events of the stream, until all have come out."""
        s = self.stack
        stream = islice(flights.endless_events(), events)
        replay = Replay(s.base.kafka, stream, len(s.accounting.raw), RATE_EPS)
        await replay.run()
        self.sent += events
        await headless.wait_until_settled(s, self.sent)

    async def forget_moves(self) -> None:
        """A new leader: the one before leaves each lane for 10 minutes where a person moved it."""
        follower = self.stack.follower
        before = follower.leader_epoch
        self.stack.kill_process("coordinator")
        await self._until(lambda: follower.leader_epoch > before, "another leader")

    async def wait_until_planned(self) -> None:
        """Events come in, until the planner has moved nothing for a while."""
        deadline, moves, since = time.monotonic() + SETTLE_S, -1, time.monotonic()
        while time.monotonic() < deadline and time.monotonic() - since < QUIET_S:
            await self.replay(WARM_EVENTS)
            if self.stack.follower.moves != moves:
                moves, since = self.stack.follower.moves, time.monotonic()


@asynccontextmanager
async def live(say: Callable[[str], None]) -> AsyncIterator[Live]:
    settings = flights.with_pipeline(Settings(coordinator=Coordinator(lanes=LANES)))
    plan = StackPlan(settings, sites=",".join(SITES), delays=AZURE, broker_at=BROKER_AT, web=False)
    with tempfile.TemporaryDirectory(prefix="geolane-distance-") as path:
        os.chmod(path, 0o711)  # ejabberd's and Kafka's users pass through
        with RunFolder(Path(path)) as folder:
            stack = Stack(folder, plan, say)
            async with stack.working(flights.sample_events(), RATE_EPS):
                lane_map = await compacted.read_newest_lane_map(stack.base.kafka)
                assert lane_map is not None  # noqa: S101  # the stack has published it
                yield Live(stack, lane_map)


async def measure_policies(rounds: int, events: int, seed: int = 1) -> Measured:
    """All ways by turns."""

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    ms: dict[str, dict[str, list[float]]] = {way: {q: [] for q in QUANTILES} for way in WHAT}
    here: dict[str, list[float]] = {way: [] for way in WHAT}
    async with live(say) as on:
        await on.command("pause")
        for round_ in range(rounds):
            dice = random.Random(seed + round_)
            for way in WHAT:
                if way == OURS:
                    await on.move_lanes([dice.choice(SITES) for _ in range(LANES)])
                    await on.forget_moves()
                    await on.command("unpause")
                    await on.wait_until_planned()
                else:
                    await on.move_lanes(on.place(way, dice))
                    await on.replay(WARM_EVENTS)
                seen = on.stack.accounting.visible = LatencyHistogram()
                await on.replay(events)
                if way == OURS:
                    await on.command("pause")
                for name, q in QUANTILES.items():
                    ms[way][name].append(seen.quantile(q) or float("inf"))
                here[way].append(on.lanes_at().count(BROKER_AT) / LANES)
                say(f"{WHAT[way]}: {seen.summary()}, {here[way][-1]:.0%} of the lanes beside Kafka")
        a = on.stack.accounting
        return Measured(ms, here, max(0, a.open), a.duplicates)


def table(found: Measured, spread: Callable[[Sequence[float]], str]) -> str:
    lines = [
        "| lanes are placed by | visible p50, ms | p75, ms | p99, ms | lanes beside Kafka | geolane's p50 as a share of it |",
        "|---|---|---|---|---|---|",
    ]
    for way, what in WHAT.items():
        cells = [spread(found.ms[way][q]) for q in QUANTILES]
        shares = [a / b for a, b in zip(found.ms[OURS]["p50"], found.ms[way]["p50"], strict=True)]
        cells += [f"{statistics.fmean(found.here[way]):.0%}", f"{statistics.fmean(shares):.2f}"]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    lines += ["", f"{found.missing} events missing, {found.duplicates} duplicates."]
    return "\n".join(lines)


def draw(found: Measured, file: Path) -> None:
    """Bars of p50, p75 and p99, each the mean over the rounds, with the rounds as dots."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "geolane"  # the same file from the same figures
    import matplotlib.pyplot as plt

    figure: Any  # matplotlib is untyped here
    figure, axes = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
    for i, (q, colour) in enumerate(zip(QUANTILES, ("#0072b2", "#56b4e9", "#d55e00"), strict=True)):
        rows = [n + (i - 1) * 0.27 for n in range(len(WHAT))]
        axes.barh(
            rows, [statistics.fmean(found.ms[way][q]) for way in WHAT], 0.25, label=q, color=colour
        )
        for row, way in zip(rows, WHAT, strict=True):
            rounds = found.ms[way][q]
            axes.plot(rounds, [row] * len(rounds), "k.", markersize=3)
    axes.set_yticks(range(len(WHAT)), list(WHAT.values()))
    axes.invert_yaxis()
    axes.set_xlabel("ms from events.raw until visible; a dot is a round")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, metadata={"Date": None})
