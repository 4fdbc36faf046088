"""Runs cases, several at once, against one broker."""

from __future__ import annotations

import asyncio
import gc
import secrets
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aiokafka.errors import KafkaError

from agents import settings
from agents.base.errors import KafkaUnavailable
from agents.kafka import producer
from agents.kafka.topics import Topic, ensure_topics
from tests.late_requests.broker import Setup, begin_at, late_broker
from tests.late_requests.cases import Case
from tests.late_requests.life import BATCH_BYTES, Ground, Outcome, live

AT_ONCE = 24


async def run(
    setup: Setup, chosen: Sequence[Case], *, tell: Callable[[Outcome], None] = lambda outcome: None
) -> list[Outcome]:
    """The outcome of each, in their order; `tell` hears of each when it is over."""
    async with late_broker(setup) as (broker, proxy):
        prefix = f"late-{secrets.token_hex(3)}"
        lanes, clean = f"{prefix}-lanes", f"{prefix}-clean"
        direct = broker.kafka
        ground = Ground(direct, broker.proxied, proxy, lanes, clean, prefix)
        if epochs := {ground.owner(case): case.epoch for case in chosen if case.epoch}:
            await begin_at(broker, epochs)
        await _make_topics(direct, (Topic(lanes, len(chosen), 16), Topic(clean, len(chosen), 16)))
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(lane: int, case: Case) -> Outcome:
            async with turns:
                outcome = await live(ground, case, lane)
            tell(outcome)
            return outcome

        with _small_batches(), _untidy_ends():
            return await asyncio.gather(*(one(n, case) for n, case in enumerate(chosen)))


async def _make_topics(kafka: settings.Kafka, topics: tuple[Topic, ...]) -> None:
    """A broker that has just started may take longer over many partitions than one try waits."""
    for is_last in (False, False, True):
        try:
            await ensure_topics(kafka, topics, embedded=True)
        except KafkaUnavailable:
            if is_last:
                raise
        else:
            return


@contextmanager
def _small_batches() -> Iterator[None]:
    before, producer.MAX_BATCH_BYTES = producer.MAX_BATCH_BYTES, BATCH_BYTES
    try:
        yield
    finally:
        producer.MAX_BATCH_BYTES = before


@contextmanager
def _untidy_ends() -> Iterator[None]:
    """A producer of aiokafka that is fenced, or stopped while it connects, leaves errors in futures
    of its own that nobody can take, and a connection to the garbage collector. The loop passes over
    them for as long as it lives, and after."""
    loop = asyncio.get_running_loop()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        unclosed = context["message"] == "Unclosed AIOKafkaConnection"
        if not unclosed and not isinstance(context.get("exception"), KafkaError):
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()
