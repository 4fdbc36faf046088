"""The process `geolane analytics` between real servers: it is commanded as a router is, and finds
hotspots while it owns the partition."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from agents import settings
from agents.analytics.engine import HotspotEngine
from agents.analytics.process import run
from agents.base.errors import LeaseLost, SettingsError
from agents.base.ports import find_free_port
from agents.core.model.messages import AssignCommand, Grant, Health, LeaseCommand, ReleaseCommand
from agents.core.model.topology import MAIN
from agents.worker.process import run_worker
from agents.worker.worker_engine import WorkerEngine
from tests.analytics.support import Parameters, closing, expected_rises, made_stream, rig, until
from tests.fixtures.kafka import KafkaServer
from tests.fixtures.xmpp import XmppServer
from tests.node.test_process import led
from tests.observe.metrics.support import scrape


async def test_it_is_leased_finds_hotspots_and_hands_over(
    kafka_server: KafkaServer, xmpp_server: XmppServer
) -> None:
    events = made_stream(5, minutes=30)
    async with rig(kafka_server) as r:
        account, port = await xmpp_server.worker("analytics"), find_free_port()
        loaded = settings.Settings(
            kafka=kafka_server.kafka,
            xmpp=xmpp_server.settings(account),
            worker=settings.Worker(telemetry_period_s=0.2),
            metrics=settings.Metrics(port=port),
        )

        def make_engine(boot: str, leave: Callable[[], None]) -> WorkerEngine:
            return HotspotEngine(
                kafka_server.kafka, Parameters(), boot, leave=leave, topics=r.topics
            )

        process_of = run_worker(loaded, account, make_engine)
        async with led(xmpp_server, r.makers, account, process_of) as (f, process):
            assert f.health is Health.DND
            await f.lease()
            await until(lambda: f.health is Health.AVAILABLE)
            topic = f"{MAIN}/{r.topics.hotspots}"
            await f.tell(AssignCommand(1, f.boot, topic, (Grant(0, 4, 0),)))
            sent = [*events, *closing(events)]
            await r.send(sent)
            await r.wait_until_counted(len(sent))
            assert set(await r.rises()) == expected_rises(events)
            await until(lambda: any(lane.rate_eps > 0 for t in f.telemetry for lane in t.lanes))
            last = f.telemetry[-1]
            assert [(x.topic, x.n, x.epoch, x.lag_events) for x in last.lanes] == [(topic, 0, 4, 0)]
            found = await scrape(port)
            info = {"worker": account, "kind": "analytics", "version": "0.1.0"}
            assert found.value("geolane_worker_info", **info) == 1
            assert found.value("geolane_worker_leased", worker=account) == 1
            answer = await f.tell(ReleaseCommand(1, f.boot, topic, (Grant(0, 4, 0),)))
            assert answer.lanes[0].offset == (await r.committed())[0] > 0
            await f.tell(LeaseCommand(1, f.boot, "x", -1, 0))
            with pytest.raises(LeaseLost):
                await asyncio.wait_for(process, 10)


async def test_a_certificate_that_is_not_there_is_named() -> None:
    flink = settings.Flink(gateway_url="https://127.0.0.1:1", ca_file="/nowhere.pem")
    analytics = settings.Analytics(engine="flink", flink=flink)
    with pytest.raises(SettingsError, match=r"analytics\.flink: ca_file \('/nowhere.pem'\)"):
        await run(settings.Settings(analytics=analytics), "1")
