"""What the Java program of the engine on Kafka Streams is started with, as its record `Config`
(agents/router/streams) has it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from agents.core.model.messages import LeaseCommand
from agents.core.model.topology import TOPIC_LANEMAP
from agents.kafka.java_client import java_properties
from agents.kafka.topics import MAX_DEAD_BYTES
from agents.settings import Kafka, Router, Worker
from agents.worker.stage import Topics

TRANSACTION_MS = 10_000
"""As that of the leases: a transaction that is open for longer is aborted by the broker."""
LONGEST_GAP_MS = TRANSACTION_MS // 2
"""Kafka Streams opens a transaction with its first record, so that commits must not be farther
apart."""


@dataclass(frozen=True, slots=True)
class StreamsSetup:
    """`lanemap_topic`: only tests use another. `unplaced_partitions`: of events.unplaced."""

    kafka: Kafka
    router: Router
    map_version: int
    unplaced_partitions: int
    topics: Topics = field(default_factory=Topics)
    lanemap_topic: str = TOPIC_LANEMAP

    def make_config(self, worker: Worker, lease: LeaseCommand, state_dir: Path) -> dict[str, Any]:
        """The configuration, secrets included. Blocks. Raises SettingsError."""
        t = self.topics
        return {
            "kafka": java_properties(self.kafka),
            "group": t.router_group,
            "lease": {
                "transactionalId": lease.transactional_id,
                "producerId": lease.producer_id,
                "producerEpoch": lease.producer_epoch,
            },
            "topics": {
                "raw": t.raw,
                "lanemap": self.lanemap_topic,
                "lanes": t.lanes,
                "unplaced": t.unplaced,
                "dead": t.dead,
            },
            "protocol": self.router.group_protocol,
            "mapVersion": self.map_version,
            "sessionMs": self.router.session_ms,
            "maxEventBytes": worker.max_event_bytes,
            "futureLimitMs": worker.future_limit_s * 1000,
            "unplacedPartitions": self.unplaced_partitions,
            "maxRequestBytes": MAX_DEAD_BYTES,
            "transactionTimeoutMs": TRANSACTION_MS,
            "tuning": make_tuning(worker),
            "stateDir": str(state_dir),
            "unprintable": unprintable_ranges(),
        }


def make_tuning(worker: Worker) -> dict[str, int]:
    """What may change while the program runs."""
    return {
        "commitGapMs": min(worker.commit_gap_ms, LONGEST_GAP_MS),
        "batchRecords": worker.batch_records,
    }


@cache
def unprintable_ranges() -> list[int]:
    """The characters that `repr` escapes, as first, last, first, last ...; it depends on the
    version of Unicode that this Python has. Takes 0.1 s."""
    bounds: list[int] = []
    inside = False
    for c in range(sys.maxunicode + 2):
        now = c <= sys.maxunicode and not chr(c).isprintable()
        if now != inside:
            bounds.append(c if now else c - 1)
            inside = now
    return bounds
