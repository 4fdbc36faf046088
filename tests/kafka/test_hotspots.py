"""How the leader reads the topic `hotspots`: its past, what follows, rubbish, records that were
never committed, no topic at all (agents/kafka/hotspots.py)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from agents import settings
from agents.core.events import HotspotsRead
from agents.core.model.hotspots import Hotspot, HotspotState
from agents.kafka import follow
from agents.kafka import hotspots as reading
from agents.kafka.hotspots import HotspotReader
from agents.kafka.rights import R, Right
from agents.kafka.topics import Topic, ensure_topics
from agents.kafka.users import Accounts
from agents.kafka.wire import Resource
from tests.fixtures.foreign import NONE, Foreign, batch, sender
from tests.fixtures.kafka import KafkaServer
from tests.kafka.support import fill, lease_maker, leased, until

AREA = "8326cbfffffffff"


def hotspot(n: int) -> Hotspot:
    return Hotspot(
        f"{AREA}-{1000 + n}",
        HotspotState.OPEN,
        900,
        1000 + n,
        1000 + n,
        (AREA,),
        AREA,
        14.2,
        2.1,
        120,
    )


class Heard:
    def __init__(self) -> None:
        self.events: list[HotspotsRead] = []
        self.at: list[float] = []

    def __call__(self, event: HotspotsRead) -> None:
        self.events.append(event)
        self.at.append(time.monotonic())

    def hotspots(self, *, past: bool) -> list[Hotspot]:
        return [c.hotspot for e in self.events if e.past is past for c in e.changes]

    @property
    def skipped(self) -> int:
        return sum(e.skipped for e in self.events)

    async def caught_up(self) -> None:
        async def done() -> bool:
            return any(not e.past for e in self.events)

        await until(done, 20)

    async def count(self, n: int, *, past: bool = False) -> None:
        async def done() -> bool:
            return len(self.hotspots(past=past)) >= n

        await until(done, 20)


@asynccontextmanager
async def read(kafka: settings.Kafka, topic: str) -> AsyncIterator[Heard]:
    heard = Heard()
    task = asyncio.create_task(HotspotReader(kafka, topic=topic, retry_s=0.2).run(heard))
    try:
        yield heard
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def write(kafka: settings.Kafka, topic: str, *some: Hotspot) -> None:
    for h in some:
        await fill(kafka, topic, [h.encode()], key=h.id.encode())


async def test_the_past_comes_first_and_then_what_follows_within_a_second(
    kafka_server: KafkaServer,
) -> None:
    topic = await kafka_server.topic("hotspots")
    await write(kafka_server.kafka, topic, hotspot(0), hotspot(1))
    async with read(kafka_server.kafka, topic) as heard:
        await heard.caught_up()
        assert heard.hotspots(past=True) == [hotspot(0), hotspot(1)]
        assert heard.events[-1] == HotspotsRead()
        await write(kafka_server.kafka, topic, hotspot(2))
        await heard.count(1)
        (change,) = heard.events[-1].changes
        assert change.hotspot == hotspot(2)
        assert change.age_s < 1.0, "since it was appended"
        assert abs(change.appended_ms / 1000 - time.time()) < 10


async def test_an_empty_topic_is_read_at_once(kafka_server: KafkaServer) -> None:
    topic = await kafka_server.topic("hotspots")
    async with read(kafka_server.kafka, topic) as heard:
        await heard.caught_up()
        assert heard.events == [HotspotsRead()]


async def test_rubbish_is_skipped_and_counted_and_the_rest_is_read(
    kafka_server: KafkaServer,
) -> None:
    topic, kafka = await kafka_server.topic("hotspots"), kafka_server.kafka
    good = hotspot(0)
    too_fast = msgspec.structs.replace(good, eps=1e12)
    await fill(kafka, topic, [b"", b"{}", b"\xff" * 50, b"[" * 5000, too_fast.encode()], key=b"x")
    await fill(kafka, topic, [good.encode()], key=b"another key")
    async with sender(kafka) as foreign:
        no_value = Foreign(None, good.id.encode())
        bad_header = Foreign(b"{}", None, [(b"\xff\xfe", b"1")])
        await foreign.send(topic, 0, batch([no_value, bad_header], NONE))
    await write(kafka, topic, good)
    async with read(kafka, topic) as heard:
        await heard.caught_up()
        assert heard.hotspots(past=True) == [good]
        assert heard.skipped == 8
        await fill(kafka, topic, [b"rubbish"])
        await write(kafka, topic, hotspot(1))
        await heard.count(1)
        assert heard.hotspots(past=False) == [hotspot(1)]
        assert heard.skipped == 9


async def test_what_was_never_committed_is_not_read(kafka_server: KafkaServer) -> None:
    topic, name, kafka = (
        await kafka_server.topic("hotspots"),
        kafka_server.name("engine"),
        kafka_server.kafka,
    )
    async with (
        lease_maker(kafka) as maker,
        leased(kafka, name, await maker.make_lease(name)) as producer,
    ):
        for n, commit in enumerate((True, False, True)):
            await producer.begin_transaction()
            await producer.send_and_wait(
                topic, hotspot(n).encode(), key=hotspot(n).id.encode(), partition=0
            )
            await (producer.commit_transaction() if commit else producer.abort_transaction())
        async with read(kafka, topic) as heard:
            await heard.caught_up()
            assert heard.hotspots(past=True) == [hotspot(0), hotspot(2)]
            await producer.begin_transaction()
            await producer.send_and_wait(
                topic, hotspot(3).encode(), key=hotspot(3).id.encode(), partition=0
            )
            await asyncio.sleep(0.5)
            assert heard.hotspots(past=False) == []
            await producer.commit_transaction()
            await heard.count(1)


async def test_without_the_topic_there_is_nothing_and_all_of_it_is_new_once_it_is_there(
    kafka_server: KafkaServer,
) -> None:
    topic, kafka = kafka_server.name("hotspots"), kafka_server.kafka
    async with read(kafka, topic) as heard:
        await asyncio.sleep(1.5)
        assert heard.events == []
        await ensure_topics(kafka, (Topic(topic, 1, 16, {}),), embedded=True)
        await write(kafka, topic, hotspot(0))
        await heard.count(1)
        assert heard.hotspots(past=True) == []


async def test_without_the_right_there_is_nothing_until_it_is_given(
    kafka_server: KafkaServer, tmp_path: Path
) -> None:
    """As on a cluster that was provisioned before there was analytics."""
    topic, user, file = (
        await kafka_server.topic("hotspots"),
        kafka_server.name("leader"),
        tmp_path / "password",
    )
    file.write_text("correct horse battery staple")
    file.chmod(0o600)
    await write(kafka_server.kafka, topic, hotspot(0))
    accounts = Accounts(kafka_server.kafka)
    await accounts.start()
    try:
        await accounts.set_passwords({user: file})
        as_them = msgspec.structs.replace(
            kafka_server.kafka, username=user, password_file=str(file)
        )
        with capture_logs() as logs:
            async with read(as_them, topic) as heard:
                await asyncio.sleep(2)
                assert heard.events == []
                right = Right(user, Resource.TOPIC, topic, R)
                await accounts.grant_rights([right], lambda did, what: None)
                await heard.count(1, past=True)
        told = [x for x in logs if x["event"] == "topic_not_read"]
        assert len(told) == 1
        assert "lacks a right on Topic" in told[0]["error"]
    finally:
        await accounts.stop()


async def test_ten_thousand_come_in_order_in_events_of_a_bounded_size(
    kafka_server: KafkaServer,
) -> None:
    topic, kafka = await kafka_server.topic("hotspots"), kafka_server.kafka
    some = hotspot(0)
    await fill(kafka, topic, [some.encode()] * 10_000, key=some.id.encode())
    async with read(kafka, topic) as heard:
        await heard.caught_up()
        assert len(heard.hotspots(past=True)) == 10_000
        assert max(len(e.changes) for e in heard.events) <= follow.TOGETHER
        await fill(kafka, topic, [some.encode()] * 2_000, key=some.id.encode())
        await heard.count(2_000)


async def test_only_the_newest_of_a_long_past_is_read(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAST_RECORDS", 3)
    topic, kafka = await kafka_server.topic("hotspots"), kafka_server.kafka
    await write(kafka, topic, *map(hotspot, range(8)))
    async with read(kafka, topic) as heard:
        await heard.caught_up()
        assert heard.hotspots(past=True) == [hotspot(5), hotspot(6), hotspot(7)]


async def test_a_broker_that_is_away_only_delays(kafka_server: KafkaServer) -> None:
    away = msgspec.structs.replace(kafka_server.kafka, bootstrap="127.0.0.1:1")
    async with read(away, "hotspots") as heard:
        await asyncio.sleep(1)
        assert heard.events == []
