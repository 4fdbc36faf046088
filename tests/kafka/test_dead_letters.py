"""Dead letters go back exactly once, whoever is killed or comes between
(agents/kafka/dead_letters.py)."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from agents import settings
from agents.base.errors import LeaseLost
from agents.cli import dead_letters as cli
from agents.core.lanes.dead_letters import LetterQuery
from agents.kafka import dead_letters
from agents.kafka.connection import client_kwargs
from agents.kafka.dead_letters import DeadLetters
from tests.fixtures.kafka import KafkaServer
from tests.kafka.support import read_all

COUNT = 2_500


class Place:
    """Topics of its own, and letters in the first."""

    def __init__(
        self, kafka: settings.Kafka, topics: tuple[str, str, str], transactional_id: str
    ) -> None:
        self.kafka, self.topics, self.id = kafka, topics, transactional_id

    def letters(self) -> DeadLetters:
        return DeadLetters(self.kafka, topics=self.topics, transactional_id=self.id)

    async def die(self, count: int, reason: bytes = b"no_id", begin: int = 0) -> None:
        producer: Any = AIOKafkaProducer(linger_ms=5, **client_kwargs(self.kafka))
        await producer.start()
        try:
            for n in range(begin, begin + count):
                headers = [("geolane-src", b"events.raw/0/%d" % n), ("geolane-reason", reason)]
                await producer.send(self.topics[0], b"{%d" % n, key=None, headers=headers)
        finally:
            await producer.stop()

    async def went_back(self) -> Counter[str]:
        """By source, whatever a read-committed reader of the raw topic gets."""
        records = await read_all(self.kafka, self.topics[1])
        return Counter(dict(r.headers)["geolane-src"].decode() for r in records)


@pytest_asyncio.fixture
async def place(kafka_server: KafkaServer) -> AsyncIterator[Place]:
    topics = (
        await kafka_server.topic("dead"),
        await kafka_server.topic("raw", 3),
        await kafka_server.topic("replayed", cleanup_policy="compact"),
    )
    yield Place(kafka_server.kafka, topics, kafka_server.name("replay"))


async def test_letters_are_found_sent_back_once_and_marked(place: Place) -> None:
    await place.die(30)
    await place.die(5, b"bad_ts", 30)
    found = await place.letters().find_letters(LetterQuery(), 4)
    assert (found.count, found.reasons, found.whole) == (35, (("no_id", 30), ("bad_ts", 5)), True)
    assert [x.value for x in found.letters] == [b"{34", b"{33", b"{32", b"{31"]
    upto = dict(found.upto)
    await place.die(3, b"bad_ts", 35)
    assert await place.letters().replay_letters(LetterQuery(reason="bad_ts"), "ana", 5, upto) == 5
    assert await place.letters().replay_letters(LetterQuery(reason="bad_ts"), "ana", 6) == 3
    assert await place.letters().replay_letters(LetterQuery(reason="bad_ts"), "ana", 7) == 0
    assert await place.went_back() == Counter(f"events.raw/0/{n}" for n in range(30, 38))
    assert (await place.letters().find_letters(LetterQuery(), 1)).reasons == (("no_id", 30),)
    assert (await place.letters().find_letters(LetterQuery(replayed=True), 1)).count == 38
    one = (await place.letters().find_letters(LetterQuery(one="0/34", replayed=True), 1)).letters[0]
    assert (one.value, one.replayed) == (b"{34", True)
    assert (await place.letters().find_letters(LetterQuery(one="0/99"), 1)).letters == ()


KILLED = """
import asyncio, os, sys
import msgspec
from agents import settings
from agents.core.lanes.dead_letters import LetterQuery as Query
from agents.kafka import dead_letters as dead
dead.TOGETHER = 100
send, done = dead.DeadLetters._send_batch, 0
async def cut(self, producer, batch, by, now_ms):
    global done
    if (done := done + 1) == 4:  # three transactions are committed, the fourth is cut in the middle
        producer.commit_transaction = lambda: os.kill(os.getpid(), 9)
    return await send(self, producer, batch, by, now_ms)
dead.DeadLetters._send_batch = cut
kafka = msgspec.json.decode(sys.argv[1], type=settings.Kafka)
letters = dead.DeadLetters(kafka, topics=tuple(sys.argv[2:5]), transactional_id=sys.argv[5])
asyncio.run(letters.replay_letters(Query(), "cut off", 1))
"""


async def test_who_is_killed_in_the_middle_has_sent_nothing_twice_and_the_next_sends_the_rest(
    place: Place,
) -> None:
    await place.die(COUNT)
    arguments = (msgspec.json.encode(place.kafka).decode(), *place.topics, place.id)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, *arguments)
    assert await asyncio.wait_for(process.wait(), 60) == -9
    assert await place.letters().replay_letters(LetterQuery(), "next", 2) == COUNT - 300
    assert await place.went_back() == Counter(f"events.raw/0/{n}" for n in range(COUNT))
    assert (await place.letters().find_letters(LetterQuery(), 1)).count == 0


async def test_a_second_replay_ends_the_first(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "TOGETHER", 10)
    await place.die(50)
    slow, begun, go_on = place.letters(), asyncio.Event(), asyncio.Event()
    send = slow._send_batch

    async def halting(producer: Any, batch: Any, by: str, now_ms: int) -> int:
        sent = await send(producer, batch, by, now_ms)
        begun.set()
        await go_on.wait()
        return sent

    monkeypatch.setattr(slow, "_send_batch", halting)
    first = asyncio.create_task(slow.replay_letters(LetterQuery(), "slow", 1))
    await asyncio.wait_for(begun.wait(), 20)
    assert await place.letters().replay_letters(LetterQuery(), "second", 2) == 40
    go_on.set()
    with pytest.raises(LeaseLost, match=r"another replay|outcome unknown"):
        await first
    assert await place.went_back() == Counter(f"events.raw/0/{n}" for n in range(50))


async def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await place.die(3)
    monkeypatch.setattr(cli, "DeadLetters", lambda kafka: place.letters())
    send = partial(cli.replay_letters, place.kafka, ["reason=no_id"], "ana", yes=True)
    assert await asyncio.to_thread(send, dry_run=True) == cli.DONE
    assert capsys.readouterr().out == (
        "3 dead letters: 3 no_id.\nA dry run: nothing was sent back.\n"
    )
    assert await place.went_back() == Counter()
    assert await asyncio.to_thread(send) == cli.DONE
    assert (await place.went_back()).total() == 3
