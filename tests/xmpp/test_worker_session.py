"""A worker and the leader over the real server."""

from __future__ import annotations

import asyncio

import pytest

from agents.base.errors import CommandRefused, NoAnswer, StaleEpoch
from agents.core.events import TelemetryIn, WorkerSeen
from agents.core.model.geo import (
    GeoAnswer,
    GeoCommand,
    Named,
    NamesAnswer,
    NamesCommand,
    Source,
    Unnamed,
)
from agents.core.model.messages import (
    AssignCommand,
    DrainCommand,
    Grant,
    Health,
    LaneLoad,
    LanesCommand,
    LeaseCommand,
    ReleaseCommand,
    ResumeCommand,
    Telemetry,
    WorkerAnswer,
    WorkerCommand,
)
from agents.core.model.topology import WorkerKind
from tests.xmpp.conftest import Links, until

COMMANDS: list[WorkerCommand] = [
    LeaseCommand(4, "boot1", "geolane-node-1", 1009, 3),
    AssignCommand(4, "boot1", WorkerKind.NODE.topic, (Grant(12, 7, 104422), Grant(31, 2, 0))),
    ReleaseCommand(4, "boot1", WorkerKind.NODE.topic, (Grant(12, 8, 0),)),
    LanesCommand(4, "boot1"),
    DrainCommand(4, "boot1"),
    ResumeCommand(4, "boot1"),
]


async def test_every_command_arrives_as_it_was_sent_and_its_answer_returns(links: Links) -> None:
    leader = await links.coordinator()
    worker = await links.worker()
    owned = WorkerAnswer((Grant(12, 7, 104999),))
    worker.answer = lambda _: owned
    for command in COMMANDS:
        assert await leader.link.send_command(worker.account, command, 5.0) == owned
    assert worker.commands == COMMANDS


async def test_a_geo_worker_answers_questions_and_any_other_refuses_them(links: Links) -> None:
    leader = await links.coordinator()
    worker = await links.worker()
    asked: list[GeoCommand] = []
    command = NamesCommand(4, "boot1", (Unnamed("lane-12", (41.85, -87.65)),))
    with pytest.raises(CommandRefused) as refused:
        await leader.link.ask_geo(worker.account, command, 5.0)
    assert refused.value.condition == "feature-not-implemented"
    named = NamesAnswer((Named("lane-12", "Chicago, US", Source("offline", "x", 0.0, 60.0)),))

    async def answer(command: GeoCommand) -> GeoAnswer:
        asked.append(command)
        return named

    worker.link._answer_geo = answer
    assert await leader.link.ask_geo(worker.account, command, 5.0) == named
    assert asked == [command]


async def test_a_stale_epoch_is_told_with_what_was_seen(links: Links) -> None:
    leader = await links.coordinator()
    worker = await links.worker()

    def stale(_: WorkerCommand) -> WorkerAnswer:
        raise StaleEpoch(8)

    worker.answer = stale
    with pytest.raises(StaleEpoch) as refused:
        await leader.link.send_command(worker.account, COMMANDS[1], 5.0)
    assert refused.value.seen == 8


async def test_a_refusal_keeps_its_condition(links: Links) -> None:
    leader = await links.coordinator()
    worker = await links.worker()

    def refuse(_: WorkerCommand) -> WorkerAnswer:
        raise CommandRefused("not-acceptable", "another boot")

    worker.answer = refuse
    with pytest.raises(CommandRefused) as refused:
        await leader.link.send_command(worker.account, COMMANDS[3], 5.0)
    assert refused.value.condition == "not-acceptable"


async def test_a_worker_that_is_not_there_gives_no_answer(links: Links) -> None:
    leader = await links.coordinator()
    absent = await links.server.worker()
    with pytest.raises(NoAnswer):
        await leader.link.send_command(absent, COMMANDS[3], 5.0)
    with pytest.raises(NoAnswer):
        await leader.link.ping_worker(absent, 5.0)


async def test_a_worker_that_is_slow_gives_no_answer_in_time_but_answers_pings(
    links: Links,
) -> None:
    leader = await links.coordinator()
    worker = await links.worker()
    never = asyncio.Event()

    async def slow(_: WorkerCommand) -> WorkerAnswer:
        await never.wait()
        return WorkerAnswer()

    worker.link._obey = slow
    with pytest.raises(NoAnswer):
        await leader.link.send_command(worker.account, COMMANDS[3], 0.3)
    await leader.link.ping_worker(worker.account, 5.0)


async def test_presence_is_health_and_says_what_the_worker_is(links: Links) -> None:
    leader = await links.coordinator()
    worker = await links.worker(boot="boot7")
    worker.link.announce_health(Health.DND, "draining", "draining: 3 lanes left")
    seen = await until(
        lambda: [
            e.announcement for e in leader.of(WorkerSeen) if e.announcement.state == "draining"
        ]
    )
    said = seen[0]
    assert (said.worker, said.health, said.boot, said.status) == (
        worker.account,
        Health.DND,
        "boot7",
        "draining: 3 lanes left",
    )
    assert (said.site, said.capacity_eps, said.accel) == ("iad", 2000.0, "none")
    worker.task.cancel()
    await until(
        lambda: [e for e in leader.of(WorkerSeen) if e.announcement.health is Health.UNAVAILABLE]
    )


async def test_a_leader_that_comes_later_learns_who_is_there(links: Links) -> None:
    worker = await links.worker()
    worker.link.announce_health(Health.AVAILABLE, "working", "")
    leader = await links.coordinator()
    await until(
        lambda: [
            e
            for e in leader.of(WorkerSeen)
            if e.announcement.worker == worker.account and e.announcement.health is Health.AVAILABLE
        ]
    )


async def test_telemetry_reaches_the_leader(links: Links) -> None:
    leader = await links.coordinator()
    worker = await links.worker()
    load = LaneLoad(WorkerKind.NODE.topic, 12, 7, 812.5, 40, 3.1, 9.4)
    said = Telemetry("boot1", 812, "2026-11-22T22:08:11.204Z", 0.61, 88.0, 17, (load,))
    worker.link.publish_telemetry(said)
    heard = await until(lambda: leader.of(TelemetryIn))
    assert heard == [TelemetryIn(worker.account, said)]
