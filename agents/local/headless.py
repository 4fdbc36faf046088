"""`geolane up --events N --exit`: replays N events, accounts for each, and prints the result as one
line of JSON."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import orjson

from agents.base.errors import KafkaUnavailable
from agents.base.progress import PrintLine
from agents.base.text import counted
from agents.core.model.placement import Placed, State
from agents.core.model.topology import Partition, WorkerKind
from agents.kafka.offsets import Offsets
from agents.local.demo.replay import Replay
from agents.local.stack import Stack

QUIET_S = 1.0
STALLED_S = 45.0
PROGRESS_S = 10.0


def print_progress(text: str) -> None:
    """Print progress to standard error; standard output holds only the result."""
    print(text, file=sys.stderr, flush=True)


async def run(stack: Stack, replay: Replay, events: int, kill_at: float | None) -> int:
    """Returns 0 only if nothing is missing or doubled and, after a kill, all lanes moved on."""
    moves, fences = stack.follower.moves, stack.follower.fences
    begun = time.monotonic()
    recovery_ms: float | None = None
    async with asyncio.TaskGroup() as tasks:
        progress = tasks.create_task(_print_progress_forever(stack, replay))
        sending = tasks.create_task(replay.run())
        if kill_at is not None:
            await replay.wait_until_sent(round(kill_at * events))
            recovery_ms = await kill_and_measure(stack, print_progress)
        await sending
        await wait_until_settled(stack, replay.sent)
        progress.cancel()
    a = stack.accounting
    result: dict[str, Any] = {  # Any: what JSON holds
        "events_in": a.events_in,
        "events_clean": a.clean,
        "filtered": a.filtered,
        "dead": a.dead,
        "unplaced": a.unplaced,
        "placed": a.placed,
        "missing": a.open_now,
        "duplicates": a.duplicates,
        "again": a.again,
        "moves": stack.follower.moves - moves,
        "fences": stack.follower.fences - fences,
        "recovery_ms": recovery_ms,
        "processing_ms": a.processing.summary(),
        "visible_ms": a.visible.summary(),
        "seconds": round(a.moved_at - begun, 1),
    }
    if stack.delays is not None:
        result["delays"] = {"broker_at": stack.delays.broker_at, "rtt_ms": stack.delays.rtt_ms}
    print(orjson.dumps(result).decode(), flush=True)
    whole = not (result["missing"] or result["duplicates"]) and result["events_in"] >= events
    return 0 if whole and (kill_at is None or recovery_ms is not None) else 1


async def wait_until_settled(stack: Stack, sent: int) -> None:
    """Return when all events that went in have come out and nothing follows, or when nothing has
    moved for 45 s."""
    a = stack.accounting
    while True:
        still_s = time.monotonic() - a.moved_at
        waits = a.open > 0 or (a.unplaced > 0 and stack.has_geo)
        if (a.events_in >= sent and not waits and still_s > QUIET_S) or still_s > STALLED_S:
            return
        await asyncio.sleep(0.1)


async def _print_progress_forever(stack: Stack, replay: Replay) -> None:
    while True:
        await asyncio.sleep(PROGRESS_S)
        a = stack.accounting
        print_progress(
            f"sent {replay.sent}, in {a.in_now}, clean {a.clean}, dead {a.dead}, filtered "
            f"{a.filtered}, open {a.open_now}"
        )


# How long a killed node's lanes pause: until each one's committed offset has grown under another
# owner.

POLL_S = 0.02
LONGEST_S = 120.0


async def kill_and_measure(stack: Stack, say: PrintLine) -> float | None:
    """kill -9 the node with the most lanes. Returns the milliseconds until all of them moved on, or
    None if they did not within 120 s.

    A lane without waiting or new events counts as soon as it has another owner."""
    offsets = Offsets(stack.base.kafka, WorkerKind.NODE.group)
    await offsets.start()
    try:
        victim = stack.busiest_node()
        lanes = stack.follower.lanes_of(victim.name)
        boots = {stack.follower.placed[lane].boot for lane in lanes}
        ends = await offsets.read_end_offsets(lanes)
        begun = time.monotonic()
        stack.kill_process(victim.name)
        say(f"kill -9 {victim.name}, which had {counted(len(lanes), 'lane')}")
        waiting = set(lanes)
        while waiting and time.monotonic() - begun < LONGEST_S:
            await asyncio.sleep(POLL_S)
            placed = {lane: stack.follower.placed[lane] for lane in waiting}
            theirs = {
                lane
                for lane, p in placed.items()
                if p.state is State.ASSIGNED and p.boot not in boots
            }
            if theirs:
                waiting -= await _find_moved_lanes(offsets, theirs, placed, ends)
        took_ms = (time.monotonic() - begun) * 1000
        say(
            f"its lanes moved on after {took_ms:.0f} ms"
            if not waiting
            else f"{counted(len(waiting), 'lane')} did not move on"
        )
        return None if waiting else round(took_ms, 1)
    finally:
        await offsets.stop()


async def _find_moved_lanes(
    offsets: Offsets,
    lanes: set[Partition],
    placed: dict[Partition, Placed],
    ends: dict[Partition, int],
) -> set[Partition]:
    try:
        committed = await offsets.read_committed_offsets(lanes)
        now = await offsets.read_end_offsets(lanes)
    except KafkaUnavailable:
        return set()
    # The offset after a transaction's last record holds its marker, which nobody consumes, so one
    # offset is not a backlog.
    return {
        lane
        for lane in lanes
        if (at := committed.get(lane)) is not None
        and (at[0] > placed[lane].offset or (now[lane] == ends[lane] and now[lane] - at[0] <= 1))
    }
