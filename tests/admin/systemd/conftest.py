"""A small stack whose processes run as units do: each with a notify socket and a watchdog, started
again when it ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from agents.local.demo import flights
from agents.local.servers.children import Child, inherited_environment
from agents.local.servers.folder import RunFolder
from agents.local.stack import Stack, StackPlan
from agents.settings import Coordinator, Settings
from tests.admin.systemd.support import Manager
from tests.stack.conftest import RATE_EPS, Running

WATCHDOG_S = 2.0


class Unit(Child):
    """One process as a service manager runs it: nothing says that it dies with its parent."""

    manager: Manager

    async def _run_once(self) -> int:
        process = await self.manager.start(
            [sys.executable, "-m", "agents", *self._arguments],
            self.log_file,
            base=inherited_environment(os.environ) | dict(self._env),
        )
        self._process = process
        self.starts += 1
        self._folder.note_process(self.name, process.pid)
        return await process.wait()


class Units(Stack):
    """`managers`: who listens to which process, by its name."""

    managers: dict[str, Manager]

    def _make_child(self, name: str, account: str, *arguments: str) -> Child:
        child = super()._make_child(name, account, *arguments)
        unit = Unit(self.folder, child.name, child._arguments, child._env)
        unit.manager = self.managers[name] = Manager(
            self.folder.path / f"{name}.notify", WATCHDOG_S
        )
        return unit


class RunningUnits(Running):
    stack: Units

    def manager(self, name: str) -> Manager:
        return self.stack.managers[name]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def units(request: pytest.FixtureRequest) -> AsyncIterator[RunningUnits]:
    path = Path(
        tempfile.mkdtemp(prefix="geolane-units-")
    )  # pytest's own folders are closed to ejabberd's user
    os.chmod(path, 0o711)
    settings = flights.with_pipeline(Settings(coordinator=Coordinator(lanes=12)))
    with RunFolder(path) as folder:
        stack = Units(folder, StackPlan(settings, nodes=3), lambda text: None)
        stack.managers = {}
        try:
            async with stack.working(flights.sample_events(), RATE_EPS):
                yield RunningUnits(stack)
        finally:
            for manager in stack.managers.values():
                manager.close()
    if request.session.testsfailed:
        print(f"the processes' logs are kept in {path / 'log'}")
    else:
        await asyncio.to_thread(shutil.rmtree, path)
