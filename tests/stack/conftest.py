"""Small stacks: real servers, three nodes, twelve lanes, every process its own (PROTOCOL 5). A
module has one of its own, but for those in shared/, which have one together."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from agents.base import ports
from agents.core.model.inventory import InventoryFile
from agents.local import headless
from agents.local.demo import flights
from agents.local.demo.replay import KeyedValue, Replay
from agents.local.servers.children import Child
from agents.local.servers.folder import RunFolder
from agents.local.stack import ANALYTICS_FLINK, INVENTORY, Stack, StackPlan, inventory_to_toml
from agents.settings import Analytics, Coordinator, Router, Settings, Xmpp, decode_toml, read_secret
from agents.xmpp.operator_client import ChatMessage, OperatorClient
from tests.once import require_settled

RATE_EPS = 1000.0


class Running:
    """A running stack. Each test replays events of its own; the books go on over all of them."""

    def __init__(self, stack: Stack, first_port: int = 0) -> None:
        self.stack = stack
        self.first_port = first_port  # of the metrics, where a module asks for them
        self.stream: Iterator[KeyedValue] = flights.endless_events()
        self.replays: list[Replay] = []
        self.killed: Counter[str] = Counter()  # processes, by name, and how often

    def replay(
        self, events: int, stream: Iterator[KeyedValue] | None = None, rate_eps: float = RATE_EPS
    ) -> tuple[Replay, asyncio.Task[None]]:
        """Send so many events more."""
        replay = self.make_replay(events, stream, rate_eps)
        return replay, asyncio.create_task(replay.run())

    def make_replay(
        self, events: int, stream: Iterator[KeyedValue] | None = None, rate_eps: float = RATE_EPS
    ) -> Replay:
        """One of so many events more, for the caller to run."""
        replay = Replay(
            self.stack.base.kafka,
            stream or self.stream,
            len(self.stack.accounting.raw),
            rate_eps,
            events,
        )
        self.replays.append(replay)
        return replay

    async def account(self, replay: Replay, sending: asyncio.Task[None]) -> None:
        """Wait until all is sent and has come out; nothing may be missing, nothing doubled."""
        async with asyncio.timeout(120):
            await sending
        await self.settle()

    async def settle(self) -> None:
        """Wait until all that was sent has come out; nothing may be missing, nothing doubled."""
        sent = sum(r.sent for r in self.replays)
        async with asyncio.timeout(120):
            await headless.wait_until_settled(self.stack, sent)
        require_settled(self.stack.accounting, sent)

    @asynccontextmanager
    async def in_room(self, who: str = "ana") -> AsyncIterator[OperatorClient]:
        """Ana, or another, who sits in the ops room with a chat client of hers."""
        async with OperatorClient(self.login(who), who) as client:
            await client.join_room()
            yield client

    def login(self, who: str) -> Xmpp:
        """Where and how that account logs in."""
        return msgspec.structs.replace(
            self.stack.base.xmpp, password_file=str(self.stack.folder.secrets / who)
        )

    def password(self, who: str) -> str:
        return read_secret(str(self.stack.folder.secrets / who))

    def bot(self, text: str, *, room: bool | None = None) -> Callable[[ChatMessage], bool]:
        """What the coordinator says that has `text`, a pattern; `room`: there, or one to one."""
        jid = self.stack.base.xmpp.coordinator
        return lambda said: (
            said.jid == jid and room in (None, said.room) and re.search(text, said.text) is not None
        )

    def leader(self) -> Child:
        """The coordinator that began to lead last, by the logs: one that was frozen or killed has
        not logged that it no longer leads."""
        children = self.stack.family.children
        return max((children[n] for n in children if n.startswith("coordinator")), key=_leads_since)

    async def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
            await asyncio.sleep(0.02)


def _leads_since(coordinator: Child) -> str:
    """When its log says that it began to lead; empty if it does not lead."""
    log = coordinator.log_file.read_text("utf-8")
    said = re.findall(r'"event": "(leading|standing_by)".*"timestamp": "(.*)"', log)
    return said[-1][1] if said and said[-1][0] == "leading" else ""


@dataclass
class Outcome:
    """What `started` asks of a session of pytest, for who has none."""

    testsfailed: int = 0


@asynccontextmanager
async def started(
    session: pytest.Session | Outcome,
    *,
    coordinators: int = 1,
    pipeline: str = "",
    worker: dict[str, Any] | None = None,
    metrics: bool = False,
    analytics: str = "",
    maps: str = "",
    rate_eps: float = RATE_EPS,
    sites: str = "",
    delays: str = "",
    broker_at: str = "",
    router: str = "",
    routers: int = 1,
) -> AsyncIterator[Running]:
    """A small stack; `pipeline`: the source of `shipped.pipeline`, found by every process;
    `worker`: settings of that table; `metrics`: scraped from `first_port` on; `analytics`,
    `maps`: as in the plan; `rate_eps`: that the lane map and the forecast's day are made for;
    `sites`, `delays`, `broker_at`: as in the plan; `router`: their engine, `routers`: how many."""
    # pytest's own folders are closed to ejabberd's user
    path = Path(tempfile.mkdtemp(prefix="geolane-stack-"))
    os.chmod(path, 0o711)
    settings = flights.with_pipeline(Settings(coordinator=Coordinator(lanes=12)))
    if analytics == ANALYTICS_FLINK:
        settings = msgspec.structs.replace(settings, analytics=Analytics(engine=analytics))
    if router:
        settings = msgspec.structs.replace(settings, router=Router(engine=router))
    inventory = path / "inventory-of-plan.toml"
    file = decode_toml(INVENTORY, InventoryFile)
    more = [msgspec.structs.replace(file.router[0], name=str(n + 1)) for n in range(routers)]
    inventory.write_text(inventory_to_toml(msgspec.structs.replace(file, router=more)), "utf-8")
    if pipeline:
        (path / "shipped.py").write_text(pipeline)
        worker = {"pipeline": "shipped:pipeline", **(worker or {})}
    if worker:
        settings = msgspec.structs.replace(
            settings, worker=msgspec.structs.replace(settings.worker, **worker)
        )
    first_port = ports.find_free_port(20) if metrics else 0
    plan = StackPlan(
        settings,
        inventory,
        nodes=3,
        analytics=analytics,
        maps=maps,
        coordinators=coordinators,
        metrics_from=first_port or None,
        sites=sites,
        delays=delays,
        broker_at=broker_at,
    )
    with RunFolder(path) as folder, pytest.MonkeyPatch.context() as monkeypatch:
        stack = Stack(folder, plan, lambda text: None)
        monkeypatch.setenv("PYTHONPATH", str(path))
        async with stack.working(flights.sample_events(), rate_eps):
            yield Running(stack, first_port)
    if session.testsfailed:
        print(f"the processes' logs are kept in {path / 'log'}")
    else:
        shutil.rmtree(path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    """A stack of the module's own, as its PIPELINE, WORKER, METRICS, ANALYTICS, MAPS and RATE_EPS
    say."""
    module = request.module
    async with started(
        request.session,
        pipeline=getattr(module, "PIPELINE", ""),
        worker=getattr(module, "WORKER", None),
        metrics=getattr(module, "METRICS", False),
        analytics=getattr(module, "ANALYTICS", ""),
        maps=getattr(module, "MAPS", ""),
        rate_eps=getattr(module, "RATE_EPS", RATE_EPS),
    ) as stack:
        yield stack
