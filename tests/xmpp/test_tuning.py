"""The feed `tuning` over the real server: each worker hears it, and whoever connects later fetches
it."""

from __future__ import annotations

import asyncio

from agents.core.events import TelemetryIn
from agents.core.model.feeds import CURRENT, TUNING, FeedItem, TuningValues
from agents.core.model.messages import Telemetry, WorkerAnswer, WorkerCommand
from agents.xmpp.worker_session import WorkerLink
from tests.xmpp.conftest import Links, until


def item(version: int, **values: int | float) -> FeedItem:
    return FeedItem(TUNING, CURRENT, "t", "t", TuningValues(version, tuple(values.items())), 1)


class Tuned:
    """A worker's link that runs, with what it was told."""

    def __init__(self, links: Links, account: str) -> None:
        self.told: list[TuningValues] = []
        self.link = WorkerLink(
            links.server.settings(account),
            account,
            "b",
            self._obey,
            site="iad",
            capacity_eps=1.0,
            tuned=self.told.append,
        )
        self.task = asyncio.create_task(self.link.run())
        links._tasks.append(self.task)

    async def _obey(self, command: WorkerCommand) -> WorkerAnswer:
        raise AssertionError(command)

    def last(self) -> TuningValues | None:
        return self.told[-1] if self.told else None


async def test_workers_hear_it_and_who_connects_later_fetches_it(links: Links) -> None:
    leader = await links.coordinator()
    leader.link.publish_item(item(1, commit_gap_ms=200))
    one = Tuned(links, await links.server.worker())
    await until(lambda: one.last() == TuningValues(1, (("commit_gap_ms", 200),)))
    leader.link.publish_item(item(2, commit_gap_ms=250, telemetry_period_s=0.5))
    wanted = TuningValues(2, (("commit_gap_ms", 250), ("telemetry_period_s", 0.5)))
    await until(lambda: one.last() == wanted)
    later = Tuned(links, await links.server.worker())
    await until(lambda: later.last() == wanted)


async def test_what_was_said_while_it_was_away_is_fetched_when_it_is_back(links: Links) -> None:
    leader = await links.coordinator()
    leader.link.publish_item(item(3))
    w = Tuned(links, await links.server.worker())
    await until(lambda: w.last() == TuningValues(3))
    session = w.link._session
    assert session is not None
    session.abort("cut by the test")
    leader.link.publish_item(item(4, batch_records=7))
    await until(lambda: w.last() == TuningValues(4, (("batch_records", 7),)))
    w.link.set_ping_period(0.5)
    assert w.link._session is not None
    assert w.link._session.quiet_s == 0.5


async def test_it_is_acknowledged_by_telemetry(links: Links) -> None:
    leader = await links.coordinator()
    worker = await links.worker()
    worker.link.publish_telemetry(Telemetry("boot1", 1, "", 0.1, 40.0, tuning=17))
    heard = await until(lambda: [e for e in leader.of(TelemetryIn) if e.worker == worker.account])
    assert heard[0].telemetry.tuning == 17


async def test_what_is_no_tuning_changes_nothing(links: Links) -> None:
    leader = await links.coordinator()
    leader.link.publish_item(item(5))
    w = Tuned(links, await links.server.worker())
    await until(lambda: w.last() == TuningValues(5))
    leader.link.publish_item(
        FeedItem(TUNING, CURRENT, "t", "t", TuningValues(6, (("no name", 1),)), 1)
    )
    leader.link.publish_item(item(7))
    await until(lambda: w.last() == TuningValues(7))
    assert TuningValues(6, (("no name", 1),)) not in w.told
