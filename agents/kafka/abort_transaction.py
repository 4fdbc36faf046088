"""Ends a transaction that its producer will never end, as Kafka's `kafka-transactions.sh abort`
does (KIP-664): the partition's leader writes the abort marker.

A person runs it, with an account that has the right ClusterAction. No process of the fleet does."""

from __future__ import annotations

import asyncio

import aiokafka.errors as kafka_errors
from aiokafka import TopicPartition

from agents import settings
from agents.base.errors import KafkaError
from agents.kafka.connection import BOUND_S, Link, raise_for_code
from agents.kafka.wire import DescribeProducers, WriteTxnMarkers, producers_of


async def abort_open_transaction(kafka: settings.Kafka, topic: str, n: int, offset: int) -> int:
    """Abort the transaction that begins at `offset` in partition `n`. Returns its producer's id.

    Raises KafkaError if there is no such transaction or the account lacks the right;
    KafkaUnavailable."""
    link = Link(kafka, "geolane-abort")
    await link.start()
    try:

        async def attempt() -> int:
            leader = link.client.cluster.leader_for_partition(TopicPartition(topic, n))
            if leader is None or leader < 0:
                await link.client.force_metadata_update()
                raise kafka_errors.LeaderNotAvailableError(f"{topic}/{n}")
            described = await link.send_request(leader, DescribeProducers({topic: [n]}))
            for partition in producers_of(described):
                raise_for_code(partition.code, partition.message or topic)
                for x in partition.producers:
                    if x.first_offset == offset:
                        marker = WriteTxnMarkers(
                            x.producer_id, x.producer_epoch, max(0, x.coordinator_epoch), topic, n
                        )
                        _check_markers(await link.send_request(leader, marker), topic)
                        return x.producer_id
            raise KafkaError(
                f"{topic} {n}: no open transaction begins at offset {offset:,}: it has ended, or "
                "never was"
            )

        async with asyncio.timeout(2 * BOUND_S):
            return await link.retry_until_done(f"abort a transaction of {topic} {n}", attempt)
    finally:
        await link.stop()


def _check_markers(response: object, topic: str) -> None:
    for _, topics, _ in response.markers:  # type: ignore[attr-defined]  # aiokafka has no types
        for _, partitions, _ in topics:
            for _, code, _ in partitions:
                raise_for_code(code, topic)
