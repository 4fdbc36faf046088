"""Takes members whose process has died out of their group, so that the others need not wait until
their sessions end."""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka.client import CoordinationType
from aiokafka.protocol.group import LeaveGroupRequest

from agents import settings
from agents.kafka.connection import Link, raise_for_code
from agents.kafka.wire import LeaveStreamsGroup

STREAMS = "streams"
"""Kafka Streams' own group protocol (KIP-1071); any other is that of consumers."""
BOUND_S = 3.0
_UNKNOWN_MEMBER_ID, _GROUP_ID_NOT_FOUND = 25, 69


async def remove_members(
    kafka: settings.Kafka, group: str, protocol: str, members: Iterable[str]
) -> None:
    """Remove these members; those that are gone already are left out. Raises KafkaUnavailable,
    KafkaError."""
    request = LeaveStreamsGroup if protocol == STREAMS else LeaveGroupRequest
    link = Link(kafka, "geolane-group")
    try:
        await link.start()
        for member in members:

            async def attempt(member: str = member) -> None:
                node = await link.find_coordinator(CoordinationType.GROUP, group)
                answer = await link.send_request(node, request(group, member))
                if answer.error_code not in (_UNKNOWN_MEMBER_ID, _GROUP_ID_NOT_FOUND):
                    raise_for_code(answer.error_code, group)

            await link.retry_until_done(f"remove a member of group {group}", attempt, BOUND_S)
    finally:
        await link.stop()
