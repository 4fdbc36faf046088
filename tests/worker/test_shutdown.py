"""When a worker that is told to stop ends."""

from __future__ import annotations

import asyncio

import pytest

from agents import settings
from agents.base.systemd_notify import Service
from agents.core.lanes.tenure import Tenure
from agents.core.model.messages import (
    AssignCommand,
    Grant,
    LeaseCommand,
    ReleaseCommand,
    WorkerAnswer,
    WorkerCommand,
)
from agents.core.model.topology import WorkerKind
from agents.worker import shutdown
from agents.worker.shutdown import Left, hand_over_and_leave
from agents.xmpp.worker_session import WorkerLink


async def obey(command: WorkerCommand) -> WorkerAnswer:
    return WorkerAnswer(())


def leased(*lanes: int) -> Tenure:
    tenure = Tenure(WorkerKind.NODE.topic, "boot")
    tenure.obey(LeaseCommand(1, "boot", "t", 1, 0))
    tenure.obey(
        AssignCommand(1, "boot", WorkerKind.NODE.topic, tuple(Grant(n, 1, 0) for n in lanes))
    )
    return tenure


def leaves(tenure: Tenure, *, told: bool = True) -> tuple[Service, asyncio.Task[None]]:
    service = Service()
    if told:
        service.leave.set()
    link = WorkerLink(settings.Xmpp(), "node-1", "boot", obey, site="x", capacity_eps=1)
    return service, asyncio.create_task(hand_over_and_leave(service, tenure, link, 30))


async def ends(task: asyncio.Task[None], within_s: float) -> None:
    with pytest.raises(Left):
        await asyncio.wait_for(task, within_s)


async def test_it_stays_until_it_is_told_to_go() -> None:
    service, task = leaves(leased(), told=False)
    done, _ = await asyncio.wait({task}, timeout=0.1)
    assert not done
    assert service.drain_s == 30
    service.leave.set()
    await ends(task, 2)


async def test_without_a_lease_it_goes_at_once() -> None:
    await ends(leaves(Tenure(WorkerKind.NODE.topic, "boot"))[1], 0.4)


async def test_fenced_it_goes_at_once() -> None:
    tenure = leased(1, 2)
    tenure.obey(LeaseCommand(1, "boot", "t", -1, 0))
    await ends(leaves(tenure)[1], 0.4)


async def test_it_goes_when_the_last_lane_is_released() -> None:
    tenure = leased(1, 2)
    _, task = leaves(tenure)
    for n in (1, 2):
        done, _ = await asyncio.wait({task}, timeout=0.2)
        assert not done
        tenure.obey(ReleaseCommand(1, "boot", WorkerKind.NODE.topic, (Grant(n, 1, 0),)))
        tenure.note_released(WorkerKind.NODE.partition(n), 5)
    await ends(task, 2)


async def test_it_goes_when_nobody_takes_its_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "NOBODY_S", 0.2)
    await ends(leaves(leased(1))[1], 2)


async def test_it_waits_for_a_lane_that_is_asked_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "NOBODY_S", 0.2)
    tenure = leased(1)
    tenure.obey(ReleaseCommand(1, "boot", WorkerKind.NODE.topic, (Grant(1, 1, 0),)))
    _, task = leaves(tenure)
    done, _ = await asyncio.wait({task}, timeout=0.6)
    assert not done
    task.cancel()
