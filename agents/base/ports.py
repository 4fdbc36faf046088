"""Free ports on loopback for servers that this process starts. No port is handed out twice.

They lie below the range that the system uses for outgoing connections, so that they are still free
at a restart."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

from agents.base.errors import SettingsError

FIRST, END = 20_000, 32_000
# Each process tries this many ports of its own first, so that two that start servers at the same
# moment seldom collide.
_OWN = 200
_given: set[int] = set()  # by this process; its server may not have bound the port yet


def find_free_port(count: int = 1) -> int:
    """The first of `count` free ports in a row on 127.0.0.1. None of them is handed out again.

    Raises SettingsError if there are none."""
    own = FIRST + os.getpid() % ((END - FIRST) // _OWN) * _OWN
    for first in (
        *random.sample(range(own, own + _OWN), _OWN // 2),
        *random.sample(range(FIRST, END), 2 * _OWN),
    ):
        ports = range(first, first + count)
        if not _given.intersection(ports) and not any(map(is_taken, ports)):
            _given.update(ports)
            return first
    raise SettingsError(
        f"127.0.0.1 has too few free ports from {FIRST} to {END}: {count} in a row were wanted"
    )


def is_taken(port: int) -> bool:
    """Whether another program listens on 127.0.0.1:`port`. Connections that have just ended do not
    count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def read_kept_ports(file: Path, count: int) -> list[int]:
    """The `count` ports that a server has kept in `file`; empty if it has kept none."""
    try:
        kept = [int(word) for word in file.read_text("ascii").split()]
    except (OSError, ValueError):
        return []
    return kept if len(kept) == count else []
