"""A topic that refuses what it is sent costs one record, or holds one lane: never the process, nor
its neighbours. What it refuses is told with the topic, and taken up again once it is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from agents.core.lanes.records import Record
from agents.kafka import producer as producer_module
from agents.kafka.producer import Batches, LeasedProducer
from agents.kafka.rights import Right
from agents.kafka.users import Removal
from agents.kafka.wire import Operation, Resource
from agents.local.servers.broker import Broker
from agents.node.stage import NodeStage
from tests.fixtures.kafka import KafkaServer
from tests.kafka import support
from tests.router.test_router import router
from tests.worker.support import Here, Rig, Running, event, rig, until
from tests.worker.test_engine import LIMIT, done, node

SMALL = {"max.message.bytes": "3000"}
USUAL = {"max.message.bytes": str(9 << 20)}


async def alter(r: Rig, topic: str, keys: dict[str, str]) -> None:
    await support.alter(r.kafka, topic, keys)


def raw_values(large: int, count: int = 200) -> list[bytes]:
    """Small events, and every 50th of `large` bytes."""
    return [event(i, pad="x" * (large if i % 50 == 25 else 10)) for i in range(count)]


async def reasons(r: Rig, count: int) -> list[tuple[str, str]]:
    return [
        (h["geolane-reason"].decode(), h["geolane-detail"].decode())
        for h in (dict(x.headers) for x in await r.read(r.topics.dead, count))
    ]


async def fill_lane(r: Rig, n: int, values: list[bytes]) -> None:
    headers = [
        ("geolane-src", b"raw/0/0"),
        ("geolane-raw-ms", b"1"),
        ("geolane-cell", b"842664dffffffff"),
        ("geolane-ts", b"978964500000"),
        ("geolane-map", b"1"),
    ]
    await r.fill(r.topics.lanes, n, [(b"k", value) for value in values], headers=headers)


@pytest.mark.parametrize(
    "known", [True, False], ids=["the limit is told", "the limit may not be asked for"]
)
async def test_a_record_too_large_for_clean_costs_itself(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    if not known:
        monkeypatch.setattr(producer_module, "read_size_limit", _nobody_says)
    async with rig(kafka_server, lanes=2) as r:
        await alter(r, r.topics.clean, SMALL)
        await fill_lane(r, 0, raw_values(5_000))
        await r.fill_lane(1, 0, 100)
        w = await r.engine(node(r))
        await w.assign((0, 1, 0), (1, 1, 0))
        await until(lambda: done(w) == 300, 60)
        assert len(await r.read(r.topics.clean, 296)) == 296
        for reason, detail in await reasons(r, 4):
            assert reason == "too_large"
            assert f"for {r.topics.clean}, which takes" in detail
            assert not known or "takes 3,000 (max.message.bytes)" in detail
        assert not w.task.done()


async def _nobody_says(client: object, topic: str) -> int:
    return 0


async def test_together_too_large_alone_not(kafka_server: KafkaServer) -> None:
    """Batches are made smaller; no record is lost for it."""
    async with rig(kafka_server, lanes=1) as r:
        await alter(r, r.topics.clean, SMALL)
        await fill_lane(r, 0, raw_values(2_000))
        w = await r.engine(node(r))
        await w.assign((0, 1, 0))
        assert len(await r.read(r.topics.clean, 200)) == 200
        assert not await r.read(r.topics.dead)
        await w.release((0, 1))


async def test_one_of_several_outputs_too_large(kafka_server: KafkaServer) -> None:
    def several(batch: list[Record]) -> list[list[Record]]:
        return [
            [r, r.with_value(r.value + b" " * 5_000), r] if b'"e7"' in r.value else [r, r]
            for r in batch
        ]

    async with rig(kafka_server, lanes=1) as r:
        await alter(r, r.topics.clean, SMALL)
        await fill_lane(r, 0, [event(i) for i in range(10)])
        w = await r.engine(NodeStage(Here(several), LIMIT, r.topics))
        await w.assign((0, 1, 0))
        await until(lambda: done(w) == 10)
        assert len(await r.read(r.topics.clean, 18)) == 18
        assert [reason for reason, _ in await reasons(r, 1)] == ["too_large"]


@pytest.mark.parametrize("topic", ["lanes", "unplaced"])
async def test_a_router_dead_letters_what_a_topic_does_not_take(
    kafka_server: KafkaServer, topic: str
) -> None:
    async with rig(kafka_server, lanes=4, raw=2) as r:
        name = getattr(r.topics, topic)
        await alter(r, name, SMALL)
        large = orjson.loads(event(7, pad="x" * 5_000))
        if topic == "unplaced":
            large["origin"] = {"place": "Portland, Oregon"}
        await r.fill(r.topics.raw, 0, [event(0), orjson.dumps(large), event(1)])
        await r.fill(r.topics.raw, 1, [event(2)])
        w = await r.engine(router(r))
        await w.assign((0, 1, 0), (1, 1, 0))
        assert len(await r.read(r.topics.lanes, 3)) == 3
        [(reason, detail)] = await reasons(r, 1)
        assert (reason, f"for {name}, which takes 3,000" in detail) == ("too_large", True)


async def test_a_dead_letter_too_large_for_its_topic_leaves_out_its_value(
    kafka_server: KafkaServer,
) -> None:
    async with rig(kafka_server, lanes=4, raw=1) as r:
        await alter(r, r.topics.dead, SMALL)
        await r.fill(r.topics.raw, 0, [event(0), b"x" * 5_000, b"short"])
        w = await r.engine(router(r))
        await w.assign((0, 1, 0))
        dead = await r.read(r.topics.dead, 2)
        assert [x.value for x in dead] == [None, b"short"]
        assert dict(dead[0].headers)["geolane-src"] == f"{r.topics.raw}/0/1".encode()
        assert len(await r.read(r.topics.lanes, 1)) == 1


def held(w: Running, n: int) -> str:
    fault = w.engine._own.lanes[n].fault
    return fault if fault.startswith("held: ") else ""


async def test_where_not_even_a_bare_dead_letter_is_taken_its_lane_is_held(
    kafka_server: KafkaServer,
) -> None:
    async with rig(kafka_server, lanes=4, raw=2) as r:
        await alter(r, r.topics.dead, {"max.message.bytes": "150"})
        await r.fill(r.topics.raw, 0, [event(0), b"no event", event(1)])
        await r.fill(r.topics.raw, 1, [event(i) for i in range(50)])
        w = await r.engine(router(r))
        await w.assign((0, 1, 0), (1, 1, 0))
        assert len(await r.read(r.topics.lanes, 50)) == 50
        await until(lambda: r.topics.dead in held(w, 0))
        await r.fill(r.topics.raw, 1, [event(i) for i in range(50)])
        assert len(await r.read(r.topics.lanes, 100)) == 100
        assert not held(w, 1)
        await alter(r, r.topics.dead, USUAL)
        w.engine._limits._known.clear()
        assert len(await r.read(r.topics.lanes, 102)) == 102
        assert len(await r.read(r.topics.dead, 1)) == 1
        await until(lambda: not held(w, 0))


async def test_a_topic_that_takes_no_record_without_key_holds_the_lane(
    kafka_server: KafkaServer,
) -> None:
    """cleanup.policy=compact: INVALID_RECORD, which aiokafka does not know."""
    async with rig(kafka_server, lanes=4, raw=2) as r:
        await alter(r, r.topics.dead, {"cleanup.policy": "compact"})
        await r.fill(r.topics.raw, 0, [b"no event", event(1)])
        await r.fill(r.topics.raw, 1, [event(i) for i in range(50)])
        w = await r.engine(router(r))
        await w.assign((0, 1, 0), (1, 1, 0))
        await until(lambda: "without a key" in held(w, 0))
        assert len(await r.read(r.topics.lanes, 50)) == 50
        await alter(r, r.topics.dead, {"cleanup.policy": "delete"})
        assert len(await r.read(r.topics.lanes, 51)) == 51
        assert len(await r.read(r.topics.dead, 1)) == 1


async def test_a_topic_that_is_gone_holds_what_leads_to_it(kafka_server: KafkaServer) -> None:
    async with rig(kafka_server, lanes=4, raw=2) as r:
        w = await r.engine(router(r))
        await w.assign((0, 1, 0), (1, 1, 0))
        await r.fill(r.topics.raw, 0, [b"no event"])
        await r.read(r.topics.dead, 1)
        await support.delete_topic(r.kafka, r.topics.dead)
        await r.fill(r.topics.raw, 0, [b"no event", event(1)])
        await until(lambda: "there is no such" in held(w, 0), 30)
        await r.fill(r.topics.raw, 1, [event(i) for i in range(50)])
        assert len(await r.read(r.topics.lanes, 50)) == 50
        assert not w.task.done()


@pytest.mark.parametrize("refreshed", [False, True], ids=["topic known", "metadata refreshed"])
async def test_a_right_that_is_taken_away_holds_what_needs_it(
    kafka_server: KafkaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refreshed: bool
) -> None:
    """The router may write to lanes, and to the dead letters no more. aiokafka refreshes what it
    knows of the topics now and then: after that it does not know the forbidden one."""
    async with rig(kafka_server, lanes=4, raw=2) as r:
        t, user, file = r.topics, kafka_server.name("router"), tmp_path / "password"
        file.write_text("correct horse")
        file.chmod(0o600)
        topics = {t.raw: Operation.READ, t.lanes: Operation.WRITE, t.dead: Operation.WRITE}
        rights = [
            Right(user, Resource.TOPIC, name, operation) for name, operation in topics.items()
        ]
        rights.append(Right(user, Resource.GROUP, t.router_group, Operation.READ))
        rights.append(Right(user, Resource.TRANSACTIONAL_ID, f"{t.raw}-w", Operation.WRITE))
        accounts = Removal(r.kafka)
        await accounts.start()
        try:
            await accounts.set_passwords({user: file})
            await accounts.grant_rights(rights, _nobody_hears)
            admin_kafka, r.kafka = r.kafka, replace(r.kafka, username=user, password_file=str(file))
            w = await r.engine(router(r))
            await w.assign((0, 1, 0), (1, 1, 0))
            r.kafka = admin_kafka
            await r.fill(t.raw, 0, [b"no event"])
            assert len(await r.read(t.dead, 1)) == 1
            await accounts.revoke_rights([rights[2]], _nobody_hears)
            if refreshed:
                monkeypatch.setattr(LeasedProducer, "_check_partitions", _refreshed)
            await r.fill(t.raw, 0, [b"no event", event(0)])
            await until(lambda: "lacks the right" in held(w, 0))
            await r.fill(t.raw, 1, [event(i) for i in range(50)])
            assert len(await r.read(t.lanes, 50)) == 50
            await accounts.grant_rights(rights, _nobody_hears)
            assert len(await r.read(t.lanes, 51)) == 51
            assert len(await r.read(t.dead, 2)) == 2
        finally:
            await accounts.stop()


async def _refreshed(
    self: LeasedProducer, batches: Batches, know: Any = LeasedProducer._check_partitions
) -> None:
    await self._producer.client.force_metadata_update()
    await know(self, batches)


def _nobody_hears(did: str, what: str) -> None:
    return None


class _OldTransactions(Broker):
    """Without transaction version 2 all transactions of a lease have one epoch, and its sequence
    numbers go on."""

    def _more_format_arguments(self) -> list[str]:
        return [*super()._more_format_arguments(), "--feature", "transaction.version=0"]


async def test_sequence_numbers_go_on_behind_what_was_taken(server_folder: Path) -> None:
    broker = _OldTransactions(server_folder)
    await broker.start(120)
    try:
        async with rig(KafkaServer(broker), lanes=2) as r:
            await alter(r, r.topics.clean, SMALL)
            await fill_lane(r, 0, [*raw_values(2_000, 100), *raw_values(5_000, 100)])
            await r.fill_lane(1, 0, 100)
            w = await r.engine(node(r))
            await w.assign((0, 1, 0), (1, 1, 0))
            await until(lambda: done(w) == 300)
            assert len(await r.read(r.topics.clean, 298)) == 298
            assert len(await r.read(r.topics.dead, 2)) == 2
            assert not w.task.done()
    finally:
        await broker.stop()
