"""A fleet that changes while the stream runs: a node comes, gets a new password, goes; nothing is
missing, nothing comes twice."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from agents.admin import inventory_file
from agents.local.demo.replay import KeyedValue
from agents.local.servers.children import Child
from agents.xmpp.operator_client import OperatorClient
from ejabberd.accounts import next_password_file
from tests.stack.conftest import Running
from tests.stack.shared.asking import confirmed

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="package")]

NAME, NODE = "ric-1", "node-ric-1"
MANY = 100_000


CALM = ("window_s", "cooldown_s", "ramp_s")


@pytest_asyncio.fixture(scope="module", loop_scope="package", autouse=True)
async def hasty(running: Running) -> AsyncIterator[None]:
    """A planner that waits for nothing, so that a node that comes has lanes soon."""
    async with OperatorClient(running.login("operator"), "operator", seen=False) as owner:
        for name in CALM:
            await confirmed(owner, "tune", name=name, value="1")
        yield
        for name in CALM:
            await confirmed(owner, "tune", name=name, value="default")


def until(enough: asyncio.Event, stream: Iterator[KeyedValue]) -> Iterator[KeyedValue]:
    """The stream, for as long as it is not enough."""
    for event in stream:
        if enough.is_set():
            return
        yield event


def settings(running: Running) -> Path:
    return running.stack.folder.settings / "geolane.toml"


def inventory(running: Running) -> Path:
    return running.stack.folder.settings / "inventory.toml"


async def geolane(running: Running, *words: str) -> tuple[int, str]:
    """Exit code and what was said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agents",
        *words,
        f"--settings={settings(running)}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(100):
        said = (await process.communicate())[0].decode()
    return process.returncode or 0, said


def node(running: Running) -> Child:
    """The process, as the command says that it is started."""
    secret = running.stack.folder.secrets / NODE
    arguments = (
        "node",
        "--name",
        NAME,
        "--settings",
        str(settings(running)),
        "--set",
        f"xmpp.password_file={secret}",
    )
    return Child(running.stack.folder, NODE, arguments, {})


async def test_a_node_is_added_and_gets_lanes(running: Running) -> None:
    (code, said), (code2, said2) = await asyncio.gather(
        geolane(running, "nodes", "add", NAME, "--site", "ric"),
        geolane(running, "nodes", "add", NAME, "--site", "ric"),
    )
    assert (code, code2) == (0, 0), said + said2
    assert sorted(line for line in (said + said2).splitlines() if "[[node]]" in line) == [
        f"made: [[node]] {NAME} at ric in {inventory(running)}",
        f"unchanged: [[node]] {NAME} at ric in {inventory(running)}",
    ]
    secret = running.stack.folder.secrets / NODE
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.read_text().strip() not in said + said2
    assert (
        f"geolane node --name {NAME} --settings {settings(running)} --set "
        f"xmpp.password_file={secret}" in said
    )
    running.stack.family.start(node(running))
    enough = asyncio.Event()
    replay, sending = running.replay(MANY, until(enough, running.stream))
    await running.until(lambda: bool(running.stack.follower.lanes_of(NODE)), "it has lanes", 60)
    enough.set()
    await running.account(replay, sending)


async def test_it_gets_a_new_password_and_comes_back_with_it(running: Running) -> None:
    server = running.stack.servers.server
    assert server is not None
    secret = running.stack.folder.secrets / NODE
    old, lease = secret.read_text().strip(), running.stack.follower.leases[NODE]
    code, said = await geolane(running, "nodes", "rotate", NAME)
    new = secret.read_text().strip()
    assert code == 0, said
    assert new != old
    assert new not in said
    assert not next_password_file(running.stack.folder.secrets, NODE).exists()
    check = {"user": NODE, "host": f"fleet.{server.domain}"}
    assert await server.api.call("check_password", **check, password=new) == 0
    assert await server.api.call("check_password", **check, password=old) != 0
    assert running.stack.follower.leases[NODE] == lease, "its session lives on"
    replay, sending = running.replay(4000)
    log = running.stack.folder.log / f"{NODE}.log"
    sessions = log.read_text("utf-8").count('"xmpp_up"')
    await server.api.call("kick_user", **check)

    def back() -> bool:  # in time, or after a fence as another boot
        again = log.read_text("utf-8").count('"xmpp_up"') > sessions
        return again or running.stack.follower.leases[NODE].boot != lease.boot

    await running.until(back, "it is back", 30)
    await running.account(replay, sending)


async def test_a_file_that_is_wrong_is_told_and_changes_nothing(running: Running) -> None:
    file = inventory(running)
    text = file.read_text("utf-8")
    async with running.in_room() as ana:
        file.write_text(text.replace('site = "ric"', 'site = "rik"'), "utf-8")
        await ana.wait_for_message(
            lambda said: f"node {NAME}: there is no site 'rik'" in said.text, 20
        )
        file.write_text(text, "utf-8")
        log = running.leader().log_file
        await running.until(
            lambda: _events(log)[-1:] == ["inventory_read"], "it is valid again", 20
        )
    assert "inventory_refused" in _events(log)


def _events(log: Path) -> list[str]:
    return re.findall(r'"event": "(inventory_\w+)"', log.read_text("utf-8"))


async def test_it_is_removed_and_its_lanes_go_elsewhere(running: Running) -> None:
    server = running.stack.servers.server
    assert server is not None
    follower = running.stack.follower
    await running.until(lambda: bool(follower.lanes_of(NODE)), "it has lanes", 60)
    fences = follower.fences
    enough = asyncio.Event()
    replay, sending = running.replay(MANY, until(enough, running.stream))
    code, said = await geolane(running, "nodes", "remove", NAME)
    assert code == 0, said
    assert follower.lanes_of(NODE) == []
    assert follower.leases[NODE].fenced
    assert follower.fences == fences, "it handed everything over first"
    enough.set()
    await running.account(replay, sending)
    assert NODE not in inventory_file.read_inventory(inventory(running)).workers
    assert await server.api.call("check_account", user=NODE, host=f"fleet.{server.domain}") != 0
    assert not (running.stack.folder.secrets / NODE).exists()
    code, said = await geolane(running, "nodes", "remove", NAME)
    assert (code, f"no [[node]] {NAME}" in said) == (0, True), said


async def test_what_cannot_be_done_is_one_line(running: Running) -> None:
    before = inventory(running).read_text()
    code, said = await geolane(running, "nodes", "add", "ric-2", "--site", "rik")
    assert (code, len(said.splitlines())) == (2, 1)
    assert "there is no site 'rik'. Did you mean ric?" in said
    code, said = await geolane(running, "nodes", "add", "yyz-1", "--site", "ric")
    assert (code, "node yyz-1 exists, at site yyz" in said) == (2, True)
    code, said = await geolane(running, "nodes", "rotate", "nobody")
    assert (code, "there is no node nobody" in said) == (2, True)
    assert inventory(running).read_text() == before
