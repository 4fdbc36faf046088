"""A burst from the producer up to the room: analytics finds it, people are told once when it opens
and once when it ends, and everything that shows hotspots shows it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from itertools import islice

import orjson
import pytest

from agents.core.hotspots.records import decode_record
from agents.core.model.feeds import HOTSPOTS, HotspotItem
from agents.core.model.hotspots import Hotspot, HotspotState
from agents.core.model.topology import TOPIC_HOTSPOTS
from agents.kafka import compacted
from agents.local.demo.replay import KeyedValue, Replay
from agents.local.stack import ANALYTICS_EMBEDDED
from agents.xmpp.operator_client import OperatorClient
from plugins.feeds import item_from_entry
from tests.kafka.support import read_all
from tests.stack.conftest import Running

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

ANALYTICS = ANALYTICS_EMBEDDED
RATE_EPS = 0.2
"""At this rate a day of the flights takes a day, so that the forecast looks a minute ahead."""
REYKJAVIK = 64.13, -21.9
HISTORY_S, BEHIND_S = 1200, 300
"""The burst is 5 minutes old by event time: so its end can be sent without waiting for it."""


def event(ts: float) -> KeyedValue:
    at = dict(zip(("lat", "lon"), REYKJAVIK, strict=True))
    value = {"id": f"r-{ts}", "ts": round(ts * 1000), "origin": at, "type": "flight"}
    return None, orjson.dumps({**value, "origin_iata": "KEF", "destination": "", "distance_mi": 1})


def seldom(begin_s: float, end_s: float) -> Iterator[KeyedValue]:
    """Usually there is an event every ten seconds."""
    while begin_s < end_s:
        yield event(begin_s)
        begin_s += 10.0


def behind() -> Iterator[KeyedValue]:
    while True:
        yield event(time.time() - BEHIND_S)


async def send(running: Running, stream: Iterator[KeyedValue], eps: float) -> None:
    """Into one partition, so that the order is kept."""
    await Replay(running.stack.base.kafka, stream, 1, eps).run()


async def send_more_and_more(running: Running) -> None:
    for eps in range(20, 1000, 20):
        await send(running, islice(behind(), eps), eps)


@asynccontextmanager
async def in_background(work: asyncio.Task[None]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work


async def read_hotspots(running: Running) -> list[tuple[float, Hotspot]]:
    """All records of the topic, with the epoch second of their append."""
    records = await read_all(running.stack.base.kafka, TOPIC_HOTSPOTS)
    return [(r.timestamp / 1000, decode_record(r.key, r.value)) for r in records]


async def wait_for_item(who: OperatorClient, state: HotspotState) -> HotspotItem:
    async with asyncio.timeout(20), aclosing(who.watch_feed(HOTSPOTS)) as items:
        async for item in items:
            element = item_from_entry(item.feed, item.item_id, item.payload).element
            if isinstance(element, HotspotItem) and element.state == state:
                return element
    raise AssertionError("the feed has ended")


async def ask(running: Running, who: OperatorClient, question: str, begins: str) -> str:
    """The answer, which begins like this."""
    await who.send_to_room(question)
    return (await who.wait_for_message(running.bot(f"^{begins}", room=True), 20)).text


async def ask_until(
    running: Running, who: OperatorClient, question: str, begins: str, has: str
) -> str:
    """Ask again and again, within the budget of a person, until the answer has a pattern."""
    async with asyncio.timeout(40):
        while not re.search(has, answer := await ask(running, who, question, begins)):
            await asyncio.sleep(2)
    return answer


async def test_a_burst_is_told_shown_and_its_end_too(running: Running) -> None:
    lanemap = await compacted.read_newest_lane_map(running.stack.base.kafka)
    assert lanemap is not None
    lane = lanemap.locate_event(*REYKJAVIK, b"")[1]
    until_s = time.time() - BEHIND_S
    opens, ends = "Hotspot at Reykjav", "hotspot at Reykjav.* ended"
    said = list[str]()

    async def listen(ana: OperatorClient) -> None:
        while True:
            said.append((await ana.wait_for_message(running.bot("", room=True), 600)).text)

    await send(running, seldom(until_s - HISTORY_S, until_s), 1000.0)
    async with (
        running.in_room() as ana,
        running.in_room("guest") as guest,
        in_background(asyncio.create_task(listen(ana))),
    ):
        async with in_background(asyncio.create_task(send_more_and_more(running))):
            opened = await guest.wait_for_message(running.bot(opens, room=True), 90)
            told_s = time.time()
            has = r"forecast raised x\d.* by the hotspot at Reykjav"
            await ask_until(running, guest, f"!explain {lane}", f"Lane {lane}", has)
        assert f"Its lane {lane}: forecast" in opened.text
        assert "Reykjav" in await ask(running, guest, "!hotspots", "1 hotspot is")
        item = await wait_for_item(ana, HotspotState.OPEN)
        assert (item.place[:7], item.lanes) == ("Reykjav", (lane,))

        now_s = time.time()
        await send(running, seldom(now_s - BEHIND_S, now_s + 10), 1000.0)
        await guest.wait_for_message(running.bot(ends, room=True), 60)
        assert (await wait_for_item(ana, HotspotState.ENDED)).id == item.id
        assert "No hotspot is open" in await ask(running, guest, "!hotspots", "No hotspot is open")
    lines = "\n".join(said).split("\n")
    assert [sum(bool(re.search(x, line)) for line in lines) for x in (opens, ends)] == [1, 1]

    records = await read_hotspots(running)
    assert {h.id for _, h in records} == {item.id}
    states = [h.state for _, h in records]
    assert (states[0], states[-1]) == (HotspotState.OPEN, HotspotState.ENDED)
    assert set(states[1:-1]) <= {HotspotState.HELD}
    assert told_s - records[0][0] < 5, "from the record to the room"
