"""The fleet as the topic `placement` and the committed offsets show it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from agents.admin.doctor.judge.verdict import Verdict, fault, ok, warning
from agents.core.lanes.lane_map import LaneMap
from agents.core.model.placement import PlacementTable, State
from agents.core.model.times import format_took
from agents.core.model.topology import Partition, WorkerKind

LEADER_SILENT_S = 5.0
MARKERS = 10
"""Up to this many offsets after the last committed record are taken for transaction markers, which
nobody processes."""
STUCK_SHOWN = 12


def judge_leadership(epoch: int | None, age_s: float | None, came_anew: bool) -> Verdict:
    """Judge the record `leader`, which the leader writes each second. `epoch`: None if there is no
    record. `age_s`: its age by this machine's clock. `came_anew`: a newer one arrived while we
    watched."""
    if epoch is None:
        return fault(
            "no coordinator has ever led: the topic placement has no leader",
            "start geolane coordinator",
        )
    if came_anew:
        return ok(f"epoch {epoch}, renewed while the doctor watched")
    if age_s is not None and age_s < LEADER_SILENT_S:
        return warning(
            f"epoch {epoch}, written {format_took(age_s)} ago and not since",
            "run this again, and read the coordinator's log",
        )
    since = f", last written {format_took(age_s)} ago" if age_s is not None else ""
    return fault(
        f"no coordinator leads: epoch {epoch}{since}", "start geolane coordinator, and read its log"
    )


def judge_owners(
    written: PlacementTable, expected: Collection[Partition], workers: Collection[str] | None
) -> Verdict:
    """Whether every partition has an owner, and the inventory knows it (None: there is no inventory
    here)."""
    orphans = [
        p for p in expected if (s := written.placed.get(p)) is None or s.state is State.ORPHAN
    ]
    strange = sorted(
        {s.worker for s in written.placed.values() if s.state is not State.ORPHAN and s.worker}
        - set(workers or ())
    )
    if orphans:
        return fault(
            f"{len(orphans)} of {len(expected)} partitions have no owner: "
            f"{_list_partitions(orphans)}",
            "start nodes and routers; `geolane ctl explain LANE` says why a lane waits",
        )
    if workers is not None and strange:
        return warning(
            f"{', '.join(strange)} own lanes but are not in the inventory",
            "add them, or `geolane ctl drain` them",
        )
    return ok(f"all {len(expected)} partitions have an owner")


def _list_partitions(parts: Collection[Partition]) -> str:
    labels = [p.label for p in sorted(parts)]
    return ", ".join(labels[:STUCK_SHOWN]) + (" ..." if len(labels) > STUCK_SHOWN else "")


Committed = Mapping[Partition, int | None]


def judge_offsets(kind: WorkerKind, written: PlacementTable, committed: Committed) -> Verdict:
    """A partition that is past its start must have a committed offset (PROTOCOL 2.7)."""
    lost = [
        p
        for p, offset in committed.items()
        if offset is None and (s := written.placed.get(p)) and s.offset > 0
    ]
    if lost:
        return fault(
            f"{_list_partitions(lost)}: no committed offset in {kind.group}, and not new: such a "
            "lane stops",
            "an owner sets them again: reset all, in the room or with geolane ctl",
        )
    return ok(
        f"{sum(o is not None for o in committed.values())} of {len(committed)} committed in "
        f"{kind.group}, none lost"
    )


def judge_progress(
    before: Committed, after: Committed, ends: Mapping[Partition, int], watched_s: float
) -> Verdict:
    """Whether every partition with waiting records advances. `ends` are those at the time of
    `before`."""
    waiting = {
        p: ends[p] - (o or 0) for p, o in before.items() if ends.get(p, 0) > (o or 0) + MARKERS
    }
    stuck = [p for p in waiting if after.get(p) == before.get(p)]
    lag = sum(ends[p] - (o or 0) for p, o in after.items() if p in ends and ends[p] > (o or 0))
    if stuck:
        return warning(
            f"{_list_partitions(stuck)}: {sum(waiting[p] for p in stuck):,} records wait, none was "
            f"processed in {format_took(watched_s)}",
            "`geolane ctl explain LANE`; a lane that its pipeline has stopped has an alert in the "
            "room",
        )
    return ok(f"{len(before)} partitions, {lag:,} records wait, none has stopped")


def judge_lane_map(found: LaneMap | None, lanes: int) -> Verdict:
    if found is None:
        return fault(
            "no lane map is published",
            "geolane lanes build SAMPLE > map.json, then provision; `geolane up` does it",
        )
    if found.lanes != lanes:
        return fault(
            f"version {found.version} is for {found.lanes} lanes, coordinator.lanes is {lanes}",
            "correct coordinator.lanes, or publish a lane map for that many",
        )
    return ok(f"version {found.version}: {len(found.cell_lanes):,} cells on {found.lanes} lanes")
