"""The rogues beside a running stack: accounts are made for them, and they work until the block
ends.

async with rogues_at_work(running, seed=7) as rogues:
    ...                     # whatever the fleet has to do meanwhile
rogues.done["guest"]        # Counter of what it did
rogues.check(running)       # nobody lost the lead, nothing failed that a boundary hid"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from agents.settings import Xmpp
from ejabberd.provision import Person, add_person
from tests.security import rogues
from tests.stack.conftest import Running

NODE, GUEST, OUTSIDER = "evil-1", "mallory", "eve"
PASSWORD = "eve's own"


@dataclass
class Rogues:
    """`leads`: the leader's epoch and how often its process was started, before."""

    leads: tuple[int, int]
    server: int | None
    done: dict[str, Counter[str]] = field(default_factory=dict)

    def check(self, running: Running) -> None:
        """Nobody lost the lead; the server is the same; no fault of ours was outlived; nothing odd
        got into a log line."""
        assert (running.stack.follower.leader_epoch, running.leader().starts) == self.leads, (
            "the leader was lost"
        )
        server = running.stack.servers.server
        assert server is None or server.pid == self.server, "ejabberd was started again"
        for name, child in running.stack.family.children.items():
            text = child.log_file.read_text("utf-8")
            faults = [
                line
                for line in text.splitlines()
                if "fault_outlived" in line or "Traceback" in line
            ]
            assert not faults, f"{name}: {faults[0][:3000]}"
            assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", text), name


@asynccontextmanager
async def rogues_at_work(
    running: Running, *, seed: int, per_s: float = 5.0, takes: bool = False
) -> AsyncIterator[Rogues]:
    """`takes`: whether the node says that it takes lanes (it will not work them: they lag until it
    is fenced)."""
    made = await _accounts(running)
    server = running.stack.servers.server
    mine = Rogues(
        (running.stack.follower.leader_epoch, running.leader().starts),
        server.pid if server else None,
    )
    stop = asyncio.Event()
    mine.done = {name: Counter() for name in ("guest", "outsider", "node")}
    guest, outsider, node = mine.done.values()
    works = (
        rogues.guest(made[GUEST], GUEST, stop, seed=seed, per_s=per_s, done=guest),
        rogues.outsider(made[OUTSIDER], OUTSIDER, stop, seed=seed + 1, per_s=per_s, done=outsider),
        rogues.node(
            made[NODE], f"node-{NODE}", stop, seed=seed + 2, per_s=per_s, takes=takes, done=node
        ),
    )
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield mine
    finally:
        stop.set()
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks)


async def node_account(running: Running) -> Xmpp:
    """A node of the inventory whose process nobody starts."""
    settings = running.stack.folder.settings / "geolane.toml"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agents",
        "nodes",
        "add",
        NODE,
        "--site",
        "ric",
        f"--settings={settings}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    return running.login(f"node-{NODE}")


async def _accounts(running: Running) -> dict[str, Xmpp]:
    """That node, a member of the room, and somebody whom nobody knows."""
    folder, domain = running.stack.folder, running.stack.base.xmpp.domain
    node = await node_account(running)
    server = running.stack.servers.server
    assert server is not None
    await add_person(server.api, domain, Person(GUEST, "member"), folder.secrets)
    (folder.secrets / OUTSIDER).touch(mode=0o600)
    (folder.secrets / OUTSIDER).write_text(f"{PASSWORD}\n", "ascii")
    await server.api.call("register", user=OUTSIDER, host=domain, password=PASSWORD)
    return {NODE: node, GUEST: running.login(GUEST), OUTSIDER: running.login(OUTSIDER)}
