"""Real servers, started once per session; each test asks them for users, topics and names of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

pytest_plugins = ["tests.fixtures.xmpp", "tests.fixtures.kafka"]


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With two processes (`make test`) one has all whole stacks, which wait more than they compute, the other all else."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group("stacks" if item.get_closest_marker("stack") else "others"))


@pytest.fixture(autouse=True)
def nothing_waits_on_the_loop() -> Iterator[BlockBuster]:
    """Our code fails at once with BlockingError where it waits on an event loop: for a socket, a database, a lock, a time.

    Small files (settings, a password) may be read there."""
    with blockbuster_ctx(scanned_modules=["agents", "plugins", "ejabberd"]) as blockbuster:
        for name, function in blockbuster.functions.items():
            if name.startswith(("os.", "io.")):
                function.deactivate()
        yield blockbuster
