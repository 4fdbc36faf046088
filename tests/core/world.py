"""A small world around the real core and the real Tenure: Kafka's fencing, a lossy command channel,
workers that crash and freeze.

Time, order and loss are the caller's to choose. Kafka asserts what must never happen (named as in
tests/handover_model): S1 an offset is committed once, in order; S2 after a hand-over the former
owner commits nothing."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from agents.base.errors import CommandRefused, StaleEpoch
from agents.core import effects as fx
from agents.core import events as ev
from agents.core.coordinator import (
    AnyEvent,
    Coordinator,
    Inherited,
    OperatorSetup,
    PlanningSetup,
)
from agents.core.events import Led, LinkDown, Now, TelemetryIn, WorkerSeen
from agents.core.fleet.placing_inputs import PlacingSettings
from agents.core.lanes.lane_map import LaneMap
from agents.core.lanes.tenure import End, GiveBack, Take, TakeLease, Tenure
from agents.core.model.inventory import Inventory
from agents.core.model.messages import (
    Announcement,
    Arrival,
    AssignCommand,
    Grant,
    Health,
    LaneLoad,
    PathReport,
    ReleaseCommand,
    Telemetry,
    WorkerAnswer,
    WorkerCommand,
)
from agents.core.model.placement import UNTUNED, Intent, Lease, Placed, State, Tuning
from agents.core.model.plan import Decided, LanePlaces
from agents.core.model.topology import (
    PYTHON,
    Partition,
    Site,
    WorkerKind,
    WorkerSpec,
    kind_from_name,
)
from agents.core.planning.planner import make_scored_plan
from agents.geodata import read_rtt
from agents.geodata.cities import name_place
from agents.settings.calm import Calm
from kernels import Numerics
from kernels.placement.assign import solve
from kernels.reference import compute_matrix_costs

RTT = read_rtt()
NUMERICS = Numerics("numpy", "the world is small", compute_matrix_costs, solve)


def inventory(nodes: int, capacity_eps: float = 2000.0, geo: int = 0) -> Inventory:
    regions = RTT.regions
    sites = {
        f"s{i}": Site(
            f"s{i}",
            float(RTT.lat[i % len(regions)]),
            float(RTT.lon[i % len(regions)]),
            regions[i % len(regions)],
        )
        for i in range(nodes)
    }
    workers = {
        f"node-{i}": WorkerSpec(f"node-{i}", WorkerKind.NODE, f"s{i}", capacity_eps)
        for i in range(nodes)
    }
    workers["router-1"] = WorkerSpec("router-1", WorkerKind.ROUTER, "s0", 50_000.0)
    workers |= {
        f"geo-{i}": WorkerSpec(f"geo-{i}", WorkerKind.GEO, "s0", 1000.0) for i in range(1, geo + 1)
    }
    return Inventory(sites, workers)


def new_core(
    inv: Inventory,
    lanes: int,
    now: Now,
    epoch: int = 1,
    partitions: Mapping[Partition, Placed] | None = None,
    leases: Mapping[str, Lease] | None = None,
    intents: Mapping[str, Intent] | None = None,
    tuning: Tuning = UNTUNED,
    lanemap: LaneMap | None = None,
    *,
    data_at_kafka: bool = False,
    router_engine: str = PYTHON,
) -> Coordinator:
    ids = itertools.count(1)
    sites = list(inv.sites.values())
    beside = [sites[n % len(sites)] for n in range(lanes)]
    places = LanePlaces(tuple(x.lat for x in beside), tuple(x.lon for x in beside), (50.0,) * lanes)
    inherited = Inherited(
        epoch,
        [*(WorkerKind.NODE.partition(n) for n in range(lanes)), WorkerKind.ROUTER.partition(0)],
        partitions or {},
        leases or {},
        intents or {},
        tuning,
    )
    how = PlacingSettings(Calm(), RTT, data_at_kafka=data_at_kafka)
    planning = PlanningSetup(places, NUMERICS, how, lanemap=lanemap, router_engine=router_engine)
    people = OperatorSetup(lambda: f"id{next(ids)}", name_place=name_place)
    return Coordinator(inv, inherited, planning, people, now)


@dataclass
class Process:
    """One boot of one worker: the real Tenure, and a position per owned partition."""

    worker: str
    boot: str
    tenure: Tenure
    seq: int = 0
    position: dict[Partition, int] = field(default_factory=dict)
    frozen: bool = False
    tuning: int = 0


@dataclass
class World:
    nodes: int = 3
    lanes: int = 4
    now_s: float = 100.0
    records: int = 1000
    epochs: dict[str, int] = field(default_factory=dict)  # transactional id -> producer epoch
    committed: dict[Partition, int] = field(default_factory=dict)
    partitions: dict[Partition, Placed] = field(default_factory=dict)  # the topic `placement`
    leases: dict[str, Lease] = field(default_factory=dict)
    intents: dict[str, Intent] = field(default_factory=dict)
    tuning: Tuning = UNTUNED
    procs: dict[str, Process] = field(default_factory=dict)
    boots: int = 0
    leader_epoch: int = 0
    kafka: deque[fx.MakeLease | fx.Write | fx.ReadOffsets | fx.ReadRelease] = field(
        default_factory=deque
    )
    sends: list[fx.Send] = field(default_factory=list)
    pings: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    says: list[fx.Say] = field(default_factory=list)
    published: list[fx.Publish] = field(default_factory=list)
    noted: list[fx.Note] = field(default_factory=list)
    errands: list[fx.Errand] = field(default_factory=list)
    answered: list[fx.AnswerAdHoc] = field(default_factory=list)
    decided: list[Decided] = field(default_factory=list)
    asked_geo: list[fx.AskGeo] = field(default_factory=list)
    plan: fx.PlanWanted | None = None
    plans_at_once: bool = True
    lanemap: LaneMap | None = None
    arrivals: tuple[Arrival, ...] = ()  # what the router counts
    data_at_kafka: bool = False
    probes: dict[str, tuple[PathReport, ...]] = field(default_factory=dict)  # by worker
    geo: int = 0  # how many geo workers there are
    router_engine: str = PYTHON  # of the coordinator's settings
    engines: dict[str, str] = field(default_factory=dict)  # by router, of its settings

    def __post_init__(self) -> None:
        self.inv = inventory(self.nodes, geo=self.geo)
        self.lead()

    @property
    def now(self) -> Now:
        return Now(self.now_s, int(self.now_s * 1000))

    # ---- the coordinator ----

    def lead(self) -> None:
        """A (new) coordinator reads the topic and leads; what the old one had under way is lost."""
        self.kafka.clear()
        self.errands.clear()
        self.sends.clear()
        self.asked_geo.clear()
        self.pings.clear()
        self.plan = None
        self.leader_epoch += 1
        self.core = new_core(
            self.inv,
            self.lanes,
            self.now,
            self.leader_epoch,
            self.partitions,
            self.leases,
            self.intents,
            self.tuning,
            self.lanemap,
            data_at_kafka=self.data_at_kafka,
            router_engine=self.router_engine,
        )
        self.tell(ev.KafkaUp())
        self.tell(Led())
        for worker in list(self.procs):
            self.announce(worker)

    def without(self, *workers: str, capacity_eps: float = 2000.0) -> Inventory:
        """All that there ever was, but for these."""
        every = inventory(self.nodes, capacity_eps)
        kept = {name: spec for name, spec in every.workers.items() if name not in workers}
        return msgspec.structs.replace(every, workers=kept)

    def inventory_with(self, kind: WorkerKind, workers: Mapping[str, WorkerSpec]) -> Inventory:
        """The fleet's, with these workers of this kind."""
        rest = {name: x for name, x in self.inv.workers.items() if x.kind != kind}
        return msgspec.structs.replace(self.inv, workers=rest | dict(workers))

    def read(self, inv: Inventory) -> None:
        """The inventory's file is another one; whoever leads next reads that."""
        self.inv = inv
        self.tell(ev.InventoryRead(inv, self.core.placing.inputs.places))

    def tell(self, event: AnyEvent) -> None:
        for effect in self.core.handle(event, self.now):
            self._perform(effect)
        self.core.fleet.validate()
        if self.plans_at_once:
            self.make_plan()

    def make_plan(self) -> None:
        """The plan that is wanted, if any, is made of what was known when it was asked for."""
        if (wanted := self.plan) is not None:
            self.plan = None
            self.tell(ev.Planned(make_scored_plan(wanted.frame, wanted.moment, NUMERICS)))

    def _perform(self, effect: fx.Effect) -> None:
        match effect:
            case fx.MakeLease() | fx.Write() | fx.ReadOffsets() | fx.ReadRelease():
                self.kafka.append(effect)
            case fx.Send():
                self.sends.append(effect)
            case fx.Ping(worker):
                self.pings.append(worker)
            case fx.AskGeo():
                self.asked_geo.append(effect)
            case fx.Say(text) | fx.Whisper(_, text):
                self.said.append(text)
                if isinstance(effect, fx.Say):
                    self.says.append(effect)
            case fx.Note():
                self.noted.append(effect)
            case fx.Errand():
                self.errands.append(effect)
            case fx.AnswerAdHoc():
                self.answered.append(effect)
            case fx.Publish():
                self.published.append(effect)
            case fx.PlanWanted():
                self.plan = effect
            case Decided():
                self.decided.append(effect)
            case _:
                pass

    def kafka_step(self) -> None:
        """The next of Kafka's effects, in order."""
        if not self.kafka:
            return
        effect = self.kafka.popleft()
        match effect:
            case fx.MakeLease(worker, boot, tid, partitions):
                self.epochs[tid] = self.epochs.get(tid, -1) + 1
                found = {p: self.committed[p] for p in partitions if p in self.committed}
                self.tell(ev.LeaseMade(worker, boot, tid, 7, self.epochs[tid], found))
            case fx.Write(partitions, leases, intents, then, tuning, offsets):
                self.partitions |= partitions
                self.leases |= leases
                for name, intent in intents.items():
                    if intent is None:
                        self.intents.pop(name, None)
                    else:
                        self.intents[name] = intent
                self.tuning = tuning or self.tuning
                self.committed |= {p: at for p, (at, _) in offsets.items()}
                self.tell(ev.PlacementWritten(partitions, leases, intents, tuning))
                for follow in then:
                    self._perform(follow)
            case fx.ReadRelease(worker, command, answer):
                parts = [Partition(command.topic, g.n) for g in answer.lanes]
                found = {p: self.committed[p] for p in parts if p in self.committed}
                self.tell(
                    ev.ReleaseRead(
                        worker, command, answer, found, dict.fromkeys(parts, self.records)
                    )
                )
            case fx.ReadOffsets(partitions):
                self.tell(ev.OffsetsRead({p: self.committed.get(p, 0) for p in partitions}))

    def kafka_steps(self) -> None:
        """All of them, until nothing is left to be written."""
        while self.kafka:
            self.kafka_step()

    # ---- workers ----

    def start(self, worker: str) -> None:
        self.boots += 1
        boot = f"b{self.boots}"
        known = self.inv.workers.get(worker)
        kind = known.kind if known else kind_from_name(worker.partition("-")[0])
        self.procs[worker] = Process(worker, boot, Tenure(kind.topic, boot))
        self.announce(worker)

    def announce(self, worker: str) -> None:
        if worker in self.procs:  # the server answers for a frozen one too
            boot = self.procs[worker].boot
            self.tell(
                WorkerSeen(
                    Announcement(
                        *(worker, Health.AVAILABLE, boot, "working"),
                        capacity_eps=2000.0,
                        engine=self.engines.get(worker, ""),
                    )
                )
            )

    def crash(self, worker: str) -> None:
        del self.procs[worker]
        self.tell(WorkerSeen(Announcement(worker, Health.UNAVAILABLE)))

    def telemetry(self, worker: str) -> None:
        p = self.procs[worker]
        if not p.frozen:
            p.seq += 1
            owned = tuple(
                LaneLoad(p.tenure.topic, n, epoch, 10.0, 0, 1.0, 2.0)
                for n, epoch in p.tenure.owned_epochs()
            )
            paths = self.probes.get(worker, ())
            said = Telemetry(
                p.boot, p.seq, "", 0.1, 40.0, tuning=p.tuning, lanes=owned, paths=paths
            )
            if p.tenure.topic == WorkerKind.ROUTER.topic:
                said = replace(said, arrivals=self.arrivals)
            self.tell(TelemetryIn(worker, said))

    def deliver(self, i: int) -> None:
        """One of the commands under way arrives (any order), is obeyed, and answered."""
        send = self.sends.pop(i % len(self.sends))
        p = self.procs.get(send.worker)
        if p is None or p.frozen:
            self.tell(ev.CommandUnanswered(send.worker, send.command))
            return
        try:
            self._obey(p, send.command)
        except StaleEpoch as e:
            self.tell(ev.CommandWasRefused(send.worker, send.command, "conflict", e.seen))
        except CommandRefused as e:
            self.tell(ev.CommandWasRefused(send.worker, send.command, e.condition))
        else:
            if send.worker in self.procs:
                self.tell(ev.Answered(send.worker, send.command, self._answer(p, send.command)))

    def lose(self, i: int) -> None:
        send = self.sends.pop(i % len(self.sends))
        self.tell(ev.CommandUnanswered(send.worker, send.command))

    def _obey(self, p: Process, command: WorkerCommand) -> None:
        for effect in p.tenure.obey(command):
            match effect:
                case End():
                    self.crash(p.worker)
                    return
                case Take(partition):
                    p.position[partition] = self.committed.get(partition, 0)
                case GiveBack(partition):
                    p.tenure.note_released(partition, p.position.pop(partition))
                case TakeLease():
                    pass

    def _answer(self, p: Process, command: WorkerCommand) -> WorkerAnswer:
        match command:
            case ReleaseCommand(lanes=grants):
                at = [(g, p.tenure.released_offset(g.n, g.epoch)) for g in grants]
                return WorkerAnswer(
                    tuple(Grant(g.n, g.epoch, offset) for g, offset in at if offset is not None)
                )
            case AssignCommand():
                return WorkerAnswer(
                    tuple(Grant(n, epoch, 0) for n, epoch in p.tenure.owned_epochs())
                )
        return WorkerAnswer()

    def commit(self, worker: str, n: int = 1) -> None:
        """It commits a batch of each partition that it owns, if Kafka lets it; a refused one ends
        it."""
        p = self.procs[worker]
        lease = p.tenure.lease
        if p.frozen or lease is None:
            return
        for partition in list(p.position):
            if lease.producer_epoch != self.epochs[lease.transactional_id]:
                self.crash(worker)
                return
            written = self.partitions[partition]
            assert (written.worker, written.boot) == (worker, p.boot), (
                f"S2 {partition}: {written} {p}"
            )
            assert written.epoch == p.tenure.owned_epoch(partition.n), (
                f"S2 epoch {partition}: {written} {p}"
            )
            assert p.position[partition] == self.committed.get(partition, 0), (
                f"S1 {partition} at {p.position[partition]}"
            )
            self.committed[partition] = p.position[partition] = p.position[partition] + n

    # ---- time ----

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        asked, self.pings = self.pings, []
        for worker in list(self.procs):
            if worker in self.procs:
                self.telemetry(worker)
        for worker in asked:
            proc = self.procs.get(worker)
            self.tell(ev.Ponged(worker, proc is not None and not proc.frozen))
        self.tell(ev.Tick())

    def cut(self) -> None:
        """The coordinator loses XMPP and is back."""
        self.tell(LinkDown())
        self.now_s += 1
        self.tell(Led())
        for worker in list(self.procs):
            self.announce(worker)

    def fair(self, rounds: int = 60, *, revive: bool = True) -> None:
        """Everything that can go on goes on, faults stop, dead workers come back."""
        for proc in self.procs.values():
            proc.frozen = False
        for _ in range(rounds):
            if revive:
                for worker in self.inv.workers:
                    if worker not in self.procs:
                        self.start(worker)
            for _ in range(50):
                if not (self.kafka or self.sends):
                    break
                self.kafka_step()
                if self.sends:
                    self.deliver(0)
            for worker in list(self.procs):
                if worker in self.procs:
                    self.commit(worker)
            self.make_plan()
            self.pass_s(1.0)

    def all_at_work(self) -> bool:
        return all(
            s.state is State.ASSIGNED
            and s.worker in self.procs
            and p in self.procs[s.worker].position
            for p, s in self.core.fleet.partitions.items()
        )
