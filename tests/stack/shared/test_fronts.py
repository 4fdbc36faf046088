"""Operator commands by form and by `geolane ctl`, against a real coordinator and a real
ejabberd."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import sys

import pytest

from agents.base.errors import CommandRefused
from agents.core.model.answers import ChangeData, CommandAnswer, DeadLettersData, StatusData
from agents.core.model.feeds import FleetSummary
from agents.core.model.forms import Status
from agents.local.screen import Inside
from agents.observe.dashboard.figures import DashboardFigures
from agents.observe.dashboard.run import FeedLine
from agents.observe.dashboard.screen import ScreenLayout, draw_screen, to_plain_text
from agents.xmpp.operator_client import OperatorClient
from tests.cli.held import hold_line
from tests.stack.conftest import Running
from tests.stack.shared.asking import confirmed, step, text

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="package")]


async def ctl(running: Running, *words: str, user: str = "ana") -> tuple[int, str, str]:
    return await geolane(running, "ctl", *words, user=user)


async def geolane(
    running: Running, *words: str, user: str, secret: str = ""
) -> tuple[int, str, str]:
    """Exit code, standard output, standard error of a command of a person's, without a terminal.
    `secret`: another's password."""
    settings = running.stack.folder.settings / f"{user}.toml"
    more = (
        ("--set", f"xmpp.password_file={running.stack.folder.secrets / secret}") if secret else ()
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agents",
        *words,
        "--settings",
        str(settings),
        *more,
        *(("--user", user) if words[0] != "dead" else ()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


def placed(running: Running, victim: str) -> list[object]:
    return list(running.stack.follower.lanes_of(victim))


async def test_a_member_is_listed_what_looks_and_may_not_act(running: Running) -> None:
    async with OperatorClient(running.login("guest"), "guest", seen=False) as guest:
        status = await step(guest, "status")
        assert status.status is Status.COMPLETED
        assert "3/3 nodes, 12/12 lanes" in text(status)
        names = {o.value for o in (await guest.list_commands()).commands}
        assert {"status", "lanes", "explain"} <= names
        assert not {"drain", "move", "pause"} & names
        with pytest.raises(CommandRefused, match="forbidden"):
            await guest.send_command_step("drain")


async def test_a_stranger_is_forbidden_and_listed_nothing(running: Running) -> None:
    server = running.stack.servers.server
    assert server is not None
    await server.api.call("register", user="eve", host=server.domain, password="hers")
    secret = running.stack.folder.secrets / "eve"
    secret.touch(mode=0o600)
    secret.write_text("hers\n", "ascii")
    async with OperatorClient(running.login("eve"), "eve", seen=False) as eve:
        with pytest.raises(CommandRefused, match="forbidden"):
            await step(eve, "status")
        assert (await eve.list_commands()).commands == ()


async def test_an_admin_drains_by_form_and_cancel_does_nothing(running: Running) -> None:
    victim = running.stack.busiest_node().name
    name = victim.partition("-")[2]
    async with OperatorClient(running.login("ana"), "ana", seen=False) as ana:
        asked = await step(ana, "drain")
        assert asked.form is not None
        (node,) = asked.form.fields
        assert name in {o.value for o in node.options}
        assert len(node.options) == 3
        dry = await step(ana, "drain", asked.session, "next", {"node": name})
        assert "would move away" in text(dry)
        assert (await step(ana, "drain", dry.session, "cancel")).status is Status.CANCELED
        assert "drained" not in text(await step(ana, "node", fields={"node": name}))
        done = await confirmed(ana, "drain", node=name)
        assert f"On it: drain {name}" in text(done)
        await running.until(lambda: not placed(running, victim), "the node is empty", 30)
        assert f"ana: drain {name}" in text(await step(ana, "history"))
        await confirmed(ana, "resume", node=name)


async def test_ctl_looks_in_words_and_in_json(running: Running) -> None:
    code, out, err = await ctl(running, "status", user="guest")
    assert (code, err) == (0, "")
    assert "/3 nodes, " in out
    code, out, _ = await ctl(running, "status", "--json", user="guest")
    said = hold_line(out, CommandAnswer)
    assert (code, said.command, said.ok) == (0, "status", True)
    assert isinstance(said.data, StatusData)
    assert (said.data.lanes, said.data.nodes) == (12, 3)
    code, out, _ = await ctl(running, "lanes", user="guest")
    assert len(out.splitlines()) >= 12, "a terminal is no phone"


@pytest.mark.parametrize(
    "words",
    ["node router-1", "lane 3", "history", "whatif rate 3 x2", "map", "place Paris", "dead list"],
)
async def test_programs_get_what_the_schema_says(running: Running, words: str) -> None:
    code, out, _ = await ctl(running, *words.split(), "--json", user="guest")
    said = hold_line(out, CommandAnswer)
    assert (code, said.ok) == (0, True)
    assert said.data is not None


async def test_a_program_gets_dead_letters_from_kafka_too(running: Running) -> None:
    code, out, _ = await geolane(running, "dead", "list", "--json", user="ana")
    assert code == 0
    hold_line(out, DeadLettersData)


async def test_ctl_changes_only_what_is_confirmed(running: Running) -> None:
    victim = running.stack.busiest_node().name
    name = victim.partition("-")[2]
    code, out, _ = await ctl(running, "drain", name)
    assert code == 3
    assert "would move away" in out
    assert "nothing was done" in out
    assert placed(running, victim)
    code, out, _ = await ctl(running, "drain", name, "--yes", "--json")
    said = hold_line(out, CommandAnswer)
    assert (code, said.ok, said.fields) == (0, True, {"node": name})
    assert "On it" in said.text
    assert isinstance(said.data, ChangeData)
    assert (said.data.title, said.data.state) == (f"drain {name}", "begun")
    assert said.data.moves
    await running.until(lambda: not placed(running, victim), "the node is empty", 30)
    assert (await ctl(running, "resume", name, "--yes"))[0] == 0


@pytest.mark.parametrize(("typed", "code"), [(b"n\n", 3), (b"\n", 3), (b"\x03", 3), (b"y\n", 0)])
async def test_ctl_asks_on_a_terminal(running: Running, typed: bytes, code: int) -> None:
    ours, theirs = pty.openpty()
    settings = running.stack.folder.settings / "ana.toml"
    process = await asyncio.create_subprocess_exec(
        "setsid",
        "--ctty",
        "--wait",
        sys.executable,
        "-m",
        "agents",
        "ctl",
        "pause",
        "--settings",
        str(settings),
        "--user",
        "ana",
        stdin=theirs,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(theirs)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            await process.stderr.readuntil(b"[y/N] ")
            os.write(ours, typed)
            out, _ = await process.communicate()
    finally:
        os.close(ours)
    assert (process.returncode, b"On it: pause" in out) == (code, code == 0)
    if code == 0:
        assert (await ctl(running, "unpause", "--yes"))[0] == 0


async def test_ctl_says_what_is_wrong_and_exits_with_1(running: Running) -> None:
    code, out, _ = await ctl(running, "drain", "nowhere", "--yes")
    assert (code, "No node is called" in out) == (1, True)
    code, out, _ = await ctl(running, "drain", "nowhere", "--yes", "--json", user="guest")
    assert (code, "an admin" in json.loads(out)["text"]) == (1, True)
    code, out, _ = await ctl(running, "drian", "x")
    assert (code, "Did you mean drain?" in out) == (1, True)
    code, out, _ = await ctl(running, "move", "3")
    assert (code, "Usage: move LANE NODE" in out) == (1, True)


async def test_watch_shows_the_fleet_in_lines_and_in_json(running: Running) -> None:
    (code, out, err), (_, items, _) = await asyncio.gather(
        geolane(running, "watch", "--plain", "--every", "1", "--count", "2", user="guest"),
        geolane(running, "watch", "--json", "--count", "2", user="ana"),
    )
    assert (code, err) == (0, "")
    fleet = [line for line in out.splitlines() if " fleet " in line]
    assert len(fleet) == 2
    assert "3/3 nodes, 1 router, 12/12 lanes" in fleet[0]
    said = [hold_line(line, FeedLine[FleetSummary]).element for line in items.splitlines()]
    assert len(said) == 2
    assert said[-1].workers is not None
    rows = {r.worker: r for r in said[-1].workers.rows}
    assert len(rows) == 4
    assert sum(r.lanes for name, r in rows.items() if name.startswith("node-")) == 12
    assert {r.state for r in rows.values()} == {"ok"}


async def test_up_knows_its_run_before_the_feeds_say_anything(running: Running) -> None:
    f = Inside(running.stack).merge_figures(DashboardFigures("geolane.test"))
    assert f.summary is not None
    assert (f.summary.nodes_available, f.summary.routers, f.summary.lanes_assigned) == (3, 1, 12)
    assert sum(r.lanes for r in f.rows if r.worker.startswith("node-")) == 12
    assert "● live" in to_plain_text(draw_screen(f, ScreenLayout(80, 24)))


async def test_watch_with_a_wrong_password_is_one_line_and_exit_code_2(running: Running) -> None:
    code, out, err = await geolane(running, "watch", user="guest", secret="ana")
    assert (code, out) == (2, "")
    assert re.fullmatch(
        r"geolane: guest@geolane\.test at [0-9.:]+: the server refuses the password\n", err
    )


async def test_a_leader_that_changes_in_the_middle_has_done_nothing(running: Running) -> None:
    leader = running.stack.follower.leader_epoch
    async with OperatorClient(running.login("ana"), "ana", seen=False) as ana:
        dry = await step(ana, "pause")
        assert dry.status is Status.EXECUTING
        running.leader().send_signal(signal.SIGKILL)
        await running.until(
            lambda: running.stack.follower.leader_epoch > leader, "the standby leads", 20
        )
        with pytest.raises(CommandRefused) as refused:
            await step(ana, "pause", dry.session, "complete")
        assert refused.value.detail == "bad-sessionid"
        assert "Paused" not in text(await step(ana, "status"))
