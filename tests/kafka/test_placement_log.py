"""PROTOCOL 2.3 and 2.11: what is written holds for whoever leads next, and who has been deposed
writes nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace

from agents import settings
from agents.base.errors import KafkaUnavailable, LeadershipLost
from agents.core.lanes.lane_map import build_lane_map
from agents.core.model.placement import (
    Leader,
    Placed,
    State,
    encode_leader,
    encode_placed,
    is_valid_record,
)
from agents.core.model.topology import KINDS
from agents.kafka import compacted
from agents.kafka.compacted import read_table
from agents.kafka.markers import OFFSETS
from agents.kafka.placement_log import PlacementLog
from agents.kafka.refusals import TransactionRefused
from agents.kafka.rights import R, Right, W
from agents.kafka.topics import MAX_MESSAGE_BYTES
from agents.kafka.users import Removal
from agents.kafka.wire import Resource
from tests.fixtures import foreign
from tests.fixtures.foreign import Foreign
from tests.fixtures.kafka import KafkaServer
from tests.kafka.support import alter
from tests.worker.support import event

NewLog = Callable[[], PlacementLog]


@pytest_asyncio.fixture
async def topic(kafka_server: KafkaServer) -> str:
    return await kafka_server.topic("placement", cleanup_policy="compact")


@pytest_asyncio.fixture
async def new_log(kafka_server: KafkaServer, topic: str) -> AsyncIterator[NewLog]:
    """Makes the logs of one coordinator's successive processes."""
    transactional_id, logs = kafka_server.name("geolane-coordinator"), []

    def make() -> PlacementLog:
        logs.append(
            PlacementLog(kafka_server.kafka, topic=topic, transactional_id=transactional_id)
        )
        return logs[-1]

    yield make
    for log in logs:
        await log.stop()


async def test_a_new_leader_reads_what_the_one_before_committed(new_log: NewLog) -> None:
    first, second = new_log(), new_log()
    assert await first.take_leadership() == {}
    await first.write({"leader": b"1", "main/events.lanes/0": b"a", "main/events.lanes/1": b"b"})
    await first.write({"leader": b"2", "main/events.lanes/1": None})
    assert await second.take_leadership() == {"leader": b"2", "main/events.lanes/0": b"a"}
    await second.write({"leader": b"3"})


async def test_a_deposed_coordinators_write_is_refused(
    new_log: NewLog, kafka_server: KafkaServer, topic: str
) -> None:
    old, new = new_log(), new_log()
    await old.take_leadership()
    await old.write({"leader": b"old"})
    await new.take_leadership()
    for _ in range(2):
        with pytest.raises(LeadershipLost, match="must end"):
            await old.write({"leader": b"zombie"})
    await new.write({"main/events.lanes/0": b"a"})
    assert await read_table(kafka_server.kafka, topic) == {
        b"leader": b"old",
        b"main/events.lanes/0": b"a",
    }


async def test_what_the_deposed_one_had_open_is_not_read_and_never_will_be(
    new_log: NewLog, kafka_server: KafkaServer, topic: str
) -> None:
    """Also pins that reading ends where a topic's last records are aborted ones."""
    old, new = new_log(), new_log()
    await old.take_leadership()
    await old.write({"leader": b"old"})
    assert old._producer is not None
    await old._producer._producer.begin_transaction()
    await (await old._producer._producer.send(topic, b"open", key=b"leader", partition=0))
    assert await new.take_leadership() == {"leader": b"old"}
    assert await read_table(kafka_server.kafka, topic) == {b"leader": b"old"}


async def test_a_write_that_races_the_next_leader_is_in_what_that_one_reads_or_nowhere(
    new_log: NewLog, kafka_server: KafkaServer, topic: str
) -> None:
    leader = new_log()
    await leader.take_leadership()
    for i in range(1, 13):
        following = new_log()
        writing = asyncio.ensure_future(leader.write({"a": b"%d" % i, "b": b"%d" % i}))
        await asyncio.sleep(
            i % 4 * 0.003
        )  # not waiting for anything: another interleaving each round
        read = await following.take_leadership()
        outcome = (await asyncio.gather(writing, return_exceptions=True))[0]
        assert outcome is None or isinstance(outcome, LeadershipLost | KafkaUnavailable)
        assert read.get("a") == read.get("b")
        assert outcome is not None or read["a"] == b"%d" % i, (
            "the old leader was told that its write counted"
        )
        assert not (isinstance(outcome, LeadershipLost) and read.get("a") == b"%d" % i), (
            "refused, and yet it counts"
        )
        now = await read_table(kafka_server.kafka, topic)
        assert {k.decode(): v for k, v in now.items()} == read
        leader = following


async def test_a_process_leads_once(new_log: NewLog) -> None:
    log = new_log()
    with pytest.raises(LeadershipLost):
        await log.write({"leader": b"1"})
    await log.take_leadership()
    with pytest.raises(LeadershipLost, match="led before"):
        await log.take_leadership()


async def test_no_broker_is_no_leadership_and_may_be_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agents.kafka.placement_log.START_BOUND_S", 0.2)
    log = PlacementLog(settings.Kafka(bootstrap="127.0.0.1:1"))
    for _ in range(2):
        with pytest.raises(KafkaUnavailable, match="reach Kafka"):
            await log.take_leadership()


async def frozen_broker(server: KafkaServer, write: Callable[[], Awaitable[None]]) -> None:
    """Run `write` while the broker answers nothing."""
    pid = server.broker.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        await write()
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_an_unknown_outcome_ends_the_leadership(
    new_log: NewLog, kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = new_log()
    await log.take_leadership()
    monkeypatch.setattr("agents.kafka.placement_log.WRITE_BOUND_S", 0.5)

    async def write() -> None:
        with pytest.raises(KafkaUnavailable, match="outcome unknown"):
            await log.write({"leader": b"1"})

    await frozen_broker(kafka_server, write)
    with pytest.raises(LeadershipLost, match="must end"):
        await log.write({"leader": b"2"})


async def test_a_cancelled_write_ends_the_leadership(
    new_log: NewLog, kafka_server: KafkaServer
) -> None:
    log = new_log()
    await log.take_leadership()

    async def write() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(log.write({"leader": b"1"}), 0.2)

    await frozen_broker(kafka_server, write)
    with pytest.raises(LeadershipLost, match="must end"):
        await log.write({"leader": b"2"})


BIG = {"main/events.lanes/0": b"x" * 500}


@asynccontextmanager
async def limited(server: KafkaServer, topic: str, size: str) -> AsyncIterator[None]:
    await alter(server.kafka, topic, {"max.message.bytes": size})
    yield
    await alter(server.kafka, topic, {"max.message.bytes": str(MAX_MESSAGE_BYTES)})


@asynccontextmanager
async def right_taken_away(server: KafkaServer, right: Right) -> AsyncIterator[None]:
    rights = Removal(server.kafka)
    await rights.start()
    try:
        await rights.revoke_rights([right], _nobody_hears)
        yield
        await rights.grant_rights([right], _nobody_hears)
    finally:
        await rights.stop()


def _nobody_hears(did: str, what: str) -> None:
    return None


async def test_what_the_topic_refuses_is_not_committed_and_may_be_written_again(
    new_log: NewLog, kafka_server: KafkaServer, topic: str
) -> None:
    why = r"refuses: .* max.message.bytes \([0-9]+ bytes in 2 .*; it takes 300\)"
    log = new_log()
    await log.take_leadership()
    await log.write({"leader": b"1"})
    async with limited(kafka_server, topic, "300"):
        for _ in range(2):
            with pytest.raises(TransactionRefused, match=why):
                await log.write({"leader": b"2", **BIG})
        assert await read_table(kafka_server.kafka, topic) == {b"leader": b"1"}
    await log.write({"leader": b"3", **BIG})
    assert await new_log().take_leadership() == {"leader": b"3", **BIG}
    with pytest.raises(LeadershipLost, match="must end"):
        await log.write({"leader": b"zombie"})


async def test_a_right_that_is_taken_away_and_given_back(
    kafka_server: KafkaServer, topic: str, tmp_path: Path
) -> None:
    """The same producer goes on."""
    user, name, file = (
        kafka_server.name("geolane"),
        kafka_server.name("geolane-coordinator"),
        tmp_path / "password",
    )
    file.write_text("correct horse")
    file.chmod(0o600)
    rights = [Right(user, Resource.TOPIC, topic, R), Right(user, Resource.TOPIC, topic, W)]
    rights += [
        Right(user, Resource.TOPIC, OFFSETS, R),
        Right(user, Resource.TRANSACTIONAL_ID, name, W),
    ]
    rights += [Right(user, Resource.GROUP, kind.group, R) for kind in KINDS]
    accounts = Removal(kafka_server.kafka)
    await accounts.start()
    try:
        await accounts.set_passwords({user: file})
        await accounts.grant_rights(rights, _nobody_hears)
    finally:
        await accounts.stop()
    as_them = replace(kafka_server.kafka, username=user, password_file=str(file))
    log = PlacementLog(as_them, topic=topic, transactional_id=name)
    try:
        await log.take_leadership()
        await log.write({"leader": b"1"})
        async with right_taken_away(kafka_server, rights[1]):
            for _ in range(2):
                with pytest.raises(TransactionRefused, match="lacks the right to write to it"):
                    await log.write({"leader": b"2", **BIG})
        await log.write({"leader": b"3", **BIG})
    finally:
        await log.stop()
    assert await read_table(kafka_server.kafka, topic) == {
        b"leader": b"3",
        **{k.encode(): v for k, v in BIG.items()},
    }


async def _spoil(
    kafka: settings.Kafka, topic: str, *rows: tuple[bytes | None, bytes | None]
) -> None:
    """As any program might that has the right to write there."""
    async with foreign.sender(kafka) as sender:
        for key, value in rows:
            code, _ = await sender.send(topic, 0, foreign.batch([Foreign(value, key)]))
            assert code == (87 if key is None else 0)


def _placed(epoch: int) -> bytes:
    return encode_placed(Placed("node-a", "B", epoch, 1, State.ASSIGNED, 0, 0, ""))


async def test_rubbish_is_passed_over_and_the_value_before_it_holds(
    new_log: NewLog, kafka_server: KafkaServer, topic: str
) -> None:
    first, second, third = new_log(), new_log(), new_log()
    await first.take_leadership(is_valid_record)
    rows = {
        "leader": encode_leader(Leader(1, "B")),
        "main/events.lanes/0": _placed(1),
        "main/events.lanes/1": _placed(2),
    }
    await first.write(dict(rows))
    rubbish = (
        (b"main/events.lanes/0", b"\xff\xfe"),
        (b"main/events.lanes/0", None),
        (b"leader", b"[]"),
        (b"\xff", b"x"),
        (b"", b"x"),
        (b"main/lease/node-a", b"{}"),
        (b"somebody/else", b"1"),
        (None, b"1"),
        (b"main/tuning", b"7"),
    )
    await _spoil(kafka_server.kafka, topic, *rubbish)
    assert await second.take_leadership(is_valid_record) == rows
    assert second.lost >= {"main/lease/node-a", "main/tuning"}
    assert not second.lost & rows.keys()
    rows["leader"] = encode_leader(Leader(2, "C"))
    await second.write({"leader": rows["leader"]})
    # What was spoiled is written again: the next leader finds it though the older is compacted
    # away.
    assert {
        k: v
        for k, v in (await read_table(kafka_server.kafka, topic)).items()
        if k.decode("latin-1") in rows
    } == {k.encode(): v for k, v in rows.items()}
    assert await third.take_leadership(is_valid_record) == rows
    assert not third.lost & rows.keys()


async def test_a_lane_map_that_is_none_is_passed_over(kafka_server: KafkaServer) -> None:
    topic = await kafka_server.topic("lanemap", cleanup_policy="compact")
    holds = build_lane_map([event(i) for i in range(10)], 4, 4, 7)
    await compacted.publish_lane_map(kafka_server.kafka, holds, topic=topic)
    rubbish = (
        (b"7", b"\xff"),
        (b"8", b"{}"),
        (b"9" * 5000, b"x"),
        (b"9", holds.encode()),
        (b"7", None),
        (b"\xff", b""),
    )
    await _spoil(kafka_server.kafka, topic, *rubbish)
    assert await compacted.read_newest_lane_map(kafka_server.kafka, topic=topic) == holds
    await compacted.publish_lane_map(kafka_server.kafka, holds, topic=topic)
