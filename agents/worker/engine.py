"""The transactional loop that node, router and geo share (PROTOCOL 2.1, 2.6, 2.7 and 3): outputs
and consumed offsets are committed together, under the one lease of this boot, or not at all.

    gather -> stage (in a thread) -> begin, add, send, commit   (the next is gathered meanwhile)

`Ownership` knows which partitions may be worked, `WorkedPartition` has the progress of each, and
this file advances them. Any doubt about a transaction ends `run` with LeaseLost, and with it the
process.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from agents import settings
from agents.base import log
from agents.base.errors import KafkaUnavailable
from agents.base.worker_thread import WorkThread
from agents.core.model.messages import Arrival, LaneLoad
from agents.core.model.topology import ASIDE
from agents.kafka.offsets import Offsets
from agents.kafka.producer import LeasedProducer
from agents.kafka.refusals import NotSent, TransactionRefused
from agents.worker.arrivals import Arrivals
from agents.worker.lane import Phase, RunningCounts, WorkedPartition
from agents.worker.limits import BatchSizeLimits
from agents.worker.ownership import MISSING_AFTER_S, Ownership
from agents.worker.reader import BATCH_BYTES, Reader, Unreadable
from agents.worker.sizes import SizeBound
from agents.worker.stage import Later, Outbox, Stage, Tally
from agents.worker.worker_engine import Clients, WorkerEngine

IDLE_COMMIT_S = 24 * 3600.0
"""Interval at which an unchanged offset is committed again: brokers forget offsets after 7 days
(PROTOCOL 2.7)."""
PASSED_COMMIT_S = 10.0
"""If only transaction markers have come since the last commit, the offset behind them is committed
after this time. Retention would delete them, and with them the offset at which the next owner
begins."""
TOLD_AFTER_S = 10.0
"""A batch that takes longer is reported, since nothing is committed meanwhile."""
_FIRST_BATCH_BYTES = 256 << 10
_COMMIT_TARGET_S = 1.5
"""A batch's outputs pass in about this time, well within the 5 s that one request may take."""
_LOOK_S = 0.5
_REST_S = 0.2
_ASIDE_AT_ONCE = 2
_HELD = "held: "
_ENDS_S = 1.0
_CLOCK_STEP_MS = 1000.0

_log = log.get_logger("worker.engine")


@dataclass(slots=True)
class _StagedPart:
    """One partition's share of a batch: the offset and counts to commit, the tally, and when its
    last record was appended (epoch ms)."""

    lane: WorkedPartition
    next: int
    counts: RunningCounts
    tally: Tally
    last_ms: int = 0


@dataclass(slots=True)
class _Staged:
    """A batch that is ready to be sent. `bytes`: of the values that it was made from; 0: not
    known."""

    outboxes: list[Outbox]
    parts: list[_StagedPart]
    bytes: int = 0

    def merge_batches(self) -> dict[tuple[str, int], list[Any]]:
        """The record batches to send, by (topic, partition)."""
        found: dict[tuple[str, int], list[Any]] = {}
        for outbox in self.outboxes:
            for to, batches in outbox.batches.items():
                found.setdefault(to, []).extend(batches)
        return found


@dataclass(slots=True, eq=False)
class _Aside:
    """One lane's records that take long: the work left to do, the lane's offset before them, and
    the one after them."""

    later: Later
    start: int
    end: int
    last_ms: int
    outbox: Outbox
    tally: Tally | None = None


class Engine(WorkerEngine):
    """One worker's data plane for one boot. `run` it in a task; the control side calls
    `execute_command` and `take_load`. `leave` is called when the coordinator orders a restart: the
    process must hand over, then end."""

    def __init__(
        self,
        kafka: settings.Kafka,
        worker: settings.Worker,
        stage: Stage,
        boot: str,
        *,
        leave: Callable[[], None] = lambda: None,
        idle_commit_s: float = IDLE_COMMIT_S,
        missing_after_s: float = MISSING_AFTER_S,
    ) -> None:
        super().__init__(
            kafka,
            Ownership(
                stage.topic,
                boot,
                leave=leave,
                begun=stage.forget_partition,
                released=self._cancel_aside,
                missing_after_s=missing_after_s,
            ),
        )
        self._worker = worker
        self._stage = stage
        self._idle_commit_s = idle_commit_s
        self._reading: dict[int, WorkedPartition] = {}
        self._reread = False
        self._aside: dict[WorkedPartition, _Aside] = {}
        self._aside_slots = asyncio.Semaphore(_ASIDE_AT_ONCE)
        self._sent_at = self._busy_at = 0.0
        self._held = ""
        self._limits = BatchSizeLimits()
        self._batch_bound = SizeBound(_FIRST_BATCH_BYTES, BATCH_BYTES, _COMMIT_TARGET_S)
        self._arrivals = Arrivals()
        self._load_at = time.monotonic()

    # The control side

    def apply_settings(self, worker: settings.Worker) -> None:
        """Use these settings from the next batch on."""
        self._worker = worker

    def take_load(self) -> tuple[tuple[LaneLoad, ...], tuple[Arrival, ...]]:
        """For telemetry: each owned partition's rate, lag and latencies since the last call, and
        (routers) the arrivals for each lane. Latency is from the append in raw to the commit, by
        the brokers' clock as far as we know it: good enough to steer by, not to report."""
        now = time.monotonic()
        over_s, self._load_at = now - self._load_at, now
        held = self._describe_cut_off(now) or self._held
        if (busy_s := self._time_in_stage_s()) > TOLD_AFTER_S:
            held = f"held: a batch is not done after {busy_s:.0f} s"
        lanes = tuple(
            lane.take_load(over_s, self._describe_lane_trouble(lane) or held)
            for lane in self.owned_partitions()
        )
        return lanes, self._arrivals.take_rates(over_s)

    @property
    def code(self) -> str:
        """The stage's code."""
        return self._stage.code

    @property
    def lost(self) -> int:
        """How many calls of the stage were lost with their process."""
        return self._stage.lost

    @property
    def pids(self) -> Sequence[int]:
        """The stage's other processes."""
        return self._stage.pids

    def _time_in_stage_s(self) -> float:
        """How long the present batch has been in the stage; 0 if there is none."""
        return time.monotonic() - self._busy_at if self._busy_at else 0.0

    def _describe_lane_trouble(self, lane: WorkedPartition) -> str:
        aside = self._aside.get(lane)
        said = aside.later.describe_trouble() if aside is not None else ""
        if not said and lane.behind:
            said = self._describe_slow_fetch(lane)
        return f"{ASIDE}{said}" if said else ""

    def _describe_slow_fetch(self, lane: WorkedPartition) -> str:
        if self._reader is None or self._reading.get(lane.partition.n) is not lane:
            return ""
        return self._reader.describe_trouble(lane.partition.n)

    # The life of this boot

    @property
    def _topic_names(self) -> Sequence[str]:
        return self._stage.topic.partition("/")[2], *self._stage.outputs

    @property
    def _group(self) -> str:
        return self._stage.group

    @property
    def _is_reading(self) -> bool:
        return bool(self._reading)

    def _make_reader(self) -> Reader:
        return Reader(self._kafka, self._stage.topic, rtt_ms_to=self._rtt_ms_to)

    async def _work_owned(self, clients: Clients, tasks: asyncio.TaskGroup) -> None:
        tasks.create_task(self._measure_unread_lag(clients.offsets))
        await self._run_transactions(clients.reader, clients.producer, clients.thread, tasks)

    def _end_work(self) -> None:
        for aside in self._aside.values():  # in threads, since `cancel` may block
            threading.Thread(target=aside.later.cancel, daemon=True).start()

    async def _measure_unread_lag(self, offsets: Offsets) -> None:
        """Measure the lag of lanes that the reader does not read at present: those worked aside,
        those held, those whose fetches do not pass, and all lanes while a batch takes long."""
        slow: set[WorkedPartition] = set()
        while True:
            await asyncio.sleep(_ENDS_S)
            now = time.monotonic()
            held = [lane for lane in self._own.lanes.values() if lane.held_until > now]
            busy = self._reading.values() if self._time_in_stage_s() > _ENDS_S else ()
            slow = self._find_slow_lanes(slow)
            far = [lane for lane in self._reading.values() if self._describe_slow_fetch(lane)]
            unread = {lane.partition: lane for lane in (*self._aside, *held, *busy, *far)}
            if not unread:
                continue
            try:
                ends = await offsets.read_end_offsets(unread)
            except KafkaUnavailable as e:
                _log.warning("offsets_unavailable", error=str(e))
                continue
            for lane in unread.values():
                if (end := ends.get(lane.partition)) is not None:
                    lane.behind, lane.end = max(0, end - lane.next), end

    def _find_slow_lanes(self, before: set[WorkedPartition]) -> set[WorkedPartition]:
        """The lanes that have events whose fetches do not pass; each change since `before` is
        logged."""
        said = {lane: self._describe_slow_fetch(lane) for lane in self._reading.values()}
        slow = {lane for lane, why in said.items() if why and lane.behind}
        for lane in slow - before:
            self.meters.faults += 1
            _log.error("partition_held_up", partition=lane.partition.label, why=said[lane])
        for lane in (before - slow) & said.keys():
            _log.info("partition_read_again", partition=lane.partition.label)
        return slow

    # The loop

    async def _run_transactions(
        self, reader: Reader, producer: LeasedProducer, thread: WorkThread, tasks: asyncio.TaskGroup
    ) -> None:
        sending: asyncio.Task[bool] | None = None
        while True:
            await self._assign_working_partitions(reader)
            staged = await self._stage_next_batch(reader, producer, thread, tasks, sending)
            # One transaction at a time. If it was not sent, the batch staged behind it is void,
            # too: it begins at offsets that were not committed.
            if sending is not None and (staged is not None or sending.done()):
                if not await sending:
                    staged = None
                    await self._rewind_to_committed()
                sending = None
            if staged is not None:
                self._sent_at = time.monotonic()
                sending = tasks.create_task(self._commit_batch(producer, staged))

    async def _assign_working_partitions(self, reader: Reader) -> None:
        """Make the reader read exactly the partitions that are worked now."""
        self._own.told.clear()
        for lane in list(self._own.lanes.values()):
            if self.tenure.is_asked_back(lane.partition.n):
                if not lane.is_started:
                    await self._own.release_partition(lane, lane.told)
                elif lane.phase is not Phase.LEAVING:
                    lane.phase, lane.asked_at = Phase.LEAVING, time.monotonic()
                    self._own.pending.set()
        for lane in [lane for lane in self._aside if lane.phase is not Phase.WORKING]:
            self._cancel_aside(lane)
        now = time.monotonic()
        working = {
            n: lane
            for n, lane in self._own.lanes.items()
            if lane.phase is Phase.WORKING and lane not in self._aside and lane.held_until <= now
        }
        if working != self._reading or self._reread:
            self._reading, self._reread = working, False
            reader.assign_partitions({n: lane.next for n, lane in working.items()})

    async def _stage_next_batch(
        self,
        reader: Reader,
        producer: LeasedProducer,
        thread: WorkThread,
        tasks: asyncio.TaskGroup,
        sending: asyncio.Task[bool] | None,
    ) -> _Staged | None:
        """Stage the next batch; None if there is nothing to send. Unless it is full, it stays open
        until the transaction `sending` is done."""
        now = time.monotonic()
        if finished := self._take_finished_aside():
            return finished
        if again := [lane for lane in self._own.lanes.values() if lane.recommit and lane.is_quiet]:
            # Offsets only, since their records are committed (RECOMMIT_AFTER_S).
            for lane in again:
                lane.recommit = False
            return _Staged(
                [], [_StagedPart(lane, lane.next, lane.counts, Tally()) for lane in again]
            )
        if not self._reading:
            await _wait_for_event(self._own.told, _LOOK_S)
            return None
        try:
            due = self._sent_at + self._worker.commit_gap_ms / 1000
            got = await reader.gather_records(
                self._worker.batch_records,
                due,
                now + _LOOK_S,
                self._own.told.is_set,
                max_bytes=self._batch_bound.bytes,
                under_way=sending,
            )
            ends = await reader.positions_of(self._reading)
        except Unreadable as e:
            stopped = self._reading.get(e.partition.n)
            if stopped is not None:  # else the error was in flight when the partition stopped
                self._own.stop_lane(stopped, str(e))
            self._reread = True
            return None
        except KafkaUnavailable as e:
            _log.warning("fetch_failed", error=str(e))
            self._reread = True
            await asyncio.sleep(_REST_S)
            return None
        now_ms = self.clock.now_ms() if reader.is_connected else None
        for n, lane in self._reading.items():
            lane.note_position(
                reader.last_stable_offset(n),
                ends[n],
                got[n][0].timestamp if n in got else None,
                now_ms,
            )
        parts = (
            await self._stage_records(got, ends, reader.gathered_bytes, producer, thread, tasks)
            if got
            else _Staged([], [])
        )
        # A producer that owes markers writes them before its next transaction, so it gets one now.
        idle_before = time.monotonic() - (0.0 if producer.may_lack_markers else self._idle_commit_s)
        passed_before = time.monotonic() - PASSED_COMMIT_S
        for n, lane in self._reading.items():
            if n in got or not lane.is_quiet:
                continue
            behind = lane.passed > max(lane.committed, 0) and lane.committed_at < passed_before
            if lane.committed_at < idle_before or behind:
                lane.next = max(lane.next, lane.passed)
                parts.parts.append(_StagedPart(lane, lane.next, lane.counts, Tally()))
        return parts if parts.parts else None

    async def _stage_records(
        self,
        got: dict[int, list[Any]],
        ends: dict[int, int],
        size: int,
        producer: LeasedProducer,
        thread: WorkThread,
        tasks: asyncio.TaskGroup,
    ) -> _Staged:
        outbox = self._make_outbox(producer)

        def process_records() -> list[tuple[int, Tally]]:
            return self._stage.process_batch(got, outbox)

        staged = _Staged([outbox], [], size)
        self._busy_at = time.monotonic()
        try:
            tallies = await thread.run(process_records)
        finally:
            self._busy_at = 0.0
        for n, tally in tallies:
            lane, last_ms = self._reading[n], got[n][-1].timestamp
            if tally.later is not None:
                made = self._make_outbox(producer)
                aside = self._aside[lane] = _Aside(tally.later, lane.next, ends[n], last_ms, made)
                tasks.create_task(self._work_lane_aside(lane, aside))
                continue
            if outbox.stuck:  # the other lanes' outputs are staged again, without the stuck lane
                self._reread = True
                if n in outbox.stuck:
                    self._hold_lane(lane, outbox.stuck[n])
                continue
            end, taken = ends[n], got[n]
            if tally.upto is not None:
                self._reread, staged.bytes = True, 0
                end, taken = tally.upto, [r for r in taken if r.offset < tally.upto]
                if not taken:
                    self._hold_lane(lane, tally.waits, ASIDE)
                    continue
            if (part := self._advance_lane(lane, end, tally, taken[-1].timestamp)) is not None:
                staged.parts.append(part)
        return staged

    def _make_outbox(self, producer: LeasedProducer) -> Outbox:
        return Outbox(producer.new_batch, int(time.time() * 1000), self._limits.known_limits())

    def _advance_lane(
        self, lane: WorkedPartition, end: int, tally: Tally, last_ms: int
    ) -> _StagedPart | None:
        if tally.fault:
            self._own.stop_lane(lane, tally.fault)
            return None
        lane.next = end
        lane.counts = lane.counts.plus_batch(tally.out, tally.filtered, tally.dead)
        return _StagedPart(lane, lane.next, lane.counts, tally, last_ms)

    # Lanes in trouble: worked aside, so that the others continue

    async def _work_lane_aside(self, lane: WorkedPartition, aside: _Aside) -> None:
        thread = WorkThread(f"aside-{lane.partition.n}")
        try:
            if self._aside_slots.locked():
                await thread.run(aside.later.release_resources)
            async with self._aside_slots:
                if self._aside.get(lane) is aside:
                    aside.tally = await thread.run(partial(aside.later.run, aside.outbox))
        finally:
            thread.stop()
        if aside.tally is None and self._aside.get(lane) is aside:
            del self._aside[lane]
        self._own.told.set()

    def _take_finished_aside(self) -> _Staged | None:
        """Batches that were finished aside and are still valid; their lanes are read again."""
        staged = _Staged([], [])
        for lane, aside in list(self._aside.items()):
            if aside.tally is None:
                continue
            del self._aside[lane]
            if lane.phase is not Phase.WORKING or lane.next != aside.start:
                continue
            if aside.outbox.stuck:
                self._hold_lane(lane, *aside.outbox.stuck.values())
                continue
            part = self._advance_lane(lane, aside.end, aside.tally, aside.last_ms)
            if part is not None:
                staged.parts.append(part)
                staged.outboxes.append(aside.outbox)
        return staged if staged.parts else None

    def _cancel_aside(self, lane: WorkedPartition) -> None:
        if (aside := self._aside.pop(lane, None)) is not None:
            threading.Thread(target=aside.later.cancel, daemon=True).start()

    async def _commit_batch(self, producer: LeasedProducer, staged: _Staged) -> bool:
        """Commit a batch in one transaction. False: nothing is committed, and it may be retried.
        Raises LeaseLost."""
        offsets = {part.lane.partition: (part.next, part.counts.encode()) for part in staged.parts}
        batches = staged.merge_batches()
        began, started_ms = time.monotonic(), self.clock.now_ms()
        try:
            await producer.send_transaction(batches, offsets, self._stage.group)
        except TransactionRefused as e:
            self.meters.aborts += 1
            self._handle_refusals(e, staged)
            return False
        except NotSent as e:
            self.meters.aborts += 1
            _log.warning("not_sent", error=str(e))
            self._held = f"held: {e}"
            return False
        self._held = ""
        # Progress is recorded only after the commit: a rewind goes back to it.
        now, now_ms = time.monotonic(), self.clock.now_ms()
        if abs(now_ms - started_ms - 1000 * (now - began)) > _CLOCK_STEP_MS:
            self._forget_times()
        self.meters.commit.add([now - began])
        if staged.bytes:
            self._batch_bound.note_passed(staged.bytes, now - began)
        for part in staged.parts:
            lane, tally = part.lane, part.tally
            lane.committed, lane.committed_counts, lane.committed_at = part.next, part.counts, now
            lane.done += tally.out + tally.filtered + tally.dead
            lane.end_hold()
            lane.clear_ms = max(lane.clear_ms, part.last_ms)
            took_ms = [max(0.0, now_ms - raw_ms) for raw_ms in tally.raw_ms]
            lane.latencies_ms.extend(took_ms)
            self.meters.count_batch(
                lane.partition.n, tally.out, tally.filtered, tally.dead, took_ms
            )
            self._arrivals.count_batch(lane.partition.n, tally.arrivals, tally.raw_ms)
        return True

    def _forget_times(self) -> None:
        """The brokers' clock is known better now, or our own was set: times noted before mean
        nothing."""
        for lane in self._own.lanes.values():
            lane.clear_ms = 0.0

    def _handle_refusals(self, refused: TransactionRefused, staged: _Staged) -> None:
        """Learn the limit of a topic that refuses a batch as too large: batches become smaller, or
        the record becomes a dead letter. After any other refusal, hold the lanes that write to the
        partition; the others continue."""
        _log.warning("refused", error=str(refused), places=len(refused.refusals))
        for refusal in refused.refusals:
            if refusal.too_large:
                self._limits.learn_limit(refusal)
                continue
            topic, n = refusal.place
            numbers = set[int]().union(*(x.writers.get(refusal.place, ()) for x in staged.outboxes))
            for lane in [part.lane for part in staged.parts if part.lane.partition.n in numbers]:
                self._hold_lane(
                    lane, f"{topic}/{n} refuses the output of {lane.partition.label}: {refusal.why}"
                )

    def _hold_lane(self, lane: WorkedPartition, why: str, prefix: str = _HELD) -> None:
        if not lane.holds:
            self.meters.faults += 1
            _log.error("partition_held", partition=lane.partition.label, epoch=lane.epoch, why=why)
        lane.hold_with_backoff(f"{prefix}{why}", time.monotonic())

    async def _rewind_to_committed(self) -> None:
        """Set every partition back to its committed offset: neither the last batch nor the one
        staged behind it was sent."""
        before = (lane.after for lane in self._own.lanes.values() if lane.after is not None)
        for lane in (*self._reading.values(), *self._own.lanes.values(), *before):
            if lane.is_started:
                lane.rewind_to_committed()
                self._stage.forget_partition(lane.partition.n)
        for lane, aside in list(self._aside.items()):
            if lane.next != aside.start:  # the batch before it was not committed
                self._cancel_aside(lane)
        self._reread = True
        await asyncio.sleep(_REST_S)


async def _wait_for_event(event: asyncio.Event, bound_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(bound_s):
            await event.wait()
