"""Checks that a cluster keeps late requests out of transactions, before anything is written.

A broker must verify that a transaction is open before it takes a record or an offset for it
(KIP-890, since Kafka 3.6; 3.6.0 has faults in it, and cannot be told from 3.6.1). Without that, a
request that was in flight when its worker was fenced opens a transaction that nobody ends, or
counts in a later one. Exactly once is impossible on such a cluster, so no process of ours
starts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka.admin.config_resource import ConfigResourceType
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.offset import OffsetRequest

from agents import settings
from agents.base import log
from agents.base.errors import KafkaError, KafkaUnavailable
from agents.kafka.connection import BOUND_S, Link
from agents.kafka.wire import CLUSTER_NAME, DescribeFeatures, EndTransaction

KEY = "transaction.partition.verification.enable"
UNREADABLE = (
    f"{KEY} cannot be read: this Kafka account lacks a right on Cluster {CLUSTER_NAME} "
    "(DescribeConfigs; `geolane provision` gives rights)"
)
BEFORE_4_0 = (
    "Kafka is older than 4.0: a late offset of a fenced worker is refused, but can still remove "
    "the offset of the open transaction; if its owner then ends before its next commit, events "
    "are doubled"
)
"""Seen on 3.9.1, not on 4.0.1 (docs/chaos-requests.md)."""
_SINCE_3_6 = 8
"""A version of ListOffsets that came with the release that verifies."""
_SINCE_4_0 = 5
"""A version of EndTxn that came with the release that knows transaction version 2."""
_ANSWER_S = 3.0

_log = log.get_logger("kafka.verification")


@dataclass(frozen=True, slots=True)
class BrokerLooked:
    """`transaction_version`: the cluster's finalized version, as this broker knows it. `verifies`:
    its setting; None if it cannot be read. `list_offsets`, `end_txn`: the highest versions of these
    requests that it takes."""

    node: int
    list_offsets: int
    end_txn: int
    transaction_version: int
    verifies: bool | None

    @property
    def before_4_0(self) -> bool:
        """Whether its group coordinator is the old one (see BEFORE_4_0)."""
        return self.end_txn < _SINCE_4_0

    @property
    def could_do_better(self) -> bool:
        """Whether it knows transaction version 2 but the cluster does not use it."""
        return not self.before_4_0 and self.transaction_version < 2


def find_danger(brokers: Sequence[BrokerLooked]) -> tuple[str, str] | None:
    """What is wrong and what to do about it; None if nothing is known to be wrong."""
    old = [str(b.node) for b in brokers if b.list_offsets < _SINCE_3_6]
    if old:
        return (
            f"broker {', '.join(old)}: Kafka is older than 3.6.1, and takes requests of a "
            "transaction that has ended: events would be lost or doubled",
            "update the brokers to 3.6.1 or newer",
        )
    off = [str(b.node) for b in brokers if b.verifies is False]
    if off:
        return (
            f"broker {', '.join(off)}: {KEY} is false, so it takes requests of a transaction that "
            "has ended: events would be lost or doubled",
            f"set {KEY}=true on the brokers (it is Kafka's default)",
        )
    return None


async def read_brokers(kafka: settings.Kafka, bound_s: float = BOUND_S) -> tuple[BrokerLooked, ...]:
    """Look at all brokers that answer. Raises KafkaUnavailable if none does within `bound_s`,
    KafkaError."""
    link = Link(kafka, "geolane-verification")
    await link.start(bound_s)
    try:
        nodes = sorted(broker.nodeId for broker in link.client.cluster.brokers())
        found = await asyncio.gather(*(_read_broker(link, node) for node in nodes))
    finally:
        await link.stop()
    looked = tuple(broker for broker in found if broker is not None)
    if not looked:
        raise KafkaUnavailable(f"ask the brokers at {kafka.bootstrap} what they verify: no answer")
    return looked


async def require_safe_brokers(kafka: settings.Kafka, bound_s: float = BOUND_S) -> None:
    """Raises KafkaError if the cluster is known to be unsafe, KafkaUnavailable. A setting that
    cannot be read is only logged: an older account may lack the right, and the default is safe."""
    brokers = await read_brokers(kafka, bound_s)
    if (wrong := find_danger(brokers)) is not None:
        raise KafkaError(f"{wrong[0]}; {wrong[1]}")
    if any(b.verifies is None for b in brokers):
        _log.warning("verification_unknown", why=UNREADABLE)
    if any(b.before_4_0 for b in brokers):
        _log.warning("late_offsets_possible", why=BEFORE_4_0)


async def _read_broker(link: Link, node: int) -> BrokerLooked | None:
    """None if the broker does not answer: a broker that is down takes no late requests either."""
    asked = DescribeConfigsRequest([(ConfigResourceType.BROKER, str(node), [KEY])])
    try:
        async with asyncio.timeout(_ANSWER_S):
            features, configs = (
                await link.send_request(node, DescribeFeatures()),
                await link.send_request(node, asked),
            )
    except (kafka_errors.KafkaError, OSError, TimeoutError) as e:
        _log.warning("broker_not_asked", node=node, error=repr(e))
        return None
    versions = features.versions
    return BrokerLooked(
        node,
        versions.get(OffsetRequest.API_KEY, 0),
        versions.get(EndTransaction.API_KEY, 0),
        features.finalized.get("transaction.version", 0),
        _is_verification_on(configs),
    )


def _is_verification_on(configs: Any) -> bool | None:  # Any: aiokafka has no types
    for code, _, _, _, entries in configs.resources:
        if not code:
            return any(entry[0] == KEY and entry[1] == "true" for entry in entries)
    return None
