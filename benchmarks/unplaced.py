"""What do events cost that name a place and have no coordinates, and are they processed exactly once
through a `kill -9` of the geo worker?

The same flights, by turns, with the coordinates of their origin and with its name only (`Chicago,
IL` or `ORD`), through a whole stack with the offline provider; then 100,000 with names only, and the
geo worker is killed in the middle. Prints the tables and writes docs/unplaced.md
(`python -m benchmarks.unplaced [EVENTS OF THE LAST PART]`)."""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import psutil

from agents.local import headless
from agents.local.demo import flights
from agents.local.demo.replay import Replay
from agents.local.servers.folder import RunFolder
from agents.local.stack import MAPS_OF_SETTINGS, Stack, StackPlan
from agents.settings import Coordinator, Settings

PAGE = Path(__file__).parents[1] / "docs" / "unplaced.md"
ROUNDS, A_ROUND, IN_ALL = 3, 30_000, 100_000
RATE_EPS = 20_000.0
"""Above what one machine processes: each part ends as soon as it can."""
NODES, LANES = 3, 12
GEO = "geo-1"
BOUND_S = 300.0


@dataclass(frozen=True, slots=True)
class Killed:
    """The run with the kill. `pause_s`: from the kill until the next event was placed."""

    took_s: float
    pause_s: float
    mem_mb: float
    books: dict[str, int]


class Measurement:
    """One stack, through which the parts are sent one after the other."""

    def __init__(self, stack: Stack) -> None:
        self._stack, self._sent = stack, 0
        self._stream = flights.endless_events()

    async def send(self, events: int, *, places: bool, kill: bool = False) -> tuple[float, float]:
        """Send so many, and wait until each has come out. Returns how long that took, and the
        pause after the kill, in s."""
        a = self._stack.accounting
        some = islice(self._stream, events)
        began, placed, pause_s = time.monotonic(), a.placed, 0.0
        replay = Replay(
            self._stack.base.kafka,
            flights.name_origins(some) if places else some,
            len(a.raw),
            RATE_EPS,
            events,
        )
        sending = asyncio.create_task(replay.run())
        if kill:
            await _until(lambda: a.placed - placed >= events / 2)
            pause_s = await self._kill_geo()
        await sending
        self._sent += events
        await headless.wait_until_settled(self._stack, self._sent)
        return a.moved_at - began, pause_s

    async def _kill_geo(self) -> float:
        a = self._stack.accounting
        self._stack.kill_process(GEO)
        await asyncio.sleep(0.2)  # what it had committed is read by now
        killed, before = time.monotonic(), a.placed
        await _until(lambda: a.placed > before)
        return time.monotonic() - killed + 0.2

    def mem_mb(self) -> float:
        pid = self._stack.family.children[GEO].pid
        return psutil.Process(pid).memory_info().rss / (1 << 20)

    def books(self) -> dict[str, int]:
        a = self._stack.accounting
        return {
            "in": a.events_in,
            "placed": a.placed,
            "clean": a.clean,
            "filtered": a.filtered,
            "dead": a.dead,
            "unplaced": a.unplaced,
            "missing": a.open_now,
            "duplicates": a.duplicates,
        }


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(round(BOUND_S / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError(f"{GEO} has not placed enough within {BOUND_S:g} s")


async def measure(path: Path, in_all: int) -> tuple[list[tuple[float, float]], Killed]:
    """For each round how long the events took, with coordinates and with names, in s; and the run
    with the kill."""
    rounds = []
    plan = StackPlan(
        flights.with_pipeline(Settings(coordinator=Coordinator(lanes=LANES))),
        nodes=NODES,
        maps=MAPS_OF_SETTINGS,
    )
    with RunFolder(path) as folder:
        stack = Stack(folder, plan, lambda text: None)
        async with stack.working(flights.sample_events(), RATE_EPS):
            run = Measurement(stack)
            await run.send(A_ROUND // 3, places=True)  # until everything is warm
            for _ in range(ROUNDS):
                with_, _ = await run.send(A_ROUND, places=False)
                without, _ = await run.send(A_ROUND, places=True)
                rounds.append((with_, without))
                print(f"{with_:.1f} s with coordinates, {without:.1f} s with names", flush=True)
            before = run.books()
            took_s, pause_s = await run.send(in_all, places=True, kill=True)
            books = {key: count - before[key] for key, count in run.books().items()}
            return rounds, Killed(took_s, pause_s, run.mem_mb(), books)


def tables(rounds: list[tuple[float, float]], killed: Killed, in_all: int) -> str:
    ratios = [without / with_ for with_, without in rounds]
    rows = [
        f"| {A_ROUND / with_:,.0f} | {A_ROUND / without:,.0f} | {without / with_:.2f} |"
        for with_, without in rounds
    ]
    b = killed.books
    return "\n".join(
        [
            "| with coordinates, events/s | with names, events/s | time, ratio |",
            "|---|---|---|",
            *rows,
            "",
            f"Median ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
            f"{max(ratios):.2f}).",
            "",
            "| events with names | events/s | pause after the kill, s | geo, MB | placed | clean "
            "| filtered | dead | still unplaced | missing | duplicates |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
            f"| {in_all:,} | {in_all / killed.took_s:,.0f} | {killed.pause_s:.1f} "
            f"| {killed.mem_mb:.0f} | {b['placed']:,} | {b['clean']:,} | {b['filtered']:,} "
            f"| {b['dead']:,} | {b['unplaced']} | {b['missing']} | {b['duplicates']} |",
        ]
    )


def main() -> None:
    in_all = int(sys.argv[1]) if len(sys.argv) > 1 else IN_ALL
    path = Path(tempfile.mkdtemp(prefix="geolane-unplaced-"))
    path.chmod(0o711)  # ejabberd's own user may pass through
    rounds, killed = asyncio.run(measure(path, in_all))
    shutil.rmtree(path)
    text = tables(rounds, killed, in_all)
    print(text)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    PAGE.write_text(
        f"""# Events without coordinates

The same US flights, by turns, with the coordinates of their origin and with its name only (`Chicago, IL` or `ORD`), {A_ROUND:,} in a
round, as fast as a whole stack processes them: a router, {NODES} nodes, a geo worker with the offline provider, on one machine. An event with a
name passes the router twice, and geo once: `events.raw`, `events.unplaced`, `events.raw`, `events.lanes`, `events.clean`. Then
{in_all:,} with names only, and the geo worker is killed (`kill -9`) when half of them are placed; it is started again, as systemd would do.
Dead are those whose name the offline table does not know, such as `Dallas-Fort Worth, TX` ([places.md](places.md)).
`make bench` measures it again and writes this page.

{text}

{now}; {os.cpu_count()} cores for broker, server, agents and measurement together; load {os.getloadavg()[0]:.1f} at the end.
""",
        "utf-8",
    )


if __name__ == "__main__":
    main()
