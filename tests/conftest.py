"""Real servers, started once per session; each test asks them for users, topics and names of its
own."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Generator, Iterator
from typing import Any

import pytest
import structlog
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings as examples

pytest_plugins = ["tests.fixtures.xmpp", "tests.fixtures.kafka", "tests.fixtures.flink"]

# On a busy machine any example may take longer than Hypothesis' 200 ms.
examples.register_profile("geolane", deadline=None)
examples.load_profile("geolane")

# The only reasons for which CI may skip a test; everything else is installed by `make test`. The
# recordings of ../shared/data may not be part of the project.
MAY_BE_SKIPPED = ("no GPU", "needs root", "needs IPv6", "no ../shared/data")


# pytest's own timeout (180 s) raises an error in the test. If a task swallows it, or the clean-up
# hangs too, this ends the run.
HUNG_S = 400.0
_structlog_configure = structlog.configure
_terminal = pytest.StashKey[int]()  # what pytest does not capture


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_terminal] = os.dup(2)
    structlog.configure = _configure_without_cache  # type: ignore[assignment]


def _configure_without_cache(**options: Any) -> None:
    """A cached logger would go on with the processors of a command that an earlier test has run."""
    _structlog_configure(**options | {"cache_logger_on_first_use": False})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test that hangs ends the run; what each task and thread waits for is printed first."""
    timer = threading.Timer(HUNG_S, _end_hung_run, [item])
    timer.daemon = True
    timer.start()
    try:
        return (yield)
    finally:
        timer.cancel()
        structlog.reset_defaults()


def _end_hung_run(item: pytest.Item) -> None:
    with open(item.config.stash[_terminal], "w", encoding="utf-8") as out:
        print(f"\n{item.nodeid} hangs for {HUNG_S:g} s; the run ends", file=out)
        for task in [t for t in gc.get_objects() if isinstance(t, asyncio.Task) and not t.done()]:
            task.print_stack(file=out)
    os.abort()  # pytest's faulthandler prints the stacks of all threads


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
