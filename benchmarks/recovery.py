"""How long do a killed node's lanes pause? `kill -9` of the busiest of ten nodes, again and again,
while 1,000 events/s come in.

The target of the design: within 2 s at the 99th percentile of 30 kills, with nothing missing and no
duplicates. Prints the table and writes docs/recovery.md (`python -m benchmarks.recovery
[KILLS]`)."""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import sys
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from agents.local import headless
from agents.local.demo import flights
from agents.local.demo.replay import Replay
from agents.local.headless import kill_and_measure
from agents.local.servers.folder import RunFolder
from agents.local.stack import Stack, StackPlan
from agents.settings import Settings

PAGE = Path(__file__).parents[1] / "docs" / "recovery.md"
RATE_EPS = 1000.0
BACK_S = 30.0
LONGEST_EVENTS = 10_000_000


async def _back(stack: Stack, name: str) -> None:
    """Wait until the killed node has a lease again, so that each kill finds ten nodes."""
    for _ in range(round(BACK_S / 0.05)):
        lease = stack.follower.leases.get(name)
        if lease is not None and not lease.fenced:
            await asyncio.sleep(1.5)
            return
        await asyncio.sleep(0.05)
    raise TimeoutError(f"{name} is not back after {BACK_S:g} s")


async def measure(path: Path, kills: int) -> tuple[list[float], dict[str, int]]:
    """The recovery of each kill in ms, and the accounting at the end."""
    found: list[float] = []
    with RunFolder(path) as folder:
        stack = Stack(folder, StackPlan(flights.with_pipeline(Settings())), lambda text: None)
        async with stack.working(flights.sample_events(), RATE_EPS):
            replay = Replay(
                stack.base.kafka,
                flights.endless_events(),
                len(stack.accounting.raw),
                RATE_EPS,
                LONGEST_EVENTS,
            )
            sending = asyncio.create_task(replay.run())
            await replay.wait_until_sent(5000)
            for _ in range(kills):
                victim = stack.busiest_node().name
                took_ms = await kill_and_measure(
                    stack, lambda text: print(text, file=sys.stderr, flush=True)
                )
                found.append(float("inf") if took_ms is None else took_ms)
                await _back(stack, victim)
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
            await headless.wait_until_settled(stack, replay.sent)
            a = stack.accounting
            books = {
                "in": a.events_in,
                "clean": a.clean,
                "missing": max(0, a.open),
                "duplicates": a.duplicates,
            }
    return found, books


def table(found: list[float], books: dict[str, int]) -> str:
    ms = sorted(found)
    worst = ms[min(len(ms) - 1, int(0.99 * len(ms)))]
    return "\n".join(
        [
            "| kills | p50, ms | p99, ms | longest, ms | events in | missing | duplicates |",
            "|---|---|---|---|---|---|---|",
            f"| {len(ms)} | {statistics.median(ms):,.0f} | {worst:,.0f} | {ms[-1]:,.0f} | "
            f"{books['in']:,} "
            f"| {books['missing']} | {books['duplicates']} |",
        ]
    )


def main() -> None:
    path = Path(tempfile.mkdtemp(prefix="geolane-recovery-"))
    path.chmod(0o711)  # ejabberd's own user may pass through
    found, books = asyncio.run(measure(path, int(sys.argv[1]) if len(sys.argv) > 1 else 30))
    shutil.rmtree(path)
    print(table(found, books))
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    PAGE.write_text(
        f"""# Recovery

The benchmark kills the busiest of ten nodes with `kill -9`, again and again, while 1,000 events/s arrive. The time runs from the kill until
each of its lanes has a commit under another owner. In that time the server sees the socket close; the coordinator waits 0.2 s (in case the
server itself is ending), fences, writes and assigns; and the new owner continues. `make bench` measures it again and writes this page.

{table(found, books)}

{now}; {os.cpu_count()} cores for broker, server, agents and measurement together; load {os.getloadavg()[0]:.1f} at the end.
""",
        "utf-8",
    )


if __name__ == "__main__":
    main()
