"""Links against the real server: each is ended with its test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from agents.core.events import Led, XmppEvent
from agents.core.model.messages import WorkerAnswer, WorkerCommand
from agents.xmpp.election import CoordinatorLink
from agents.xmpp.worker_session import WorkerLink
from tests.fixtures.xmpp import XmppServer


async def until(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Wait until `condition` holds and return its value."""
    async with asyncio.timeout(timeout_s):
        while not (value := condition()):  # a condition of many parts
            await asyncio.sleep(0.005)
    return value


class Coordinator:
    """A CoordinatorLink that runs, with everything that it emitted."""

    def __init__(self, server: XmppServer, boot: str) -> None:
        self.events: list[XmppEvent] = []
        self.link = CoordinatorLink(server.settings(), boot, self.events.append)
        self.task = asyncio.create_task(self.link.run())

    def of(self, kind: type[XmppEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def led(self) -> None:
        await until(lambda: self.of(Led) and self.link.is_leading)

    def crash(self) -> None:
        """Cut the leader's connection as a kill would, and do not come back."""
        session = self.link._leader_session
        self.task.cancel()
        assert session is not None
        session.abort("killed by the test")


class Worker:
    """A WorkerLink that runs, with the commands that it was given; `obey` may be replaced."""

    def __init__(self, server: XmppServer, account: str, boot: str = "boot1") -> None:
        self.account = account
        self.commands: list[WorkerCommand] = []
        self.answer: Callable[[WorkerCommand], WorkerAnswer] = lambda _: WorkerAnswer()
        self.link = WorkerLink(
            server.settings(account), account, boot, self._obey, site="iad", capacity_eps=2000.0
        )
        self.task = asyncio.create_task(self.link.run())

    async def _obey(self, command: WorkerCommand) -> WorkerAnswer:
        self.commands.append(command)
        return self.answer(command)

    async def up(self) -> None:
        await until(lambda: self.link.is_up)


class Links:
    """Makes links and ends them."""

    def __init__(self, server: XmppServer) -> None:
        self.server = server
        self._tasks: list[asyncio.Task[None]] = []

    async def coordinator(self, boot: str = "coord1", *, led: bool = True) -> Coordinator:
        made = Coordinator(self.server, boot)
        self._tasks.append(made.task)
        if led:
            await made.led()
        return made

    async def worker(self, account: str | None = None, boot: str = "boot1") -> Worker:
        made = Worker(self.server, account or await self.server.worker(), boot)
        self._tasks.append(made.task)
        await made.up()
        return made

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def links(xmpp_server: XmppServer) -> AsyncIterator[Links]:
    made = Links(xmpp_server)
    yield made
    await made.end()


@pytest.fixture(autouse=True)
def nothing_blocks() -> Iterator[None]:
    """Whatever of ours blocks the event loop fails the test."""
    with blockbuster_ctx("agents.xmpp") as blocking:
        blocking.functions["time.sleep"].deactivate()  # a test blocks the loop on purpose
        yield
