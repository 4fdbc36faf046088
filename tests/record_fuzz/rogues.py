"""Others that are at work while records are fuzzed (`--rogue tests.record_fuzz.rogues:NAME`)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from signal import SIGKILL

from agents.core.model.topology import TOPIC_LANEMAP, TOPIC_PLACEMENT
from tests.fixtures import foreign
from tests.fixtures.foreign import Foreign
from tests.security.at_work import rogues_at_work
from tests.stack.conftest import Running

SPOIL_EVERY_S, KILL_EVERY_S = 5.0, 45.0


@asynccontextmanager
async def people(running: Running) -> AsyncIterator[None]:
    """A guest, an outsider and a node of no good will; at the end the leader and ejabberd are those
    of the beginning."""
    async with rogues_at_work(running, seed=1) as rogues:
        yield
    rogues.check(running)


@asynccontextmanager
async def spoiler(running: Running) -> AsyncIterator[None]:
    """Writes rubbish into `placement` and `lanemap`, and kills who leads: the next one has to read
    it."""
    task = asyncio.create_task(_spoil(running, random.Random(5)))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _spoil(running: Running, rng: random.Random) -> None:
    loop = asyncio.get_running_loop()
    kill_at = loop.time() + KILL_EVERY_S
    async with foreign.sender(running.stack.base.kafka) as sender:
        while True:
            key = rng.choice(
                (
                    b"main/events.lanes/%d" % rng.randrange(12),
                    b"main/events.raw/0",
                    b"leader",
                    b"\xff",
                    b"x/y/1",
                    b"1",
                    b"99",
                )
            )
            value = rng.choice((None, b"", b"{}", b"\xff\xfe", rng.randbytes(20)))
            topic = rng.choice((TOPIC_PLACEMENT, TOPIC_LANEMAP))
            await sender.send(topic, 0, foreign.batch([Foreign(value, key, [(b"\xff", None)])]))
            if loop.time() > kill_at:
                leader = running.leader()
                running.killed[leader.name] += leader.send_signal(SIGKILL)
                kill_at = loop.time() + KILL_EVERY_S
            await asyncio.sleep(SPOIL_EVERY_S)
