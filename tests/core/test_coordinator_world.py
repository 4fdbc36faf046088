"""The core in a hostile world: whatever order things come in, nothing is lost or doubled, and when
faults stop, all lanes work again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agents.core import effects as fx
from agents.core import events as ev
from agents.core.coordinator import SPREAD_S
from agents.core.events import Now, Wake
from agents.core.model.placement import State
from agents.core.model.topology import KAFKA_STREAMS, PYTHON, WorkerKind
from tests.core.world import World

WORKERS = st.sampled_from(["node-0", "node-1", "node-2", "router-1"])
INDEX = st.integers(0, 7)
ENGINE = st.sampled_from([PYTHON, KAFKA_STREAMS])


class Hostile(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.w = World()

    @rule(worker=WORKERS)
    def start(self, worker: str) -> None:
        if worker not in self.w.procs:
            self.w.start(worker)

    @rule()
    def start_all(self) -> None:
        for worker in self.w.inv.workers:
            if worker not in self.w.procs:
                self.w.start(worker)

    @rule(worker=WORKERS)
    def crash(self, worker: str) -> None:
        if worker in self.w.procs:
            self.w.crash(worker)

    @rule(worker=WORKERS)
    def freeze_or_thaw(self, worker: str) -> None:
        if worker in self.w.procs:
            self.w.procs[worker].frozen = not self.w.procs[worker].frozen

    @rule(times=st.integers(1, 20))
    def kafka(self, times: int) -> None:
        for _ in range(times):
            self.w.kafka_step()

    @precondition(lambda self: bool(self.w.sends))
    @rule(i=INDEX, times=st.integers(1, 6))
    def deliver(self, i: int, times: int) -> None:
        for _ in range(times):
            if self.w.sends:
                self.w.deliver(i)

    @precondition(lambda self: bool(self.w.sends))
    @rule(i=INDEX)
    def lose(self, i: int) -> None:
        self.w.lose(i)

    @rule(worker=WORKERS)
    def commit(self, worker: str) -> None:
        if worker in self.w.procs:
            self.w.commit(worker)

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0, 4.0, 20.0]))
    def time(self, seconds: float) -> None:
        self.w.pass_s(seconds)

    @rule()
    def another_leader(self) -> None:
        self.w.lead()

    @rule()
    def cut(self) -> None:
        self.w.cut()

    @rule(gone=st.sets(st.sampled_from(["node-0", "node-1", "node-2"]), max_size=2))
    def another_inventory(self, gone: set[str]) -> None:
        self.w.read(self.w.without(*gone))

    @rule(slow=st.booleans())
    def plans_take_time(self, slow: bool) -> None:
        self.w.plans_at_once = not slow

    @rule()
    def plan_made(self) -> None:
        self.w.make_plan()

    @rule(rounds=st.integers(1, 4))
    def calm(self, rounds: int) -> None:
        self.w.fair(rounds, revive=False)

    @rule(ours=ENGINE, its=ENGINE)
    def switch_engine(self, ours: str, its: str) -> None:
        """The settings change; the coordinator is restarted, a router reads its own with its next
        boot."""
        self.w.router_engine, self.w.engines["router-1"] = ours, its
        self.w.lead()

    @invariant()
    def only_one_engine_works(self) -> None:
        raw = self.w.partitions.get(WorkerKind.ROUTER.partition(0))
        streams = [x for x in self.w.leases.values() if x.engine == KAFKA_STREAMS and not x.fenced]
        assert raw is None or raw.state is State.ORPHAN or not streams

    @invariant()
    def written_and_known_agree(self) -> None:
        for p, s in self.w.partitions.items():
            assert (
                self.w.core.fleet.partitions[p] == s or self.w.core.fleet.writing[p] or self.w.kafka
            )

    def teardown(self) -> None:
        if (self.w.router_engine, self.w.engines) != (PYTHON, {}):
            self.w.router_engine, self.w.engines = PYTHON, {}
            self.w.lead()
        self.w.fair(80)
        assert self.w.all_at_work(), {p.key: s for p, s in self.w.core.fleet.partitions.items()}


Hostile.TestCase.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestHostile = Hostile.TestCase


def test_cold_start_places_everything_once_all_are_there() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    assert w.all_at_work()
    assert all(s.epoch == 1 for s in w.partitions.values())
    assert len({s.worker for p, s in w.partitions.items() if WorkerKind.NODE.works(p)}) > 1


def test_a_killed_node_loses_its_lanes_at_once_and_only_those_move() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    victim = next(s.worker for p, s in w.partitions.items() if WorkerKind.NODE.works(p))
    before = dict(w.partitions)
    w.crash(victim)
    w.now_s += 0.25
    w.tell(Wake())
    for _ in range(20):
        w.kafka_step()
        if w.sends:
            w.deliver(0)
    moved = {p for p in before if w.partitions[p] != before[p]}
    assert moved == {p for p, s in before.items() if s.worker == victim}
    assert all(
        w.partitions[p].state is State.ASSIGNED and w.partitions[p].epoch == 2 for p in moved
    )


def test_a_new_leader_moves_nothing_without_need() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    before = {p: (s.worker, s.epoch) for p, s in w.partitions.items()}
    w.lead()
    w.fair(30, revive=False)
    assert {p: (s.worker, s.epoch) for p, s in w.partitions.items()} == before


def test_nobody_is_fenced_while_the_coordinator_is_cut_off() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    epochs = dict(w.epochs)
    w.cut()
    w.fair(5, revive=False)
    assert w.epochs == epochs


def test_who_is_not_in_the_inventory_any_more_is_fenced_until_it_has_worked() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    w.leases["node-9"] = replace(
        w.leases["node-0"], boot="old", transactional_id="geolane-node-9", fenced=False
    )
    w.lead()

    def asked() -> int:
        return sum(isinstance(e, fx.MakeLease) and e.worker == "node-9" for e in w.kafka)

    w.tell(ev.KafkaUp())
    assert asked() == 1
    w.kafka = deque(e for e in w.kafka if not isinstance(e, fx.MakeLease))
    w.tell(ev.LeaseFailed("node-9", "Kafka is away"))
    assert asked() == 0
    w.now_s += 1.0
    w.tell(ev.Tick())
    assert asked() == 1


def test_what_follows_from_telemetry_is_done_a_few_times_a_second_however_many_tell() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    advanced: list[float] = []
    advance = w.core._advance

    def counted(now: Now) -> Iterator[fx.Effect]:
        advanced.append(now.s)
        return advance(now)

    with patch.object(w.core, "_advance", counted):
        began_s = w.now_s
        for _ in range(20):
            w.now_s += 0.05
            for worker in w.procs:
                w.telemetry(worker)
        assert len(advanced) <= 1 + (w.now_s - began_s) / SPREAD_S
        w.tell(ev.Tick())
        assert advanced[-1] == w.now_s, "anything else is followed up at once"
