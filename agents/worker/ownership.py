"""What a worker owns: it obeys the coordinator's commands, begins a partition once its offset
shows, and lets it go once its own commit shows (PROTOCOL 2.1, 2.6, 2.7). `Tenure` decides; this
waits and asks Kafka. What is done with the partitions is the engine's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from agents.base import log
from agents.base.errors import CommandRefused, KafkaUnavailable, LeaseLost
from agents.core.lanes.tenure import (
    Drain,
    End,
    GiveBack,
    Leave,
    Take,
    TakeLease,
    Tenure,
    TenureEffect,
)
from agents.core.model.messages import WorkerAnswer, WorkerCommand
from agents.kafka.offsets import Offsets
from agents.worker.lane import Meters, Phase, WorkedPartition

RECOMMIT_AFTER_S = 1.0
"""A commit of ours that does not show by then (the group's offsets were deleted) is repeated before
the release."""
MISSING_AFTER_S = 10.0
"""How long the committed offset that the coordinator named may take to show. After that the
partition stops with a fault."""
_RELEASE_BOUND_S = 30.0
_WATCH_S = 0.01

_log = log.get_logger("worker.engine")


class Ownership:
    """One boot's lease and partitions. `lanes`: by number. `told`: set when something has changed
    that the engine must look at. `leave` is called when the coordinator orders a restart; `begun`
    when a partition begins; `released` when one was let go."""

    def __init__(
        self,
        topic: str,
        boot: str,
        *,
        leave: Callable[[], None],
        begun: Callable[[int], None],
        released: Callable[[WorkedPartition], None],
        missing_after_s: float = MISSING_AFTER_S,
    ) -> None:
        self.tenure = Tenure(topic, boot)
        self.lanes: dict[int, WorkedPartition] = {}
        self.meters = Meters()
        self.leased, self.told, self.pending = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._ended = asyncio.Event()
        self._unanswered_at = 0.0  # since when reading offsets fails (monotonic); 0: it does not
        self._released = asyncio.Condition()
        self._on_leave, self._on_begun, self._on_released = leave, begun, released
        self._missing_after_s = missing_after_s

    async def execute_command(self, command: WorkerCommand) -> WorkerAnswer:
        """Carry out a command and return the answer. A release is answered only when OffsetFetch
        shows the offset (PROTOCOL 2.6).

        Raises StaleEpoch, CommandRefused (also when a release takes over 30 s; the coordinator may
        ask again)."""
        for effect in self.tenure.obey(command):
            self._perform_effect(effect)
        answer = self.tenure.answer_command(command)
        if answer is not None:
            return answer
        try:
            async with asyncio.timeout(_RELEASE_BOUND_S), self._released:
                while (answer := self.tenure.answer_command(command)) is None:
                    await self._released.wait()
        except TimeoutError:
            raise CommandRefused(
                "resource-constraint", f"not released within {_RELEASE_BOUND_S:g} s"
            ) from None
        return answer

    def owned_partitions(self) -> list[WorkedPartition]:
        """The partitions that this worker owns, with their progress."""
        return [self.lanes[n] for n, _ in self.tenure.owned_epochs()]

    def _perform_effect(self, effect: TenureEffect) -> None:
        match effect:
            case TakeLease():
                self.leased.set()
            case Take(partition, epoch, offset):
                self.lanes[partition.n] = WorkedPartition(
                    partition, epoch, offset, after=self.lanes.get(partition.n)
                )
                _log.info("partition_taken", partition=partition.label, epoch=epoch, offset=offset)
            case GiveBack(partition, epoch):
                _log.info("partition_asked_back", partition=partition.label, epoch=epoch)
            case Drain(on):
                _log.info("drain" if on else "resume")
            case Leave():
                _log.info("told_to_restart")
                self._on_leave()
            case End(why):
                _log.warning("told_to_end", why=why)
                self._ended.set()
        self.told.set()
        self.pending.set()

    async def end_when_ordered(self) -> None:
        await self._ended.wait()
        raise LeaseLost(self.tenure.ended)

    def unanswered_s(self, now: float) -> float:
        """For how long Kafka has not told the committed offsets that are waited for."""
        return now - self._unanswered_at if self._unanswered_at else 0.0

    async def watch_committed_offsets(self, offsets: Offsets) -> None:
        """Begin a waiting partition once its told offset shows; let a leaving one go once its own
        commit shows."""
        while True:
            self.pending.clear()
            waiting = [lane for lane in self.lanes.values() if lane.phase is Phase.WAITING]
            leaving = [
                lane
                for lane in self.lanes.values()
                if lane.phase is Phase.LEAVING and lane.is_quiet
            ]
            if not waiting and not any(lane.phase is Phase.LEAVING for lane in self.lanes.values()):
                self._unanswered_at = 0.0
                await self.pending.wait()
                continue
            try:
                shown = await offsets.read_committed_offsets(
                    {lane.partition for lane in (*waiting, *leaving)}
                )
            except KafkaUnavailable as e:
                _log.warning("offsets_unavailable", error=str(e))
                self._unanswered_at = self._unanswered_at or time.monotonic()
                for lane in waiting:  # MISSING_AFTER_S counts only while Kafka answers
                    lane.since = 0.0
                shown = {}
            else:
                self._unanswered_at = 0.0
            now = time.monotonic()
            for lane in waiting:
                if lane.partition in shown and lane.phase is Phase.WAITING:
                    self._begin_if_offset_shown(lane, shown[lane.partition], now)
            for lane in leaving:
                if lane.partition not in shown:
                    continue
                if (shown[lane.partition] or (0, ""))[0] >= lane.next:
                    await self.release_partition(lane, lane.next)
                elif now - max(lane.asked_at, lane.committed_at) > RECOMMIT_AFTER_S:
                    lane.recommit = True
                    self.told.set()
            await asyncio.sleep(_WATCH_S)

    def _begin_if_offset_shown(
        self, lane: WorkedPartition, shown: tuple[int, str] | None, now: float
    ) -> None:
        """Begin at the committed offset, once it is at least the told one; at 0 only if told 0
        (PROTOCOL 2.6, 2.7)."""
        lane.since = lane.since or now
        if lane.after is not None and not lane.after.is_quiet:
            return
        if shown is not None and shown[0] >= lane.earliest_offset:
            lane.start_at_offset(shown[0], shown[1], now)
        elif shown is None and lane.earliest_offset == 0:
            lane.start_at_offset(None, "", now)
        elif now - lane.since > self._missing_after_s:
            found = "none" if shown is None else str(shown[0])
            what = lane.partition.label.removeprefix("lane ")
            self.stop_lane(
                lane,
                f"offset missing: told {lane.earliest_offset}, committed {found}; reset {what} "
                "sets it again",
            )
            return
        else:
            return
        lane.after = None
        self._on_begun(lane.partition.n)
        _log.info(
            "partition_begun", partition=lane.partition.label, epoch=lane.epoch, offset=lane.next
        )
        self.told.set()

    async def release_partition(self, lane: WorkedPartition, offset: int) -> None:
        """Stop working a lane, whose committed offset shows as `offset`; nothing if it is not
        worked."""
        if self.lanes.get(lane.partition.n) is not lane:
            return
        del self.lanes[lane.partition.n]
        lane.phase = Phase.LEAVING
        self._on_released(lane)
        self.tenure.note_released(lane.partition, offset)
        _log.info(
            "partition_released", partition=lane.partition.label, epoch=lane.epoch, offset=offset
        )
        async with self._released:
            self._released.notify_all()

    def stop_lane(self, lane: WorkedPartition, fault: str) -> None:
        """Leave a lane owned but stopped. `fault`: why, for people."""
        lane.stop_with_fault(fault)
        self.meters.faults += 1
        _log.error(
            "partition_stopped", partition=lane.partition.label, epoch=lane.epoch, fault=fault
        )
        self.told.set()
