"""One small stack for all fault tests: real servers, three nodes, twelve lanes, every process its own (PROTOCOL 5)."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from agents.embedded import flights, headless
from agents.embedded.folder import RunFolder
from agents.embedded.replay import Event, Replay
from agents.embedded.stack import Plan, Stack
from agents.settings import Coordinator, Settings
from agents.xmpp.person import Person
from tests.metrics.scraping import free_ports

RATE_EPS = 1000.0


class Running:
    """A running stack. Each test replays events of its own; the books go on over all of them."""

    def __init__(self, stack: Stack, first_port: int = 0) -> None:
        self.stack = stack
        self.first_port = first_port  # of the metrics, where a module asks for them
        self.stream: Iterator[Event] = flights.stream()
        self.replays: list[Replay] = []

    def replay(self, events: int, stream: Iterator[Event] | None = None) -> tuple[Replay, asyncio.Task[None]]:
        """Send so many events more, at 1,000/s."""
        replay = Replay(self.stack.base.kafka, stream or self.stream, len(self.stack.accounting.raw), RATE_EPS, events)
        self.replays.append(replay)
        return replay, asyncio.create_task(replay.run())

    async def account(self, replay: Replay, sending: asyncio.Task[None]) -> None:
        """Wait until all is sent and has come out; nothing may be missing, nothing doubled."""
        async with asyncio.timeout(120):
            await sending
        sent = sum(r.sent for r in self.replays)
        async with asyncio.timeout(120):
            await headless.settled(self.stack, sent)
        a = self.stack.accounting
        assert (a.events_in, a.open, a.duplicates) == (sent, 0, 0)

    @asynccontextmanager
    async def in_room(self) -> AsyncIterator[Person]:
        """Ana, who sits in the ops room with a chat client of hers."""
        secret = str(self.stack.folder.secrets / "ana")
        async with Person(msgspec.structs.replace(self.stack.base.xmpp, password_file=secret), "ana") as ana:
            await ana.join()
            yield ana

    async def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
            await asyncio.sleep(0.02)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    monkeypatch = pytest.MonkeyPatch()
    # pytest's own folders are closed to ejabberd's user
    path = Path(tempfile.mkdtemp(prefix="geolane-stack-"))
    os.chmod(path, 0o711)
    settings = Settings(coordinator=Coordinator(lanes=12))
    if source := getattr(request.module, "PIPELINE", ""):
        (path / "shipped.py").write_text(source)
        settings = msgspec.structs.replace(
            settings, worker=msgspec.structs.replace(settings.worker, pipeline="shipped:pipeline")
        )
    with RunFolder(path) as folder:
        first_port = free_ports(20) if getattr(request.module, "METRICS", False) else 0
        plan = Plan(
            settings,
            nodes=3,
            coordinators=getattr(request.module, "COORDINATORS", 1),
            metrics_from=first_port or None,
        )
        stack = Stack(folder, plan, lambda text: None)
        monkeypatch.setenv("PYTHONPATH", str(path))  # where a pipeline of the module's is found
        async with stack.working(flights.sample(), RATE_EPS):
            yield Running(stack, first_port)
    monkeypatch.undo()
    if request.session.testsfailed:
        print(f"the processes' logs are kept in {path / 'log'}")
    else:
        shutil.rmtree(path)
