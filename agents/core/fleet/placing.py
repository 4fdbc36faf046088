"""From plans to steps of the hand-over: the planner (planner.py) chooses the node of each lane;
partitions of other kinds of worker are spread evenly, such as the raw ones over the routers.
Orphans are placed as soon as a worker can take them, everything else at most once a second."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from agents.base.text import counted
from agents.core.effects import Effect, Note, PlanWanted, Publish, WakeAt, Write
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.handover import Step, record_after_step
from agents.core.fleet.placing_inputs import (
    FleetChange,
    PlacingInputs,
    Target,
    apply_change,
)
from agents.core.model.feeds import (
    CURRENT,
    PLACEMENT,
    FeedItem,
    MoveItem,
    PlacementFigures,
    PlacementPlan,
)
from agents.core.model.placement import PAUSE, Placed, State
from agents.core.model.plan import Decided, LanePlaces, Memory, Moment, PlanningFrame, Scored
from agents.core.model.topology import Partition, WorkerKind, kind_of, name_without_kind
from agents.core.planning.damping import DRAINING, MUST
from agents.core.planning.planner import ORPHANED, Clock, make_scored_plan
from agents.settings.calm import Calm
from kernels.tables import Numerics

SETTLE_S = 3.0  # before the first placing: after the last worker came, unless all are there
IMPROVE_EVERY_S = 1.0
REST_S, MOST_REST_S = 2.0, 60.0  # after a plan that failed; doubled each time
# Planning may take this share of the time: a fleet whose plans take long is planned less often.
BUSY_SHARE = 0.2
HOLD_S = 600.0
MOVES_NAMED = 12  # in a sentence about a plan; the item of the feed has them all
PARKED = "waits: no allowed node has room"


@dataclass(slots=True)
class Placing:
    """`inputs`: what the planner needs beside the fleet. `led_at`: when this leader began, in
    monotonic seconds. `last`: the last plan. `plans`: how many were written. `waiting`: lanes that
    fit on no node. `moved`: lanes that the planner has begun to move, for the room; the reader
    clears it. `failing`: why the last plan failed, empty if it did not."""

    fleet: Fleet
    inputs: PlacingInputs
    numerics: Numerics
    led_at: float
    clock: Clock = lambda: 0.0
    frame: PlanningFrame = field(init=False)
    memory: Memory | None = None
    last: Scored | None = None
    plans: int = 0
    waiting: tuple[Partition, ...] = ()
    moved: list[Partition] = field(default_factory=list)
    failing: str = ""
    _opened: set[WorkerKind] = field(default_factory=set)
    _joined_at: float = float("-inf")
    _improved_at: float = float("-inf")
    _asked: Moment | None = None
    _placed_version: int = -1
    _framed: bool = False
    _failures: int = 0
    _rests_until: float = float("-inf")

    def __post_init__(self) -> None:
        self.frame = self.inputs.make_frame()

    def set_damping_rules(self, calm: Calm) -> None:
        """Use other damping rules from the next plan on. The frame is written to the journal with
        that plan, so that `replan` sees the rules."""
        if calm == self.inputs.settings.calm:
            return
        self.inputs.settings = replace(self.inputs.settings, calm=calm)
        self.inputs.foresight.set_horizon(calm.forecast_s)
        self.frame, self._framed = self.inputs.make_frame(), False

    def rebuild_frame(self, places: LanePlaces | None = None) -> None:
        """The inventory has changed, and with `places` perhaps the lanes' rules too: from now on
        plans use a new frame."""
        if places is not None:
            self.inputs.places = places
        self.frame, self._framed, self.last = self.inputs.make_frame(), False, None

    def forget_worker(self, worker: str) -> None:
        """The worker has left the fleet."""
        self.inputs.forget_worker(worker)

    def note_join(self, now: float) -> None:
        """A new worker may be given partitions."""
        self._joined_at = now

    # ---- plans that fail ----

    def note_failure(self, why: str, now: float) -> None:
        """A plan could not be made or carried out: the present placement stays, and planning is
        tried again after a pause."""
        self.failing, self._asked, self._placed_version = why, None, -1
        self._rests_until = now + min(REST_S * 2**self._failures, MOST_REST_S)
        self._failures = min(self._failures + 1, 10)

    def _note_success(self) -> None:
        self.failing, self._failures = "", 0

    # ---- orphans, at once ----

    def place_orphans(self, now: float, now_ms: int) -> Iterator[Effect]:
        """Give orphans to workers. The first placing waits up to SETTLE_S for more workers, so that
        the first one does not get everything."""
        self.inputs.note_nodes(now, ramp=WorkerKind.NODE in self._opened)
        for kind in self.fleet.inventory.kinds_in_use():
            if kind.planned and (
                self.fleet.version == self._placed_version or now < self._rests_until
            ):
                # Nothing has changed since the last try, or a failed plan is being backed off from.
                continue
            orphans = self.fleet.placeable_orphans(kind)
            if not orphans or not any(
                self.fleet.statuses[w.worker].takes for w in self.fleet.inventory.workers_of(kind)
            ):
                continue
            wait_s = self._settle_wait_s(kind, now)
            if wait_s > 0:
                yield WakeAt(wait_s + 0.01)
            elif not kind.planned:
                yield from self._distribute_orphans(kind, orphans, now_ms)
            else:
                self._placed_version = self.fleet.version
                self.last = scored = self._make_plan(now, now_ms, orphans_only=True)
                if any(a.reason == ORPHANED for a in scored.plan.assignments):
                    self._asked = None  # the plan under way does not know where these went
                yield from self._report_plan(scored, "orphans")
                yield from self._write_assignments(scored, now, now_ms)
                self._note_success()

    def _settle_wait_s(self, kind: WorkerKind, now: float) -> float:
        """How long the first placing of this kind still waits; 0 once it may begin, and ever
        after."""
        workers = self.fleet.inventory.workers_of(kind)
        if kind in self._opened or (
            all((status := self.fleet.statuses[w.worker]).takes or status.to_empty for w in workers)
            and (not kind.planned or self._knows_data())
        ):
            self._opened.add(kind)
            return 0.0
        left = max(self.led_at, self._joined_at) + SETTLE_S - now
        if left <= 0:
            self._opened.add(kind)
        return left

    def _knows_data(self) -> bool:
        """Whether it is known at which broker each lane's data is. Kafka tells within a second."""
        lanes = self.fleet.partitions_of(WorkerKind.NODE)
        return self.inputs.data.knows_leaders(p.n for p in lanes)

    def _write_assignments(self, scored: Scored, now: float, now_ms: int) -> Iterator[Effect]:
        """Write the plan's assignments; those of one reason and one person make one `Write`."""
        free = set(self.fleet.placeable_orphans(WorkerKind.NODE))
        self.waiting = tuple(
            p for n in scored.plan.waiting if (p := WorkerKind.NODE.partition(n)) in free
        )
        plans: dict[tuple[str, str], tuple[dict[Partition, Placed], list[MoveItem]]] = {}
        for a in scored.plan.assignments:
            p, worker = WorkerKind.NODE.partition(a.lane), scored.workers[a.to]
            # Time has passed since the plan's inputs were taken: the lane may no longer be an
            # orphan, the node no longer take lanes.
            if p not in free or not self.fleet.statuses[worker].takes:
                continue
            target, before = self.inputs.targets.pop(p, None), self.fleet.partitions[p]
            source = target.source if target else before.worker
            if target is None or target.worker != worker:  # no move was meant to end there
                target = Target(worker, "")
            steps, moves = plans.setdefault((target.why, target.by), ({}, []))
            steps[p] = self._assign_partition(p, worker, now_ms, target.why or before.why)
            moves.append(_move_item(p, source, worker, steps[p].epoch, target.delta_ms))
            self.inputs.note_assignment(p, source, worker, now, rests=target.why != DRAINING)
        for (why, by), (steps, moves) in plans.items():
            yield from self._write_steps(steps, moves, why or "orphans placed", by)

    def _assign_partition(self, p: Partition, worker: str, now_ms: int, why: str) -> Placed:
        lease = self.fleet.leases[worker]
        return record_after_step(
            self.fleet.partitions[p],
            Step.PLACE,
            worker=worker,
            boot=lease.boot,
            leader_epoch=self.fleet.leader_epoch,
            now_ms=now_ms,
            why=why,
        )

    # ---- kinds that are not planned: routers ----

    def _distribute_orphans(
        self, kind: WorkerKind, orphans: list[Partition], now_ms: int
    ) -> Iterator[Effect]:
        load = {
            w.worker: len(self.fleet.owned_by(w.worker))
            for w in self.fleet.inventory.workers_of(kind)
        }
        load = {w: n for w, n in load.items() if self.fleet.statuses[w].takes}
        steps: dict[Partition, Placed] = {}
        moves: list[MoveItem] = []
        for p in orphans:
            worker = min(load, key=lambda w: (load[w], w))
            load[worker] += 1
            before = self.fleet.partitions[p]
            steps[p] = self._assign_partition(p, worker, now_ms, before.why)
            moves.append(_move_item(p, before.worker, worker, steps[p].epoch, 0.0))
        what = orphans[0].label if kind.tasks else f"{orphans[0].unit} partitions"
        yield from self._write_steps(steps, moves, f"{what} distributed", "")

    def _balance_workers(self, kind: WorkerKind, now_ms: int) -> Iterator[Effect]:
        """Begin to move one partition, if none is being moved: from a worker of this kind that must
        be emptied, or that has at least two more than the one with the fewest."""
        workers = [w.worker for w in self.fleet.inventory.workers_of(kind)]
        load = {w: len(self.fleet.owned_by(w)) for w in workers}
        takers = sorted(
            (w for w in workers if self.fleet.statuses[w].takes), key=lambda w: (load[w], w)
        )
        if not takers or any(
            self.fleet.partitions[p].state is State.RELEASING
            for p in self.fleet.partitions_of(kind)
        ):
            return
        for w in sorted(workers, key=lambda w: (not self.fleet.statuses[w].to_empty, -load[w], w)):
            uneven = self.fleet.statuses[w].to_empty or load[w] >= load[takers[0]] + 2
            mine = [p for p in self.fleet.owned_by(w) if self.can_move(p)]
            if w != takers[0] and mine and uneven:
                why = f"{kind.name} workers balanced" if kind.tasks else f"{kind.name}s balanced"
                yield from self.begin_moves({mine[0]: Target(takers[0], why)}, now_ms)
                return

    # ---- everything else, once a second ----

    def improve_placement(self, now: float, now_ms: int) -> Iterator[Effect]:
        """Ask for a plan of the moves, one at a time; `accept_plan` takes it. Raw partitions are
        evened out at once."""
        took_s = self.last.took_ms / 1000 if self.last else 0.0
        if self._asked is not None or now - self._improved_at < max(
            IMPROVE_EVERY_S, took_s / BUSY_SHARE
        ):
            return
        self._improved_at = now
        kinds = self.fleet.inventory.kinds_in_use()
        for kind in kinds:  # without orphans `place_orphans` would never open the first placing
            if any(
                self.fleet.statuses[w.worker].takes for w in self.fleet.inventory.workers_of(kind)
            ):
                self._settle_wait_s(kind, now)
        for kind in kinds:
            if not kind.planned and kind in self._opened and self.fleet.shares_out(kind):
                yield from self._balance_workers(kind, now_ms)
        if WorkerKind.NODE not in self._opened or now < self._rests_until:
            return
        self.inputs.observe_rates(now, now_ms)
        moment = self.inputs.make_moment(
            self.fleet.partitions_of(WorkerKind.NODE), now, now_ms, self.memory
        )
        self._asked = moment
        yield PlanWanted(self.frame, moment)

    def accept_plan(
        self, scored: Scored, now: float, now_ms: int, *, commanding: bool
    ) -> Iterator[Effect]:
        """Carry out the plan that `improve_placement` asked for. Time has passed since: lanes and
        nodes that have changed are left out. The whole plan is dropped when the rules have
        changed, when orphans were placed meanwhile, or when no command may be sent now
        (`commanding`); another plan follows soon."""
        if scored.moment is not self._asked:
            return
        self._asked = None
        if scored.frame is not self.frame or not commanding:
            return
        yield from self._carry_out_plan(scored, now, now_ms)
        self._note_success()

    def _carry_out_plan(self, scored: Scored, now: float, now_ms: int) -> Iterator[Effect]:
        self.last, self.memory = scored, scored.plan.memory
        yield from self._report_plan(scored, "tick")
        yield from self._write_assignments(scored, now, now_ms)
        # A pause stops all moves except those of lanes that must leave their node.
        paused = PAUSE in self.fleet.intents
        targets = {
            WorkerKind.NODE.partition(m.lane): Target(
                scored.workers[m.to], m.reason, "", m.delta_ms
            )
            for m in scored.plan.moves
            if (not paused or m.reason in MUST) and self.fleet.statuses[scored.workers[m.to]].takes
        }
        if not paused:
            targets |= {
                WorkerKind.NODE.partition(n): Target("", PARKED) for n in scored.plan.parked
            }
        if targets:
            had = {
                x.id: scored.workers[x.owner] for x in scored.moment.lanes if x.owner is not None
            }
            # A lane that has changed hands since the plan's inputs were taken stays where it is.
            targets = {
                p: t for p, t in targets.items() if self.fleet.partitions[p].worker == had.get(p.n)
            }
            self.moved += [p for p, t in targets.items() if t.why not in MUST and self.can_move(p)]
            yield from self.begin_moves(targets, now_ms)

    def can_move(self, p: Partition) -> bool:
        """Whether its owner works it, and no step of it is under way."""
        return self.inputs.can_move(p)

    def begin_moves(self, targets: dict[Partition, Target], now_ms: int) -> Iterator[Effect]:
        """Begin to move those of these that can be moved. Each target is remembered until the
        partition is placed."""
        steps: dict[Partition, Placed] = {}
        for p, target in targets.items():
            if self.can_move(p):
                self.inputs.targets[p] = replace(target, source=self.fleet.partitions[p].worker)
                steps[p] = record_after_step(
                    self.fleet.partitions[p],
                    Step.MOVE,
                    leader_epoch=self.fleet.leader_epoch,
                    now_ms=now_ms,
                    why=target.why,
                )
        if steps:
            self.fleet.begin_write(steps)
            yield Write(steps)

    def begin_cooldown(self, p: Partition, now: float) -> None:
        """An operator wants the partition where it is going: damping leaves it there for HOLD_S."""
        self.inputs.cooldown[p] = now + HOLD_S

    def forget_targets(self, partitions: Iterable[Partition]) -> None:
        """These were orphaned by a fence: the targets of their moves no longer count."""
        for p in partitions:
            self.inputs.targets.pop(p, None)

    # ---- asking the planner ----

    def what_if(
        self,
        now: float,
        now_ms: int,
        change: FleetChange | None = None,
        *,
        eager: bool | None = None,
    ) -> Scored:
        """The plan as if `change` had happened, with all its moves at once; nothing is changed.
        `eager`: ignore windows and cooldowns; the default is True for a change of rates or one that
        adds or loses nodes."""
        change = change or FleetChange()
        if eager is None:
            eager = bool(change.added or change.rate or change.lost)
        return self._make_plan(now, now_ms, change=change, eager=eager)

    def _make_plan(
        self,
        now: float,
        now_ms: int,
        *,
        orphans_only: bool = False,
        change: FleetChange | None = None,
        eager: bool = False,
    ) -> Scored:
        moment = self.inputs.make_moment(
            self.fleet.partitions_of(WorkerKind.NODE), now, now_ms, self.memory
        )
        moment = replace(moment, orphans_only=orphans_only, eager=eager)
        frame = self.frame
        if change is not None:
            inputs = self.inputs
            sites = {site: inputs.place_of(site, site) for site, _ in change.added}
            paths = {site: inputs.data.paths_from(site, moment.brokers) for site in sites}
            frame, moment = apply_change(
                frame, moment, change, sites, inputs.places.rule_sites, paths
            )
            if change != FleetChange():
                frame = replace(frame, calm=calm_without_limits(frame.calm))
        return make_scored_plan(frame, moment, self.numerics, self.clock)

    # ---- reports ----

    def _report_plan(self, scored: Scored, kind: str) -> Iterator[Effect]:
        """For every plan: its inputs for the journal, its figures for the feed."""
        yield Decided(
            None if self._framed else self.frame,
            scored.moment,
            scored.plan,
            kind,
            self.numerics.name,
        )
        self._framed = True
        o = scored.plan.optimum
        figures = PlacementFigures(
            o.objective, o.bound, o.gap, o.moves, round(scored.took_ms, 1), len(scored.plan.waiting)
        )
        title = f"Within {o.gap:.1%} of the best placement; {counted(o.moves, 'lane')} to move"
        content = f"{title}; planned in {scored.took_ms:.0f} ms"
        yield Publish(
            FeedItem(PLACEMENT, CURRENT, title, content, figures, self.fleet.leader_epoch)
        )

    def _write_steps(
        self, steps: dict[Partition, Placed], moves: Sequence[MoveItem], reason: str, by: str
    ) -> Iterator[Effect]:
        if not steps:
            return
        self.plans += 1
        self.fleet.begin_write(steps)
        title = f"{len(moves)} placed: {reason}"
        named = [f"{m.lane}: {m.source or 'orphan'} to {m.target}" for m in moves[:MOVES_NAMED]]
        more = f" and {len(moves) - len(named):,} more" if moves[MOVES_NAMED:] else ""
        content = ", ".join(named) + more
        item = FeedItem(
            PLACEMENT,
            f"plan-{self.fleet.leader_epoch}-{self.plans}",
            title,
            content,
            PlacementPlan(self.plans, reason, by, tuple(moves)),
            self.fleet.leader_epoch,
        )
        lanes = [p.n for p in steps if WorkerKind.NODE.works(p)]
        kinds = self.fleet.inventory.kinds_in_use()
        sources = {
            kind_of(Partition(m.topic, m.lane), kinds).account(m.source) for m in moves if m.source
        }
        told = {
            "plan": self.plans,
            "reason": reason,
            "lanes": lanes,
            "nodes": sorted({s.worker for s in steps.values()} | sources),
        }
        note = Note("decision", by, f"{title} ({content})", told)
        yield Write(steps, then=(Publish(item), note))


def calm_without_limits(calm: Calm) -> Calm:
    """These rules without budget, limit of moves in flight and ramp: to predict the whole effect of
    a change."""
    return msgspec.structs.replace(calm, budget_share=1.0, in_flight=10_000, ramp_s=0.0)


def _move_item(p: Partition, source: str, target: str, epoch: int, delta_ms: float) -> MoveItem:
    names = name_without_kind(source), name_without_kind(target)
    return MoveItem(p.n, *names, epoch, round(delta_ms, 1), p.topic)
