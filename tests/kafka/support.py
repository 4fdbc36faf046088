"""What the tests of the broker's rules share: leased producers, batches in and out, and reading
everything back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import CoordinationType
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import DeleteGroupsRequest
from aiokafka.structs import OffsetAndMetadata

from agents import settings
from agents.kafka import verification
from agents.kafka.connection import Link, client_kwargs
from agents.kafka.leases import LeaseMaker
from agents.kafka.markers import Reach
from agents.kafka.wire import IncrementalAlterConfigs


async def delete_group(kafka: settings.Kafka, group: str) -> None:
    """Delete a consumer group, and with it the offsets that were committed."""
    link = Link(kafka, "a-test")
    await link.start()
    try:
        node = await link.find_coordinator(CoordinationType.GROUP, group)
        answer = await link.send_request(node, DeleteGroupsRequest([group]))
        assert [code for _, code in answer.results] == [0]
    finally:
        await link.stop()


@asynccontextmanager
async def lease_maker(
    kafka: settings.Kafka, reach: Reach | None = None
) -> AsyncIterator[LeaseMaker]:
    maker = LeaseMaker(kafka, 10_000, (lambda _: reach) if reach else None)
    await maker.start()
    try:
        yield maker
    finally:
        await maker.stop()


@asynccontextmanager
async def leased(
    kafka: settings.Kafka, transactional_id: str, lease: tuple[int, int], **more: Any
) -> AsyncIterator[Any]:
    """A producer that works under a lease which somebody else has made (PROTOCOL 2.1)."""
    producer = AIOKafkaProducer(
        transactional_id=transactional_id, retry_backoff_ms=5, **(client_kwargs(kafka) | more)
    )
    producer._txn_manager.set_pid_and_epoch(*lease)
    await producer.start()
    try:
        yield producer
    finally:
        await quietly_stop(producer)


async def quietly_stop(producer: Any) -> None:
    """Stop a producer that may be fenced or in the middle of a transaction."""
    waiter = producer._txn_manager.wait_for_transaction_end() if producer._txn_manager else None
    if waiter is not None and waiter.done() and not waiter.cancelled():
        waiter.exception()
    with suppress(KafkaError, TimeoutError, AssertionError):
        async with asyncio.timeout(3):
            await producer.stop()
    await producer.client.close()


@asynccontextmanager
async def consumer(
    kafka: settings.Kafka, group: str | None, parts: Iterable[tuple[str, int]], **more: Any
) -> AsyncIterator[Any]:
    """Assigned by hand, read-committed, as workers are."""
    kwargs = {
        "isolation_level": "read_committed",
        "auto_offset_reset": "earliest",
        "fetch_max_wait_ms": 50,
    }
    c: Any = AIOKafkaConsumer(
        group_id=group, enable_auto_commit=False, **(client_kwargs(kafka) | kwargs | more)
    )
    try:
        await c.start()
        c.assign([TopicPartition(*p) for p in parts])
        yield c
    finally:
        await c.stop()


async def fill(
    kafka: settings.Kafka, topic: str, values: Iterable[bytes], *, partition: int = 0, **send: Any
) -> None:
    producer: Any = AIOKafkaProducer(
        enable_idempotence=True, max_request_size=9 << 20, **client_kwargs(kafka)
    )
    await producer.start()
    try:
        for sent in [await producer.send(topic, v, partition=partition, **send) for v in values]:
            await sent
    finally:
        await producer.stop()


async def read_all(
    kafka: settings.Kafka, topic: str, *, isolation: str = "read_committed"
) -> list[Any]:
    """Every record that a consumer of that isolation is given, all partitions, up to the end as it
    is now."""
    async with consumer(kafka, None, [], isolation_level=isolation) as c:
        parts = [TopicPartition(topic, n) for n in await partitions_of(c, topic)]
        c.assign(parts)
        await c.seek_to_beginning(*parts)
        ends = await c.end_offsets(parts)
        found: list[Any] = []
        async with asyncio.timeout(20):
            while any([await c.position(tp) < ends[tp] for tp in parts]):
                for records in (await c.getmany(timeout_ms=50)).values():
                    found += records
        return found


async def partitions_of(c: Any, topic: str) -> list[int]:
    await c._client._wait_on_metadata(topic)
    return sorted(c.partitions_for_topic(topic))


async def work(
    producer: Any, c: Any, out: str, group: str, records: int, *, commit: bool = True
) -> int:
    """One turn of the transaction loop (PROTOCOL 3): how many records were carried over."""
    got = await c.getmany(timeout_ms=5000, max_records=records)
    await producer.begin_transaction()
    offsets = {}
    for tp, batch in got.items():
        sent = [await producer.send(out, r.value, partition=tp.partition) for r in batch]
        await asyncio.gather(*sent)
        offsets[tp] = OffsetAndMetadata(batch[-1].offset + 1, "")
    if commit:
        await producer.send_offsets_to_transaction(offsets, group)
        await producer.commit_transaction()
    return sum(map(len, got.values()))


@asynccontextmanager
async def unverified(kafka: settings.Kafka) -> AsyncIterator[None]:
    """The one broker there takes requests of transactions that are over, for now."""
    admin: Any = AIOKafkaAdminClient(**client_kwargs(kafka))
    await admin.start()

    async def configure(values: dict[str, str]) -> None:
        resource = ConfigResource(ConfigResourceType.BROKER, "1", configs=values)
        await admin.alter_configs([resource])

        async def so() -> bool:
            return [b.verifies for b in await verification.read_brokers(kafka)] == [not values]

        await until(so)

    try:
        await configure({verification.KEY: "false"})
        try:
            yield
        finally:
            await configure({})
    finally:
        await admin.close()


async def alter(kafka: settings.Kafka, topic: str, keys: dict[str, str]) -> None:
    """Change these settings of a topic, and return when the broker goes by them. It shows a change
    a little before that, but takes up one after the other: so there is a second, without effect.
    """
    async with admin_client(kafka) as admin:

        async def are_shown(changes: dict[str, str]) -> bool:
            resource = ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(changes))
            (response,) = await admin.describe_configs([resource])
            return {entry[0]: entry[1] for entry in response.resources[0][4]} == changes

        for changes in (keys, {"segment.jitter.ms": str(time.monotonic_ns() % 1_000_000)}):
            response = await admin._send_request(IncrementalAlterConfigs({topic: changes}))
            assert not response.responses[0][0], response
            await until(partial(are_shown, changes))


async def add_partitions(kafka: settings.Kafka, topic: str, total: int) -> None:
    """Return when the broker tells of all of them."""
    async with admin_client(kafka) as admin:
        await admin.create_partitions({topic: NewPartitions(total)})
        await until(lambda: _has_partitions(admin, topic, total))


async def delete_topic(kafka: settings.Kafka, topic: str) -> None:
    """Return when the broker tells of it no longer."""
    async with admin_client(kafka) as admin:
        await admin.delete_topics([topic])
        await until(lambda: _has_partitions(admin, topic, 0))


async def _has_partitions(admin: Any, topic: str, count: int) -> bool:
    (described,) = await admin.describe_topics([topic])
    return len(described["partitions"]) == count


@asynccontextmanager
async def admin_client(kafka: settings.Kafka) -> AsyncIterator[Any]:  # Any: aiokafka has no types
    admin: Any = AIOKafkaAdminClient(**client_kwargs(kafka))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def until(condition: Callable[[], Awaitable[Any]], bound_s: float = 10.0) -> Any:
    """The first true answer of the condition; fails the test after the bound."""
    deadline = time.monotonic() + bound_s
    while not (answer := await condition()):
        assert time.monotonic() < deadline, "the condition did not become true in time"
        await asyncio.sleep(0.005)
    return answer
