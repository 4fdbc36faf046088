"""How long a killed node's lanes stood still: until each one's committed offset has grown under another owner."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from agents.core.model import Kind, Partition, Placed, State
from agents.embedded.stack import Stack
from agents.errors import KafkaUnavailable
from agents.kafka.offsets import Offsets

POLL_S = 0.02
LONGEST_S = 120.0


async def kill_and_measure(stack: Stack, say: Callable[[str], None]) -> float | None:
    """kill -9 the node with the most lanes. Answers the ms until all of them moved on, None when they did not in 120 s.

    A lane for which nothing was waiting and nothing came since counts as soon as it has another owner."""
    offsets = Offsets(stack.base.kafka, Kind.NODE.group)
    await offsets.start()
    try:
        victim = stack.busiest()
        lanes = stack.follower.lanes_of(victim.name)
        boots = {stack.follower.placed[lane].boot for lane in lanes}
        ends = await offsets.ends(lanes)
        begun = time.monotonic()
        stack.kill(victim.name)
        say(f"kill -9 {victim.name}, which had {len(lanes)} lanes")
        waiting = set(lanes)
        while waiting and time.monotonic() - begun < LONGEST_S:
            await asyncio.sleep(POLL_S)
            placed = {lane: stack.follower.placed[lane] for lane in waiting}
            theirs = {lane for lane, p in placed.items() if p.state is State.ASSIGNED and p.boot not in boots}
            if theirs:
                waiting -= await _moved_on(offsets, theirs, placed, ends)
        took_ms = (time.monotonic() - begun) * 1000
        say(f"its lanes moved on after {took_ms:.0f} ms" if not waiting else f"{len(waiting)} lanes did not move on")
        return None if waiting else round(took_ms, 1)
    finally:
        await offsets.stop()


async def _moved_on(
    offsets: Offsets, lanes: set[Partition], placed: dict[Partition, Placed], ends: dict[Partition, int]
) -> set[Partition]:
    try:
        committed = await offsets.committed(lanes)
        now = await offsets.ends(lanes)
    except KafkaUnavailable:
        return set()
    # Behind the last record of a transaction lies its marker, which nobody consumes: one offset is no backlog.
    return {
        lane
        for lane in lanes
        if (at := committed.get(lane)) is not None
        and (at[0] > placed[lane].offset or (now[lane] == ends[lane] and now[lane] - at[0] <= 1))
    }
