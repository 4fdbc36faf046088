"""Fetches that are never larger than what passes within their time-out.

A broker sends what a fetch asks for, however slow the way is: with the socket buffers of 100 KiB
that brokers have by default, a node at an RTT of 150 ms receives less than 1 MB/s. An answer that
does not arrive in time is discarded and requested again, for ever. So the size of each fetch is
bounded by the measured bandwidth, for each broker separately, down to one record batch: a broker
sends the first batch whatever its size (KIP-74)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka.client import ConnectionGroup
from aiokafka.protocol.fetch import FetchRequest

from agents.worker.sizes import SizeBound

FIRST_BYTES = 256 << 10
TARGET_S = 1.0
"""A fetch that is under way delays the first one after a hand-over."""
TOO_SLOW_AFTER = 2
"""Time-outs in a row; by then a fetch asks for one record batch."""


class BoundedFetches:
    """Sits between aiokafka's consumer and its client. `most`: bytes of a fetch. `rtt_ms_to`: the
    round trip to a broker, None if it is not known."""

    def __init__(  # Any: aiokafka has no types
        self, client: Any, most: int, rtt_ms_to: Callable[[int], float | None]
    ) -> None:
        self._client, self._send_on, self._most = client, client.send, most
        self._rtt_ms_to = rtt_ms_to
        self._bounds: dict[int, SizeBound] = {}
        self._too_slow: dict[int, str] = {}
        client.send = self._send

    def describe_trouble(self, broker: int | None) -> str:
        """Why nothing can be read from this broker; empty if fetches pass."""
        return self._too_slow.get(broker, "") if broker is not None else ""

    async def _send(
        self, node: int, request: Any, *, group: ConnectionGroup = ConnectionGroup.DEFAULT
    ) -> Any:
        if not isinstance(request, FetchRequest):
            return await self._send_on(node, request, group=group)
        bound = self._bounds.setdefault(node, SizeBound(FIRST_BYTES, self._most, TARGET_S))
        await self._client.ready(node, group=group)
        arriving = self._buffer_of_connection(node, group)
        began = time.monotonic()
        try:
            answer = await self._send_on(node, _limit_size(request, bound.bytes), group=group)
        except kafka_errors.RequestTimedOutError:
            # Without a first byte it is the broker, or the way to it, that is away.
            if arriving:
                bound.note_timeout(len(arriving), time.monotonic() - began)
                if bound.timeouts >= TOO_SLOW_AFTER:
                    self._note_too_slow(node, bound, time.monotonic() - began)
            raise
        if size := sum(len(p[-1] or b"") for _, partitions in answer.topics for p in partitions):
            bound.note_passed(size, time.monotonic() - began)
            self._too_slow.pop(node, None)
        return answer

    def _buffer_of_connection(self, node: int, group: ConnectionGroup) -> bytearray:
        """What has arrived of an answer that is not complete (private to asyncio, and to
        aiokafka)."""
        connection = self._client._conns.get((node, group))
        reader = connection._reader if connection is not None else None
        return reader._buffer if reader is not None else bytearray()

    def _note_too_slow(self, node: int, bound: SizeBound, took_s: float) -> None:
        rtt_ms = self._rtt_ms_to(node)
        rtt = f"RTT {rtt_ms:.0f} ms, " if rtt_ms is not None else ""
        self._too_slow[node] = (
            f"a fetch from broker {node} does not pass within {took_s:.0f} s, even if it asks for "
            f"one record batch ({rtt}{bound.bandwidth_bps / 1000:,.0f} kB/s): set the broker's "
            "socket.send.buffer.bytes to -1 and leave out kafka.receive_buffer_bytes, or move the "
            "lane nearer"
        )


def _limit_size(request: Any, most: int) -> Any:
    """The same fetch for at most this many bytes."""
    return FetchRequest(
        request._max_wait_ms,
        request._min_bytes,
        most,
        request._isolation_level,
        [
            (topic, [(n, offset, min(size, most)) for n, offset, size in partitions])
            for topic, partitions in request.topics
        ],
        request._rack_id,
    )
