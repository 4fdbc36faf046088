"""Real servers, started once per session; each test asks them for users, topics and names of its
own."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

pytest_plugins = ["tests.fixtures.xmpp", "tests.fixtures.kafka"]

# The only reasons for which CI may skip a test; everything else is installed by `make test`.
MAY_BE_SKIPPED = ("no GPU", "needs root", "needs IPv6")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, a skip for any other reason is a failure."""
    report = yield
    if report.skipped and os.environ.get("CI") and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        if not reason.startswith(MAY_BE_SKIPPED):
            report.outcome = "failed"
            report.longrepr = f"{report.nodeid}: CI may not skip it ({reason})"
    return report


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
