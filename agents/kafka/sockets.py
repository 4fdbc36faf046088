"""The sizes of our sockets' buffers, of every client of this process: `use_buffers` sets them, and
each connection that aiokafka makes from then on has them. aiokafka itself has no such option.

On Linux the system raises the buffers of a connection as needed, up to net.ipv4.tcp_rmem and
tcp_wmem. A size of our own replaces that, and is capped at net.core.rmem_max and wmem_max."""

from __future__ import annotations

import socket
from typing import Any

from aiokafka.conn import AIOKafkaConnection

from agents.base import log

_OPTIONS = {
    "send_buffer_bytes": (socket.SO_SNDBUF, "net.core.wmem_max"),
    "receive_buffer_bytes": (socket.SO_RCVBUF, "net.core.rmem_max"),
}
_wanted: dict[str, int] = {}
_told: set[tuple[str, int]] = set()
_connect = AIOKafkaConnection.connect
_log = log.get_logger("kafka.sockets")


def use_buffers(send_buffer_bytes: int, receive_buffer_bytes: int) -> None:
    """Give the connections that are made from now on these buffers; 0: the system's."""
    _wanted.update(send_buffer_bytes=send_buffer_bytes, receive_buffer_bytes=receive_buffer_bytes)


async def _connect_with_buffers(connection: Any) -> Any:  # Any: aiokafka has no types
    streams = await _connect(connection)
    own = connection._writer.get_extra_info("socket") if connection._writer is not None else None
    for key, wanted in _wanted.items():
        if wanted and own is not None:
            _set_buffer(own, key, wanted)
    return streams


def _set_buffer(own: socket.socket, key: str, wanted: int) -> None:
    option, capped_by = _OPTIONS[key]
    own.setsockopt(socket.SOL_SOCKET, option, wanted)
    granted = own.getsockopt(socket.SOL_SOCKET, option) // 2  # Linux answers twice the size
    if granted < wanted and (key, wanted) not in _told:
        _told.add((key, wanted))
        _log.warning(
            "socket_buffer_capped", key=f"kafka.{key}", granted=granted, raise_first=capped_by
        )


def install() -> None:
    """Let aiokafka's connections have our buffers; idempotent."""
    AIOKafkaConnection.connect = _connect_with_buffers
