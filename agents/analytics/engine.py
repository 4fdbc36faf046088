"""Hotspots in process: whoever owns the one partition of the topic `hotspots` reads all of
`events.lanes` and tells what rises (docs/hotspots.md).

    read -> count, test (in a thread) -> one transaction: rises, hotspots, progress, positions

What was found is kept until it is committed; nothing is read meanwhile, so a Kafka that is away
costs neither a hotspot nor memory. After a crash, the next owner restores the newest snapshot,
reads again what came after it, and keeps silent about what was told
(agents/analytics/checkpoint.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agents import settings
from agents.analytics.checkpoint import (
    PROGRESS,
    CheckpointUnusable,
    Progress,
    Snapshot,
    join_snapshot,
    split_snapshot,
)
from agents.analytics.detection import Detection, Parameters
from agents.base import log
from agents.base.errors import KafkaUnavailable, LeaseLost
from agents.base.supervisor import first_leaf_error
from agents.base.worker_thread import WorkThread
from agents.core.lanes.tenure import Tenure
from agents.core.model.hotspots import Hotspot, Rise
from agents.core.model.messages import Arrival, LaneLoad, WorkerAnswer, WorkerCommand
from agents.core.model.topology import ASIDE, MAIN, TOPIC_LANES, Partition
from agents.kafka.compacted import read_table
from agents.kafka.connection import retry_until_available
from agents.kafka.offsets import Offsets
from agents.kafka.producer import LeasedProducer
from agents.kafka.refusals import NotSent, TransactionRefused
from agents.worker.lane import Meters, Phase, RunningCounts, WorkedPartition
from agents.worker.ownership import Ownership
from agents.worker.reader import Reader, Unreadable
from agents.worker.stage import Outbox

BATCH_RECORDS = 20_000
LOOK_S = 0.2
"""How often the watermark is looked at when nothing comes."""
COMMIT_S = 1.0
"""How often progress is committed if nothing was found; what is found is committed at once."""
SNAPSHOT_S = 10.0
SNAPSHOT_SHARE = 0.05
"""Snapshots take up to this share of the time: with many cells they are made more seldom."""
HISTORY_S = 3600.0
"""Where there is no checkpoint, it begins with what was appended in the last hour."""
MOST_PENDING = 1_000_000
"""Counts of slots that are not closed. Beyond, only the partitions that hold the watermark back are
read."""
SHOWN_S = 10.0
"""How long the last owner's last transaction may take to show in `hotspots.state`."""
UNSEEN_S = 15.0
LATE_S, LATE_EVENTS = 10.0, 100
_REST_S = 0.2

_log = log.get_logger("analytics.engine")


@dataclass(frozen=True, slots=True)
class Topics:
    """Kafka's names; only tests, which share a broker, use others."""

    lanes: str = TOPIC_LANES
    hotspots: str = "hotspots"
    rises: str = "hotspots.rises"
    state: str = "hotspots.state"
    group: str = "geolane-analytics"


@dataclass(slots=True)
class _Work:
    """What one ownership works with. `positions`: the offset behind the last record counted, by
    partition of `events.lanes`. `heard_at`: when each partition last had a record (monotonic).
    `count`: transactions so far. `stopped`: partitions that cannot be read, and why.
    `late_at`, `late_of`, `late`: when it was looked how many are late, of how many, and how many
    were; `late_share`: of those between the last two looks."""

    detection: Detection
    positions: dict[int, int]
    heard_at: dict[int, float]
    count: int
    snapshot: Snapshot
    counts: RunningCounts
    rises: list[Rise] = field(default_factory=list)
    changes: list[Hotspot] = field(default_factory=list)
    stopped: dict[int, str] = field(default_factory=dict)
    committed_at: float = 0.0
    snapshot_at: float = 0.0
    snapshot_took_s: float = 0.0
    late_at: float = 0.0
    late_of: int = 0
    late: int = 0
    late_share: float = 0.0


class HotspotEngine:
    """One analytics worker's data plane for one boot; the same calls as those of `Engine`."""

    code, pids, lost = "", (), 0

    def __init__(
        self,
        kafka: settings.Kafka,
        analytics: Parameters,
        boot: str,
        *,
        leave: Callable[[], None] = lambda: None,
        topics: Topics | None = None,
        snapshot_s: float = SNAPSHOT_S,
    ) -> None:
        self._kafka, self._analytics = kafka, analytics
        self._topics = topics or Topics()
        self._snapshot_s = snapshot_s
        self._own = Ownership(
            f"{MAIN}/{self._topics.hotspots}",
            boot,
            leave=leave,
            begun=lambda n: None,
            released=lambda lane: None,
        )
        self._reader: Reader | None = None
        self._load_at = time.monotonic()

    # The control side

    @property
    def tenure(self) -> Tenure:
        return self._own.tenure

    @property
    def meters(self) -> Meters:
        return self._own.meters

    async def execute_command(self, command: WorkerCommand) -> WorkerAnswer:
        """As `Ownership.execute_command`."""
        return await self._own.execute_command(command)

    def owned_partitions(self) -> list[WorkedPartition]:
        """The one partition, if this worker owns it, with its progress."""
        return self._own.owned_partitions()

    def apply_settings(self, worker: settings.Worker) -> None:
        """Nothing to do: the tuned settings are those of nodes and routers."""

    def take_load(self) -> tuple[tuple[LaneLoad, ...], tuple[Arrival, ...]]:
        """For telemetry: events/s counted since the last call, and how many records wait."""
        now = time.monotonic()
        over_s, self._load_at = now - self._load_at, now
        return tuple(lane.take_load(over_s, "") for lane in self.owned_partitions()), ()

    @property
    def kafka_up(self) -> bool:
        """Whether there is a connection to a broker now."""
        return self._reader is not None and self._reader.is_connected

    # The life of this boot

    async def run(self) -> None:
        """Wait for the lease, then work until cancelled. Raises LeaseLost: the process must end
        (PROTOCOL 2.1)."""
        reader = self._reader = Reader(self._kafka, f"{MAIN}/{self._topics.lanes}")
        offsets = Offsets(self._kafka, self._topics.group)
        thread = WorkThread("hotspots")
        producer: LeasedProducer | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._own.end_when_ordered())
                await retry_until_available(reader.start, _log_unavailable)
                await retry_until_available(offsets.start, _log_unavailable)
                await self._own.leased.wait()
                if self.tenure.lease is None:
                    raise LeaseLost("no lease")
                producer = LeasedProducer(self._kafka, self.tenure.lease)
                await retry_until_available(producer.start, _log_unavailable)
                tasks.create_task(self._own.watch_committed_offsets(offsets))
                handed_over: _Work | None = None
                while True:
                    if (lane := self._find_working()) is not None:
                        if (work := await self._begin(lane, reader, offsets)) is not None:
                            await self._detect(lane, work, reader, offsets, producer, thread)
                            handed_over = work
                    elif (left := self._find_uncommitted()) is not None and handed_over:
                        left.recommit = False  # the group's offsets were deleted meanwhile
                        await self._commit(left, handed_over, producer, thread, snapshot=False)
                    else:
                        await self._wait_until_told()
        except BaseExceptionGroup as group:
            lost, _ = group.split(LeaseLost)
            raise first_leaf_error(lost) if lost is not None else group from None
        finally:
            thread.stop()
            stops = [reader.stop(), offsets.stop()]
            await asyncio.gather(*stops, *([producer.stop()] if producer is not None else []))

    def _find_working(self) -> WorkedPartition | None:
        return next((x for x in self._own.lanes.values() if x.phase is Phase.WORKING), None)

    def _find_uncommitted(self) -> WorkedPartition | None:
        """What is leaving and whose commit does not show."""
        return next((x for x in self._own.lanes.values() if x.recommit and x.is_started), None)

    async def _wait_until_told(self) -> None:
        """Wait for a change of what this worker owns; let go what was never begun."""
        for lane in list(self._own.lanes.values()):
            if self.tenure.is_asked_back(lane.partition.n) and not lane.is_started:
                await self._own.release_partition(lane, lane.told)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._own.told.wait()
        self._own.told.clear()

    # Begin: the checkpoint, or an hour of history

    async def _begin(self, lane: WorkedPartition, reader: Reader, offsets: Offsets) -> _Work | None:
        """Restore the checkpoint of the last owner. None: Kafka is away, or the last owner's
        transaction does not show yet; try again."""
        try:
            rows = await read_table(self._kafka, self._topics.state)
            progress = Progress.decode(rows[PROGRESS]) if PROGRESS in rows else None
            behind = max(lane.committed, 0) - (progress.count if progress else 0)
            waited_s = time.monotonic() - lane.committed_at
            if behind > 0 and waited_s < SHOWN_S:
                await asyncio.sleep(_REST_S)  # its markers come a moment after the offsets'
                return None
            if progress is None or behind > 0:
                if behind > 0:
                    found = progress.count if progress else 0
                    raise CheckpointUnusable(
                        f"transaction {lane.committed} was committed, but hotspots.state only has "
                        f"transaction {found}: was the topic deleted?"
                    )
                return await self._begin_anew(lane, reader, offsets)
            return self._restore(lane, progress, join_snapshot(rows, progress.snapshot))
        except CheckpointUnusable as e:
            _log.error("checkpoint_unusable", why=str(e), then="begin with the last hour")
            return await self._begin_anew(lane, reader, offsets)
        except KafkaUnavailable as e:
            _log_unavailable(e)
            await asyncio.sleep(_REST_S)
            return None

    async def _begin_anew(self, lane: WorkedPartition, reader: Reader, offsets: Offsets) -> _Work:
        """Begin with the last hour. Raises KafkaUnavailable."""
        topic = f"{MAIN}/{self._topics.lanes}"
        lanes = [Partition(topic, n) for n in await reader.find_partitions()]
        since_ms = round((time.time() - HISTORY_S) * 1000)
        begins = await offsets.read_offsets_since(since_ms, lanes)
        ends = await offsets.read_end_offsets(lanes)
        positions = {p.n: begins[p] if begins[p] >= 0 else ends[p] for p in lanes}
        _log.info("begun_anew", partitions=len(positions))
        return self._made_work(
            lane, Detection.of_settings(self._analytics), positions, Snapshot(0, 0, {})
        )

    def _restore(self, lane: WorkedPartition, progress: Progress, saved: Any) -> _Work:
        """Go on from a checkpoint. Raises CheckpointUnusable."""
        detection = Detection.of_settings(self._analytics)
        try:
            detection.detector.restore(saved)
        except (KeyError, ValueError, TypeError) as e:
            raise CheckpointUnusable(f"the snapshot is not one of this version: {e}") from e
        detection.told_s = progress.told_s
        detection.lifecycle.open = {h.id: h for h in progress.open}
        _log.info(
            "restored",
            transaction=progress.count,
            cells=len(detection.detector.keys),
            open=len(progress.open),
        )
        return self._made_work(
            lane, detection, dict(progress.snapshot.positions), progress.snapshot
        )

    def _made_work(
        self,
        lane: WorkedPartition,
        detection: Detection,
        positions: dict[int, int],
        snapshot: Snapshot,
    ) -> _Work:
        now = time.monotonic()
        return _Work(
            detection,
            positions,
            dict.fromkeys(positions, now),
            max(lane.committed, 0),
            snapshot,
            lane.counts,
            snapshot_at=now if snapshot.id else 0.0,
            late_at=now,
            late_of=lane.counts.taken,
            late=detection.detector.slots.late,
        )

    # The loop

    async def _detect(
        self,
        lane: WorkedPartition,
        work: _Work,
        reader: Reader,
        offsets: Offsets,
        producer: LeasedProducer,
        thread: WorkThread,
    ) -> None:
        """Work until the partition is asked back; then commit everything, for the next owner."""
        reading = dict[int, int]()
        while not self.tenure.is_asked_back(lane.partition.n):
            if self._own.lanes.get(lane.partition.n) is not lane:
                return
            wanted = self._partitions_to_read(work, reader)
            if wanted.keys() != reading.keys():
                reader.assign_partitions(wanted)
            reading = wanted
            try:
                await self._read_once(lane, work, reader, thread)
            except Unreadable as e:
                reading = {}
                await self._skip_or_stop(work, e, offsets)
                continue
            except KafkaUnavailable as e:
                _log_unavailable(e)
                reading = {}
                await asyncio.sleep(_REST_S)
                continue
            lane.fault = self._describe_unread(work, reader) or self._describe_late(work)
            now = time.monotonic()
            if work.rises or work.changes or now - work.committed_at >= COMMIT_S:
                due = self._is_snapshot_due(work, now)
                await self._commit(lane, work, producer, thread, snapshot=due)
        await self._commit(lane, work, producer, thread, snapshot=True)
        lane.phase, lane.asked_at = Phase.LEAVING, time.monotonic()
        self._own.pending.set()

    def _partitions_to_read(self, work: _Work, reader: Reader) -> dict[int, int]:
        """The partitions to read, with their positions: all, or those that hold the watermark back
        if too many counts wait for it."""
        for n in reader.known_partitions()[len(work.positions) :]:
            work.positions[n], work.heard_at[n] = 0, time.monotonic()
        readable = {n: at for n, at in work.positions.items() if n not in work.stopped}
        slots = work.detection.detector.slots
        if len(slots.pending.slot_s) < MOST_PENDING:
            return readable
        lowest = min((slots.high_ms.get(n, -1) for n in readable), default=-1)
        return {n: at for n, at in readable.items() if slots.high_ms.get(n, -1) <= lowest + 1000}

    async def _read_once(
        self, lane: WorkedPartition, work: _Work, reader: Reader, thread: WorkThread
    ) -> None:
        """Read what there is, and test the slots that it closes. Raises Unreadable,
        KafkaUnavailable."""
        now = time.monotonic()
        got = await reader.gather_records(BATCH_RECORDS, now, now + LOOK_S, self._own.told.is_set)
        self._own.told.clear()
        assigned = [n for n in work.positions if reader.last_stable_offset(n) is not None]
        positions = await reader.positions_of(assigned)
        now = time.monotonic()
        ends = {n: reader.last_stable_offset(n) or 0 for n in assigned}
        idle_s = self._analytics.idle_s
        waited_for = [
            n
            for n in work.positions
            if n not in work.stopped
            and (
                n in got or positions.get(n, 0) < ends.get(n, 1) or now - work.heard_at[n] <= idle_s
            )
        ]

        def count_and_test() -> tuple[int, list[Rise], list[Hotspot]]:
            late = work.detection.detector.slots.late
            valid = sum(work.detection.count_records(n, some) for n, some in got.items())
            counted = valid - (work.detection.detector.slots.late - late)
            return counted, *work.detection.advance(waited_for)

        counted, rises, changes = await thread.run(count_and_test)
        work.heard_at |= dict.fromkeys(got, time.monotonic())  # our own work makes nobody idle
        records = sum(map(len, got.values()))
        work.positions |= positions
        work.counts = work.counts.plus_batch(counted, records - counted, 0)
        work.rises += rises
        work.changes += changes
        lane.done += records
        lane.behind = sum(max(0, end - positions[n]) for n, end in ends.items())
        lane.end = max(lane.committed, 0) + lane.behind

    async def _skip_or_stop(self, work: _Work, unreadable: Unreadable, offsets: Offsets) -> None:
        """Go on where the log begins if our position is not in it any more; stop reading the
        partition if it is."""
        part, at = unreadable.partition, work.positions[unreadable.partition.n]
        try:
            begin = (await offsets.read_beginning_offsets([part]))[part]
            end = (await offsets.read_end_offsets([part]))[part]
        except KafkaUnavailable as e:
            _log_unavailable(e)
            return
        self.meters.faults += 1
        if begin <= at <= end:
            work.stopped[part.n] = str(unreadable)
            _log.error("lane_not_read", lane=part.n, why=str(unreadable))
            return
        work.positions[part.n] = begin
        _log.error("records_are_gone", lane=part.n, wanted=at, begins=begin, ends=end)

    def _describe_unread(self, work: _Work, reader: Reader) -> str:
        """What people must know of lanes that are not read."""
        long_ago = time.monotonic() - UNSEEN_S
        unread = dict(work.stopped)
        for n in work.positions:
            if reader.last_stable_offset(n) is None and work.heard_at[n] < long_ago:
                unread.setdefault(n, f"no broker has answered for it for {UNSEEN_S:g} s")
        if not unread:
            return ""
        n, why = min(unread.items())
        more = f" (and {len(unread) - 1} more lanes)" if len(unread) > 1 else ""
        return f"{ASIDE}lane {n} is not read: {why}{more}"

    def _describe_late(self, work: _Work) -> str:
        """What people must know if most events of the last LATE_S were late."""
        now, late = time.monotonic(), work.detection.detector.slots.late
        if now - work.late_at >= LATE_S:
            came = work.counts.taken - work.late_of
            share = (late - work.late) / came if came >= LATE_EVENTS else 0.0
            work.late_share = share
            work.late_at, work.late_of, work.late = now, work.counts.taken, late
        if work.late_share <= 0.5:
            return ""
        return (
            f"{ASIDE}{work.late_share:.0%} of the events are late and not counted: raise "
            f"analytics.lateness_s (now {self._analytics.lateness_s:g} s)"
        )

    def _is_snapshot_due(self, work: _Work, now: float) -> bool:
        every_s = max(self._snapshot_s, work.snapshot_took_s / SNAPSHOT_SHARE)
        return not work.snapshot.id or now - work.snapshot_at >= every_s

    async def _commit(
        self,
        lane: WorkedPartition,
        work: _Work,
        producer: LeasedProducer,
        thread: WorkThread,
        *,
        snapshot: bool,
    ) -> None:
        """Commit what was found and how far it has come; retry until it is done. Raises
        LeaseLost."""
        began = time.monotonic()
        state = list[tuple[bytes, bytes | None]]()
        made = work.snapshot
        if snapshot:
            number = work.snapshot.id + 1
            before = work.snapshot.chunks
            state = await thread.run(
                lambda: list(split_snapshot(number, work.detection.detector.save(), before))
            )
            chunks = sum(1 for _, value in state if value is not None)
            made = Snapshot(number, chunks, dict(work.positions))
        progress = Progress(
            work.count + 1,
            work.detection.told_s,
            made,
            list(work.detection.lifecycle.open.values()),
        )
        state.append((PROGRESS, progress.encode()))
        while True:
            if await self._try_commit(lane, work, producer, state):
                break
            await asyncio.sleep(_REST_S)
        now = time.monotonic()
        self.meters.commit.add([now - began])
        self.meters.count_batch(
            0,
            work.counts.out - lane.committed_counts.out,
            work.counts.filtered - lane.committed_counts.filtered,
            0,
            (),
        )
        work.rises, work.changes, work.count = [], [], work.count + 1
        work.snapshot, work.committed_at = made, now
        if snapshot:
            work.snapshot_at, work.snapshot_took_s = now, now - began
        lane.committed = lane.next = work.count
        lane.committed_counts, lane.committed_at = work.counts, now

    async def _try_commit(
        self,
        lane: WorkedPartition,
        work: _Work,
        producer: LeasedProducer,
        state: Sequence[tuple[bytes, bytes | None]],
    ) -> bool:
        t = self._topics
        outbox = Outbox(producer.new_batch, round(time.time() * 1000))
        for rise in work.rises:
            outbox.add_record(t.rises, 0, rise.cell.encode(), msgspec.json.encode(rise), [])
        for hotspot in work.changes:
            outbox.add_record(t.hotspots, 0, hotspot.id.encode(), hotspot.encode(), [])
        for key, value in state:
            outbox.add_record(t.state, 0, key, value, [])
        lanes = f"{MAIN}/{t.lanes}"
        offsets = {Partition(lanes, n): (at, "") for n, at in work.positions.items()}
        offsets[lane.partition] = (work.count + 1, work.counts.encode())
        try:
            await producer.send_transaction(outbox.batches, offsets, t.group)
        except (TransactionRefused, NotSent) as e:
            self.meters.aborts += 1
            lane.fault = f"held: {e}"
            _log.warning("not_committed", error=str(e))
            return False
        return True


def _log_unavailable(e: KafkaUnavailable) -> None:
    _log.warning("kafka_unavailable", error=str(e))
