"""Real servers, started once per session; each test asks them for users, topics and names of its
own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

pytest_plugins = ["tests.fixtures.xmpp", "tests.fixtures.kafka"]


@pytest.fixture(autouse=True)
def nothing_waits_on_the_loop() -> Iterator[BlockBuster]:
    """Our code fails at once with BlockingError where it waits on an event loop: for a socket, a
    database, a lock, a time.

    Small files (settings, a password) may be read there."""
    with blockbuster_ctx(scanned_modules=["agents", "plugins", "ejabberd"]) as blockbuster:
        for name, function in blockbuster.functions.items():
            if name.startswith(("os.", "io.")):
                function.deactivate()
        yield blockbuster
