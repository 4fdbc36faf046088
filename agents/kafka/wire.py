"""Requests of Kafka's protocol that aiokafka 0.14 lacks, declared in its style, and nothing else.
Their fields and numbers are those of https://kafka.apache.org/protocol.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from io import BytesIO
from typing import Any

from aiokafka.protocol.admin import CreateAclsRequest_v1
from aiokafka.protocol.api import Request, RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.transaction import EndTxnRequest
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)

_TEXT = String("utf-8")
_SHORT = CompactString("utf-8")
_SET, _TOPIC_CONFIG = 0, 2


class Resource(IntEnum):
    """ResourceType of an ACL."""

    TOPIC, GROUP, CLUSTER, TRANSACTIONAL_ID = 2, 3, 4, 5


class Pattern(IntEnum):
    """PatternType of an ACL."""

    LITERAL, PREFIXED = 3, 4


class Operation(IntEnum):
    """AclOperation."""

    READ, WRITE, CREATE, ALTER, DESCRIBE, DESCRIBE_CONFIGS = 3, 4, 5, 7, 8, 10


CLUSTER_NAME = "kafka-cluster"
"""The name of the one resource of type CLUSTER."""

ANY = 1
ALLOW = 3
SCRAM = {"SCRAM-SHA-256": (1, "sha256"), "SCRAM-SHA-512": (2, "sha512")}
"""Kafka's number and hashlib's name of each mechanism."""


class _AlteredConfigs(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY, API_VERSION = 44, 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "responses",
            Array(("error_code", Int16), ("error_message", _TEXT), ("type", Int8), ("name", _TEXT)),
        ),
    )


class _AlterConfigs(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, RESPONSE_TYPE = 44, 0, _AlteredConfigs
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("type", Int8),
                ("name", _TEXT),
                ("configs", Array(("key", _TEXT), ("how", Int8), ("value", _TEXT))),
            ),
        ),
        ("validate_only", Boolean),
    )


class IncrementalAlterConfigs(Request[_AlterConfigs]):  # type: ignore[misc]
    """Set these configuration keys of topics and keep the others. (AlterConfigs, which aiokafka
    has, resets the others.)"""

    API_KEY = 44

    def __init__(self, topics: dict[str, dict[str, str]]) -> None:
        self._topics = [
            (_TOPIC_CONFIG, name, [(k, _SET, v) for k, v in keys.items()])
            for name, keys in topics.items()
        ]

    def build(self, request_struct_class: type[_AlterConfigs]) -> _AlterConfigs:
        return request_struct_class(self._topics, False)


class _AlteredScram(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 51, 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            CompactArray(
                ("user", _SHORT),
                ("error_code", Int16),
                ("error_message", _SHORT),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _AlterScram(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, RESPONSE_TYPE, FLEXIBLE_VERSION = 51, 0, _AlteredScram, True
    SCHEMA = Schema(
        ("deletions", CompactArray(("name", _SHORT), ("mechanism", Int8), ("tags", TaggedFields))),
        (
            "upsertions",
            CompactArray(
                ("name", _SHORT),
                ("mechanism", Int8),
                ("iterations", Int32),
                ("salt", CompactBytes),
                ("salted_password", CompactBytes),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class AlterUserScramCredentials(Request[_AlterScram]):  # type: ignore[misc]
    """Set credentials, each (user, mechanism's number, iterations, salt, salted password). The
    password itself is not sent."""

    API_KEY = 51

    def __init__(self, credentials: list[tuple[str, int, int, bytes, bytes]]) -> None:
        self._credentials: list[tuple[Any, ...]] = [(*credential, {}) for credential in credentials]

    def build(self, request_struct_class: type[_AlterScram]) -> _AlterScram:
        return request_struct_class([], self._credentials, {})


class _DescribedScram(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 50, 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("error_message", _SHORT),
        (
            "results",
            CompactArray(
                ("user", _SHORT),
                ("error_code", Int16),
                ("error_message", _SHORT),
                (
                    "credentials",
                    CompactArray(
                        ("mechanism", Int8), ("iterations", Int32), ("tags", TaggedFields)
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _DescribeScram(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, RESPONSE_TYPE, FLEXIBLE_VERSION = 50, 0, _DescribedScram, True
    SCHEMA = Schema(
        ("users", CompactArray(("name", _SHORT), ("tags", TaggedFields))), ("tags", TaggedFields)
    )


class DescribeUserScramCredentials(Request[_DescribeScram]):  # type: ignore[misc]
    """Which of these users have credentials, of any mechanism (KIP-554)."""

    API_KEY = 50

    def __init__(self, users: Sequence[str]) -> None:
        self._users: list[tuple[Any, ...]] = [(user, {}) for user in users]

    def build(self, request_struct_class: type[_DescribeScram]) -> _DescribeScram:
        return request_struct_class(self._users, {})


class _DescribedProducers(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 61, 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", _SHORT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("error_message", _SHORT),
                        (
                            "producers",
                            CompactArray(
                                ("producer_id", Int64),
                                ("producer_epoch", Int32),
                                ("last_sequence", Int32),
                                ("last_timestamp", Int64),
                                ("coordinator_epoch", Int32),
                                ("transaction_start", Int64),
                                ("tags", TaggedFields),
                            ),
                        ),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _DescribeProducers(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, RESPONSE_TYPE, FLEXIBLE_VERSION = 61, 0, _DescribedProducers, True
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("name", _SHORT), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)
            ),
        ),
        ("tags", TaggedFields),
    )


class DescribeProducers(Request[_DescribeProducers]):  # type: ignore[misc]
    """The producers of partitions, and the offset at which each one's open transaction begins (-1:
    none). Sent to the partitions' leader (KIP-664)."""

    API_KEY = 61

    def __init__(self, partitions: Mapping[str, Sequence[int]]) -> None:
        self._topics: list[tuple[Any, ...]] = [
            (topic, list(ns), {}) for topic, ns in partitions.items()
        ]

    def build(self, request_struct_class: type[_DescribeProducers]) -> _DescribeProducers:
        return request_struct_class(self._topics, {})


@dataclass(frozen=True, slots=True)
class PartitionProducer:
    """One producer of a partition. `first_offset`: where its open transaction begins; -1: none."""

    producer_id: int
    producer_epoch: int
    coordinator_epoch: int
    first_offset: int


@dataclass(frozen=True, slots=True)
class PartitionProducers:
    """The producers of one partition, or an error code (0: none) and its message."""

    topic: str
    n: int
    code: int
    message: str
    producers: tuple[PartitionProducer, ...]


def producers_of(answer: Any) -> list[PartitionProducers]:
    """The answer to DescribeProducers. Any: aiokafka has no types."""
    return [
        PartitionProducers(
            topic,
            n,
            code,
            message or "",
            tuple(
                PartitionProducer(int(pid), int(epoch), int(coordinator_epoch), int(first))
                for pid, epoch, _, _, coordinator_epoch, first, _ in producers
            ),
        )
        for topic, partitions, _ in answer.topics
        for n, code, message, producers, _ in partitions
    ]


class _DescribedTransactions(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 65, 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "transactions",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", _SHORT),
                ("state", _SHORT),
                ("timeout_ms", Int32),
                ("start_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                (
                    "topics",
                    CompactArray(
                        ("name", _SHORT),
                        ("partitions", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _DescribeTransactions(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, RESPONSE_TYPE, FLEXIBLE_VERSION = 65, 0, _DescribedTransactions, True
    SCHEMA = Schema(("transactional_ids", CompactArray(_SHORT)), ("tags", TaggedFields))


class DescribeTransactions(Request[_DescribeTransactions]):  # type: ignore[misc]
    """The state of a transactional id's newest transaction. Sent to the id's coordinator
    (KIP-664)."""

    API_KEY = 65

    def __init__(self, transactional_id: str) -> None:
        self._ids = [transactional_id]

    def build(self, request_struct_class: type[_DescribeTransactions]) -> _DescribeTransactions:
        return request_struct_class(self._ids, {})


class _WroteMarkers(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 27, 1
    SCHEMA = Schema(
        (
            "markers",
            CompactArray(
                ("producer_id", Int64),
                (
                    "topics",
                    CompactArray(
                        ("name", _SHORT),
                        (
                            "partitions",
                            CompactArray(
                                ("partition", Int32), ("error_code", Int16), ("tags", TaggedFields)
                            ),
                        ),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _WriteMarkers(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, RESPONSE_TYPE, FLEXIBLE_VERSION = 27, 1, _WroteMarkers, True
    SCHEMA = Schema(
        (
            "markers",
            CompactArray(
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                ("committed", Boolean),
                (
                    "topics",
                    CompactArray(
                        ("name", _SHORT),
                        ("partitions", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("coordinator_epoch", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class WriteTxnMarkers(Request[_WriteMarkers]):  # type: ignore[misc]
    """Abort the open transaction of this producer in one partition. Sent to the partition's leader
    (KIP-664)."""

    API_KEY = 27

    def __init__(
        self, producer_id: int, epoch: int, coordinator_epoch: int, topic: str, partition: int
    ) -> None:
        topics: list[tuple[Any, ...]] = [(topic, [partition], {})]
        self._markers: list[tuple[Any, ...]] = [
            (producer_id, epoch, False, topics, coordinator_epoch, {})
        ]

    def build(self, request_struct_class: type[_WriteMarkers]) -> _WriteMarkers:
        return request_struct_class(self._markers, {})


class CreateAcls(Request[CreateAclsRequest_v1]):  # type: ignore[misc]
    """Create several ACLs in one request, each (resource type, name, pattern type, principal, host,
    operation, permission)."""

    API_KEY = 30

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:  # Any: of ints and texts
        self._rows = rows

    def build(self, request_struct_class: type[CreateAclsRequest_v1]) -> CreateAclsRequest_v1:
        return request_struct_class(self._rows)


class _Features(Response):  # type: ignore[misc]
    """What a broker supports, and what the cluster has finalized."""

    API_KEY, API_VERSION = 18, 3
    SCHEMA = Schema(
        ("error_code", Int16),
        (
            "apis",
            CompactArray(
                ("api_key", Int16),
                ("min_version", Int16),
                ("max_version", Int16),
                ("tags", TaggedFields),
            ),
        ),
        ("throttle_time_ms", Int32),
        ("tags", TaggedFields),
    )
    _FINALIZED_TAG = 2
    _FINALIZED = CompactArray(
        ("name", _SHORT), ("max_level", Int16), ("min_level", Int16), ("tags", TaggedFields)
    )

    @property
    def finalized(self) -> dict[str, int]:
        """The level of each feature that the cluster has finalized (KIP-584)."""
        found = self.tags.get(self._FINALIZED_TAG)
        rows = self._FINALIZED.decode(BytesIO(found)) if found else ()
        return {name: level for name, level, *_ in rows or ()}

    @property
    def versions(self) -> dict[int, int]:
        """The highest version of each request that the broker takes, by the request's key."""
        return {key: highest for key, _, highest, _ in self.apis}


class _AskFeatures(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, RESPONSE_TYPE, FLEXIBLE_VERSION = 18, 3, _Features, True
    SCHEMA = Schema(("software_name", _SHORT), ("software_version", _SHORT), ("tags", TaggedFields))

    def parse_response_header(self, read_buffer: BytesIO | bytes) -> Any:  # Any: no types
        """For this request alone, the response has the old header in every version (KIP-511)."""
        return ResponseHeader_v0.decode(read_buffer)


class DescribeFeatures(Request[_AskFeatures]):  # type: ignore[misc]
    """ApiVersions, version 3. aiokafka's version is too old to receive the finalized features."""

    API_KEY = 18

    def build(self, request_struct_class: type[_AskFeatures]) -> _AskFeatures:
        return request_struct_class("geolane", "1", {})


class _EndedTransaction(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 26, 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("tags", TaggedFields),
    )


class _EndTransaction(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, RESPONSE_TYPE, FLEXIBLE_VERSION = 26, 5, _EndedTransaction, True
    SCHEMA = Schema(
        ("transactional_id", _SHORT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("commit", Boolean),
        ("tags", TaggedFields),
    )


class EndTransaction(Request[_EndTransaction]):  # type: ignore[misc]
    """EndTxn, version 5. The answer has the producer id and epoch of the next transaction
    (KIP-890)."""

    API_KEY = 26

    def __init__(self, of: EndTxnRequest) -> None:
        self._fields = (
            of._transactional_id,
            of._producer_id,
            of._producer_epoch,
            of._transaction_result,
        )

    def build(self, request_struct_class: type[_EndTransaction]) -> _EndTransaction:
        return request_struct_class(*self._fields, {})


class _StreamsGroupHeartbeatAnswer(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 88, 0
    SCHEMA = Schema(  # of what follows, a leaving member needs nothing
        ("throttle_time_ms", Int32), ("error_code", Int16), ("error_message", _SHORT)
    )


class _StreamsGroupHeartbeat(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, FLEXIBLE_VERSION = 88, 0, True
    RESPONSE_TYPE = _StreamsGroupHeartbeatAnswer
    SCHEMA = Schema(
        ("group_id", _SHORT),
        ("member_id", _SHORT),
        ("member_epoch", Int32),
        ("endpoint_information_epoch", Int32),
        ("instance_id", _SHORT),
        ("rack_id", _SHORT),
        ("rebalance_timeout_ms", Int32),
        ("topology", Int8),  # -1: none; so for all others that are not arrays
        ("active_tasks", CompactArray(Int8)),
        ("standby_tasks", CompactArray(Int8)),
        ("warmup_tasks", CompactArray(Int8)),
        ("process_id", _SHORT),
        ("user_endpoint", Int8),
        ("client_tags", CompactArray(Int8)),
        ("task_offsets", CompactArray(Int8)),
        ("task_end_offsets", CompactArray(Int8)),
        ("shutdown_application", Boolean),
        ("tags", TaggedFields),
    )


class LeaveStreamsGroup(Request[_StreamsGroupHeartbeat]):  # type: ignore[misc]
    """Take a member out of a group of Kafka Streams (KIP-1071)."""

    API_KEY = 88

    def __init__(self, group: str, member: str) -> None:
        self._group, self._member = group, member

    def build(self, request_struct_class: type[_StreamsGroupHeartbeat]) -> _StreamsGroupHeartbeat:
        nothing = [None] * 3
        return request_struct_class(
            *(self._group, self._member, -1, 0, None, None, -1, -1),
            *(*nothing, None, -1, *nothing, False, {}),
        )
