"""`geolane up --events N --exit`: replay N events, account for each, and say in one line of JSON how it went."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import orjson

from agents.embedded.recovery import kill_and_measure
from agents.embedded.replay import Replay
from agents.embedded.stack import Stack

QUIET_S = 1.0
STALLED_S = 45.0
PROGRESS_S = 10.0


def say(text: str) -> None:
    """Progress goes to standard error: standard output holds the result alone."""
    print(text, file=sys.stderr, flush=True)


async def run(stack: Stack, replay: Replay, events: int, kill_at: float | None) -> int:
    """0 only if nothing is missing and nothing doubled (and, after a kill, all lanes moved on)."""
    moves, fences = stack.follower.moves, stack.follower.fences
    begun = time.monotonic()
    recovery_ms: float | None = None
    async with asyncio.TaskGroup() as tasks:
        progress = tasks.create_task(_progress(stack, replay))
        sending = tasks.create_task(replay.run())
        if kill_at is not None:
            await replay.until(round(kill_at * events))
            recovery_ms = await kill_and_measure(stack, say)
        await sending
        await settled(stack, replay.sent)
        progress.cancel()
    a = stack.accounting
    result: dict[str, Any] = {  # Any: what JSON holds
        "events_in": a.events_in,
        "events_clean": a.clean,
        "filtered": a.filtered,
        "dead": a.dead,
        "unplaced": a.unplaced,
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
    print(orjson.dumps(result).decode(), flush=True)
    whole = not (result["missing"] or result["duplicates"]) and result["events_in"] >= events
    return 0 if whole and (kill_at is None or recovery_ms is not None) else 1


async def settled(stack: Stack, sent: int) -> None:
    """Return when all that went in has come out and nothing follows, or when nothing has moved for 45 s."""
    a = stack.accounting
    while True:
        still_s = time.monotonic() - a.moved_at
        if (a.events_in >= sent and a.open <= 0 and still_s > QUIET_S) or still_s > STALLED_S:
            return
        await asyncio.sleep(0.1)


async def _progress(stack: Stack, replay: Replay) -> None:
    while True:
        await asyncio.sleep(PROGRESS_S)
        a = stack.accounting
        say(
            f"sent {replay.sent}, in {a.in_now}, clean {a.clean}, dead {a.dead}, filtered {a.filtered}, open {a.open_now}"
        )
