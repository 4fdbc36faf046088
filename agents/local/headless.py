"""`geolane up --events N --exit`: replays N events, accounts for each, and prints the result as one
line of JSON. If it is not as it should be, standard error says why, and what to do."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from agents.base.errors import KafkaUnavailable
from agents.base.progress import PrintLine
from agents.base.text import counted
from agents.core.fleet.troubles import TroubleKind
from agents.core.lanes.records import Reason
from agents.core.model.feeds import TroubleRow, TroubleRows
from agents.core.model.placement import Placed, State
from agents.core.model.topology import Partition, WorkerKind
from agents.kafka.offsets import Offsets
from agents.local.demo.replay import Replay
from agents.local.screen import follow_feeds
from agents.local.stack import Stack
from agents.observe.dashboard.figures import Dashboard

QUIET_S = 1.0
STALLED_S = 45.0
PROGRESS_S = 10.0


class RunDelays(msgspec.Struct, frozen=True):
    """`rtt_ms`: of each site to the broker, which is at site `broker_at`."""

    broker_at: str
    rtt_ms: dict[str, float]


class RunOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What `geolane up --events N --exit` prints. `missing`: events that went in and did not come
    out; `duplicates`: that came out more often than they went in; `again`: that were sent once
    more. `dead`: dead letters, by reason in `dead_reasons`. `placed`: events whose place was found.
    `processing_ms`, `visible_ms`: `p50` and `p99` of what nodes need, and of raw to visible.
    `recovery_ms`: until all lanes of the killed node were at work elsewhere. `troubles`: that
    last."""

    events_in: int
    events_clean: int
    filtered: int
    dead: int
    dead_reasons: dict[str, int]
    unplaced: int
    placed: int
    missing: int
    duplicates: int
    again: int
    moves: int
    fences: int
    recovery_ms: float | None
    processing_ms: dict[str, float | None]
    visible_ms: dict[str, float | None]
    seconds: float
    troubles: tuple[TroubleRow, ...]
    delays: RunDelays | None


def print_progress(text: str) -> None:
    """Print progress to standard error; standard output holds only the result."""
    print(text, file=sys.stderr, flush=True)


async def run(stack: Stack, replay: Replay, events: int, kill_at: float | None) -> int:
    """Returns 0 only if nothing is missing or doubled and, after a kill, all lanes moved on."""
    moves, fences = stack.follower.moves, stack.follower.fences
    begun = time.monotonic()
    recovery_ms: float | None = None
    board = Dashboard(stack.base.xmpp.domain)
    async with asyncio.TaskGroup() as tasks:
        progress = tasks.create_task(_print_progress_forever(stack, replay, board))
        following = tasks.create_task(follow_feeds(stack, board))
        sending = tasks.create_task(replay.run())
        if kill_at is not None:
            await replay.wait_until_sent(round(kill_at * events))
            recovery_ms = await kill_and_measure(stack, print_progress)
        await sending
        await wait_until_settled(stack, replay.sent)
        progress.cancel()
        following.cancel()
    a, troubles = stack.accounting, _standing_troubles(board)
    outcome = RunOutcome(
        events_in=a.events_in,
        events_clean=a.clean,
        filtered=a.filtered,
        dead=a.dead,
        dead_reasons=dict(a.reasons),
        unplaced=a.unplaced,
        placed=a.placed,
        missing=a.open_now,
        duplicates=a.duplicates,
        again=a.again,
        moves=stack.follower.moves - moves,
        fences=stack.follower.fences - fences,
        recovery_ms=recovery_ms,
        processing_ms=a.processing.summary(),
        visible_ms=a.visible.summary(),
        seconds=round(a.moved_at - begun, 1),
        troubles=troubles.rows,
        delays=RunDelays(d.broker_at, dict(d.rtt_ms)) if (d := stack.delays) is not None else None,
    )
    print(msgspec.json.encode(outcome).decode(), flush=True)
    whole = not (outcome.missing or outcome.duplicates) and outcome.events_in >= events
    if a.dead or not whole:
        for line in describe_shortfall(
            a.open_now, a.reasons, troubles, stack.base.worker.pipeline, stack.folder.log
        ):
            print_progress(line)
    return 0 if whole and (kill_at is None or recovery_ms is not None) else 1


def describe_shortfall(
    missing: int, reasons: Mapping[str, int], troubles: TroubleRows, pipeline: str, log: Path
) -> list[str]:
    """Why events are missing or dead, and what to do, for people."""
    lines = []
    if missing:
        why = ":" if troubles.total else f", and no trouble was told; see {log}"
        lines.append(f"{counted(missing, 'event')} did not come out{why}")
    lines += [f"{t.severity.value}: {t.text}" for t in troubles.rows]
    if more := troubles.total - len(troubles.rows):
        lines.append(f"and {counted(more, 'more trouble')}; the logs are in {log}")
    if reasons:
        by = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
        lines.append(f"Dead letters: {by}.")
    kinds = {t.kind for t in troubles.rows}
    if Reason.PIPELINE_ERROR in reasons or TroubleKind.LANE_STOPPED in kinds:
        lines.append(
            f"Try the pipeline on your events: geolane pipeline check {pipeline} --events FILE"
        )
    if reasons or TroubleKind.LANE_STOPPED in kinds:
        lines.append(
            "Without --exit the run goes on: `geolane ctl status` and `geolane dead list` tell "
            "more then, and `geolane dead show ID` shows an event with its error."
        )
    return lines


def _standing_troubles(board: Dashboard) -> TroubleRows:
    """The troubles that the leader told last."""
    summary = board.figures_at(time.monotonic()).summary
    told = summary.troubles if summary is not None else None
    return told if told is not None else TroubleRows(0, ())


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


async def _print_progress_forever(stack: Stack, replay: Replay, board: Dashboard) -> None:
    while True:
        await asyncio.sleep(PROGRESS_S)
        a = stack.accounting
        print_progress(
            f"sent {replay.sent}, in {a.in_now}, clean {a.clean}, dead {a.dead}, filtered "
            f"{a.filtered}, open {a.open_now}"
        )
        if rows := (troubles := _standing_troubles(board)).rows:
            more = f" (and {troubles.total - 1} more)" if troubles.total > 1 else ""
            print_progress(f"{rows[0].severity.value}: {rows[0].text}{more}")


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
