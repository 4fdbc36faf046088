"""Whoever shares the raw partitions out, the two engines never work at the same time, and people
only change the settings."""

from __future__ import annotations

import pytest

from agents.core import events as ev
from agents.core.effects import Send
from agents.core.fleet.rewinds import ReadCommitted, Standing
from agents.core.fleet.troubles import TroubleKind
from agents.core.model.answers import NodeData
from agents.core.model.messages import AssignCommand, LaneLoad, LeaseCommand, Telemetry
from agents.core.model.placement import Intent, State, drain_intent
from agents.core.model.topology import KAFKA_STREAMS, PYTHON, WorkerKind, WorkerSpec
from agents.core.operators import tables
from agents.core.operators.details import describe_node
from tests.core.operators.test_reset import ANA, ask, confirm, found, go_on
from tests.core.world import World

RAW = WorkerKind.ROUTER.partition(0)
ROUTER = "router-1"


def _settle(w: World, seconds: int = 30) -> None:
    for _ in range(seconds * 2):
        w.kafka_steps()
        while w.sends:
            w.deliver(0)
        w.pass_s(0.5)
        for worker in list(w.procs):
            if worker in w.procs:
                w.commit(worker)
        _assert_only_one_engine_works(w)


def _assert_only_one_engine_works(w: World) -> None:
    owned = w.core.fleet.partitions[RAW].state is not State.ORPHAN
    streams = any(x.engine != PYTHON and not x.fenced for x in w.leases.values())
    assert not (owned and streams), "both engines could work"


def _world(engine: str) -> World:
    w = World(router_engine=engine, engines={ROUTER: engine})
    for worker in w.inv.workers:
        w.start(worker)
    _settle(w)
    return w


def _switch(w: World, engine: str) -> None:
    """The settings of all name another engine, and the coordinator is restarted."""
    w.router_engine = w.engines[ROUTER] = engine
    w.lead()
    for _ in range(3):
        _settle(w, 10)
        for worker in w.inv.workers:
            if worker not in w.procs:  # its supervisor starts it again
                w.start(worker)
    _settle(w)


def _gets_lease(w: World) -> bool:
    lease = w.leases.get(ROUTER)
    return lease is not None and not lease.fenced and lease.boot == w.procs[ROUTER].boot


def test_a_router_on_kafka_streams_gets_a_lease_and_no_partition() -> None:
    w = _world(KAFKA_STREAMS)
    assert _gets_lease(w)
    assert w.partitions.get(RAW) is None
    assert w.core.fleet.partitions[RAW].state is State.ORPHAN


@pytest.mark.parametrize(("first", "then"), [(PYTHON, KAFKA_STREAMS), (KAFKA_STREAMS, PYTHON)])
def test_switching(first: str, then: str) -> None:
    w = _world(first)
    boot = w.procs[ROUTER].boot
    _switch(w, then)
    assert w.procs[ROUTER].boot != boot
    assert _gets_lease(w)
    assert w.leases[ROUTER].engine == then
    state = w.core.fleet.partitions[RAW].state
    assert state is (State.ASSIGNED if then == PYTHON else State.ORPHAN)
    _switch(w, first)
    assert _gets_lease(w)
    assert w.leases[ROUTER].engine == first


@pytest.mark.parametrize(("mine", "its"), [(PYTHON, KAFKA_STREAMS), (KAFKA_STREAMS, PYTHON)])
def test_a_router_with_another_engine_works_nothing_and_is_named(mine: str, its: str) -> None:
    w = World(router_engine=mine, engines={ROUTER: its})
    for worker in w.inv.workers:
        w.start(worker)
    _settle(w)
    assert ROUTER not in w.leases
    [trouble] = [
        t for t in w.core.news.troubles.list_worst_first() if t.kind is TroubleKind.ROUTER_ENGINE
    ]
    assert trouble.about == ROUTER
    assert its in trouble.text
    w.crash(ROUTER)
    w.engines[ROUTER] = mine
    w.start(ROUTER)
    _settle(w)
    assert _gets_lease(w)
    assert not w.core.news.troubles.is_set(TroubleKind.ROUTER_ENGINE, ROUTER)


def test_python_waits_until_a_frozen_router_on_kafka_streams_is_fenced() -> None:
    w = _world(KAFKA_STREAMS)
    w.procs[ROUTER].frozen = True
    frozen = w.procs.pop(ROUTER)  # no `unavailable` comes from it
    w.router_engine = PYTHON
    w.inv = w.inventory_with(
        WorkerKind.ROUTER,
        {
            name: WorkerSpec(name, WorkerKind.ROUTER, "s0", 50_000.0)
            for name in (ROUTER, "router-2")
        },
    )
    w.lead()
    w.start("router-2")
    w.kafka_step()
    assert w.core.fleet.partitions[RAW].state is State.ORPHAN
    _settle(w)
    assert w.partitions[RAW].worker == "router-2"
    lease = frozen.tenure.lease
    assert lease is not None
    assert w.epochs[lease.transactional_id] > lease.producer_epoch


def test_a_drained_router_on_kafka_streams_gets_no_lease_after_a_restart() -> None:
    w = _world(KAFKA_STREAMS)
    w.intents[drain_intent(ROUTER)] = Intent("ana", 0)
    w.lead()
    w.crash(ROUTER)
    w.start(ROUTER)
    _settle(w)
    assert not _gets_lease(w)
    del w.intents[drain_intent(ROUTER)]
    w.lead()
    _settle(w)
    assert _gets_lease(w)


def test_an_offset_is_set_while_no_router_on_kafka_streams_has_a_lease() -> None:
    w = _world(KAFKA_STREAMS)
    w.tell(ev.AffiliationsRead({ANA: "owner"}))
    ask(w, "reset raw 0 to=10")
    dry = found(w, {RAW: Standing(0, 90, 5)})
    assert "raw 0: 5 -> 10; events 5 to 9 are lost" in dry
    assert "All routers start again" in dry
    confirm(w, dry)
    assert not w.errands, "nothing is read or set before the leases have ended"
    go_on(w)
    assert w.leases[ROUTER].fenced
    w.start(ROUTER)  # its supervisor starts it again
    _settle(w, 3)
    assert not _gets_lease(w)
    assert isinstance(w.errands[0].what, ReadCommitted)
    found(w, (5, "{}"))
    go_on(w)
    assert w.committed[RAW] == 10
    assert not _gets_lease(w)
    found(w)  # it shows
    _settle(w)
    assert _gets_lease(w)
    assert w.partitions[RAW].state is State.ORPHAN


def test_a_partition_that_has_stopped_at_kafka_streams_is_told() -> None:
    w = _world(KAFKA_STREAMS)
    boot = w.procs[ROUTER].boot
    for seq, fault in ((10_000, "a wrong checksum"), (10_001, "")):
        load = LaneLoad(RAW.topic, 0, 0, 0.0, 3, 1.0, 2.0, fault)
        telemetry = Telemetry(boot, seq, "", 0.1, 40.0, lanes=(load,))
        w.core.fleet.note_telemetry(ROUTER, telemetry, 0.0)
        w.core.news.report_faults(ROUTER, telemetry, 0.0)
        told = [t.text for t in w.core.news.troubles.list_worst_first()]
        if fault:
            assert "raw 0 has stopped on router-1: a wrong checksum." in told
    w.core.news.report_faults(ROUTER, telemetry, 1000.0)
    assert not w.core.news.troubles.is_set(TroubleKind.LANE_STOPPED, RAW.key)


def test_people_see_what_kafka_streams_has_shared_out() -> None:
    w = _world(KAFKA_STREAMS)
    boot = w.procs[ROUTER].boot
    load = LaneLoad(RAW.topic, 0, 0, 12.0, 3, 1.0, 2.0)
    w.core.fleet.note_telemetry(ROUTER, Telemetry(boot, 10_000, "", 0.1, 40.0, lanes=(load,)), 0.0)
    fleet, paths = w.core.fleet, w.core.paths
    node = describe_node(fleet, paths, fleet.views["node-0"], 0.0)
    assert "its group gave" not in node.text
    told = describe_node(fleet, paths, fleet.views[ROUTER], 0.0)
    assert "Kafka Streams, whose group gave it raw partitions: 0." in told.text
    assert isinstance(told.data, NodeData)
    assert (told.data.engine, told.data.topic, told.data.owned) == (
        KAFKA_STREAMS,
        "events.raw",
        (0,),
    )
    lanes = tables.list_lanes(fleet, 1).text
    assert "Raw: Kafka Streams works 1 of 1 partition, 12 events/s, lag 3." in lanes
    assert not any(
        isinstance(send, Send) and isinstance(send.command, AssignCommand | LeaseCommand)
        for send in w.sends
    )
