"""The private server: where it listens, as whom it runs, and what a killed run, a killed server or
a wrong folder lead to."""

from __future__ import annotations

import asyncio
import datetime
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from agents.base.errors import CommandRefused, NotConnected, SettingsError, XmppError
from agents.base.unprivileged import find_barrier, find_user
from ejabberd import certificate
from ejabberd.api import AdminApi
from ejabberd.provision import Person, add_person, add_worker, provision_server
from ejabberd.server import Server, hosts_of_domain
from tests.ejabberd.client import event_of, publish, session, subscribe
from tests.fixtures.xmpp import XmppServer

DOMAIN = "own.test"


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="geolane-own-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)
        folder = Path(
            name, 'für "ж" $1'
        )  # letters, spaces and signs, with every server of this page
        folder.mkdir(mode=0o755)
        yield folder


@pytest.fixture
async def own(folder: Path) -> AsyncIterator[XmppServer]:
    """A server for this test alone, provisioned with one worker and one person."""
    server = Server(folder / "xmpp", DOMAIN)
    await server.start()
    try:
        await provision_server(
            server.api, DOMAIN, ["node-a"], [Person("ana", "member")], folder / "secrets"
        )
        yield XmppServer(server, folder / "secrets")
    finally:
        await server.stop()


async def on_disk(server: Server) -> None:
    """Wait until all that the server has stored is in its log on disk: Mnesia writes up to 2 s
    late, in order."""
    await server.api.call("register", user="end-of-log", host=server.domain, password="x")
    async with asyncio.timeout(10):
        while not any(
            b"end-of-log" in f.read_bytes() for f in (server.folder / "spool").glob("*.LOG")
        ):
            await asyncio.sleep(0.05)


async def test_it_listens_on_loopback_only_without_distribution_and_unprivileged(
    xmpp_server: XmppServer,
) -> None:
    pid = xmpp_server.server.pid
    assert pid is not None
    process = psutil.Process(pid)
    listening = [c.laddr for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {a.ip for a in listening} == {"127.0.0.1"}
    assert {a.port for a in listening} == {
        xmpp_server.server.c2s_port,
        xmpp_server.server.http_port,
    }
    assert not process.net_connections("udp")
    assert (
        process.uids().real == process.uids().effective == find_user("ejabberd").uid != 0
        or os.geteuid() != 0
    )
    assert process.gids().real != 0 or os.getegid() != 0
    assert (xmpp_server.server.folder / "run").stat().st_mode & 0o777 == 0o700


async def test_killed_it_comes_back_with_ports_accounts_room_roster_and_feeds(
    own: XmppServer,
) -> None:
    service, member = f"pubsub.fleet.{DOMAIN}", own.jid("ana")
    ports = (own.server.c2s_port, own.server.http_port)
    async with session(own, "ana") as person:
        await person.iq("set", service, subscribe("alerts", member))
    await on_disk(own.server)
    own.server.kill()
    assert own.server.pid is None
    again = Server(own.server.folder, DOMAIN)  # as the next run would
    await own.server.start()
    assert (again.c2s_port, again.http_port, again.pid) == (*ports, own.server.pid)
    async with (
        session(own, "geolane", "leader", priority=10) as leader,
        session(own, "node-a", priority=-1) as node,
        session(own, "ana") as person,
    ):
        await leader.presence(f"{own.jid('node-a')}/etl")
        await person.answers()
        await node.iq("set", service, publish("telemetry/node-a"))
        await leader.message(event_of("telemetry/node-a"))
        assert await node.refused("set", service, publish("fleet")) == "forbidden"
        await leader.iq("set", service, publish("alerts", item="one"))
        await person.message(event_of("alerts"))
    room = {"name": "ops", "service": f"conference.{DOMAIN}"}
    assert await own.server.api.call("get_room_affiliation", **room, jid=member) == {
        "affiliation": "member"
    }


async def test_what_a_killed_run_left_is_ended_and_replaced(folder: Path) -> None:
    program = (
        "import asyncio, sys, time, pathlib; from ejabberd.server import Server\n"
        "server = Server(pathlib.Path(sys.argv[1]), 'own.test'); asyncio.run(server.start())\n"
        "print(server.pid, flush=True); time.sleep(600)\n"
    )
    run = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        str(folder / "xmpp"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert run.stdout is not None
    left = 0
    async with asyncio.timeout(60):
        while not left:
            line = (await run.stdout.readline()).decode()
            left = int(line) if line.strip().isdigit() else 0
    server = Server(folder / "xmpp", DOMAIN)
    with pytest.raises(XmppError, match="another run"):
        await server.start()
    with pytest.raises(XmppError, match="another run"):
        await server.stop()
    assert server.pid == left
    run.send_signal(signal.SIGKILL)
    await run.wait()
    assert server.pid == left
    try:
        await server.start()
        assert server.pid not in (left, None)
        assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE
    finally:
        await server.stop()
    assert server.pid is None


async def test_a_foreign_process_in_the_pid_file_is_left_alone(folder: Path) -> None:
    bystander = await asyncio.create_subprocess_exec("sleep", "600")
    try:
        server = Server(folder / "xmpp", DOMAIN)
        server.folder.mkdir()
        (server.folder / "server.pid").write_text(str(bystander.pid), "ascii")
        assert server.pid is None
        server.kill()
        await server.stop()
        assert bystander.returncode is None
    finally:
        bystander.kill()
        await bystander.wait()


async def test_a_taken_port_is_an_error_that_names_it(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = Server(folder / "xmpp", DOMAIN, c2s_port=taken.getsockname()[1])
        with pytest.raises(SettingsError, match=f"port {server.c2s_port} .* taken"):
            await server.start()
    await server.start()
    await server.stop()


async def test_a_port_that_was_not_asked_for_is_left_to_who_took_it_until_clients_know_it(
    folder: Path,
) -> None:
    server = Server(folder / "xmpp", DOMAIN)
    with socket.create_server(("127.0.0.1", server.c2s_port)) as taken:
        await server.start()
        try:
            assert server.c2s_port != taken.getsockname()[1]
            kept = Server(folder / "xmpp", DOMAIN)
            assert (kept.c2s_port, kept.http_port) == (server.c2s_port, server.http_port)
        finally:
            await server.stop()
    with (
        socket.create_server(("127.0.0.1", server.c2s_port)),
        pytest.raises(SettingsError, match=f"port {server.c2s_port} .* taken"),
    ):
        await server.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to start it as another user")
async def test_a_folder_that_its_user_cannot_reach_is_an_error_that_says_where(
    folder: Path,
) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    assert find_barrier(closed / "deep" / "xmpp", find_user("ejabberd")) == closed
    assert find_barrier(folder / "xmpp", find_user("ejabberd")) is None
    with pytest.raises(
        SettingsError, match=f"{re.escape(str(closed))} is closed to the user ejabberd"
    ):
        await Server(closed / "deep" / "xmpp", DOMAIN).start()
    assert list(closed.iterdir()) == []


def test_wrong_folders_and_domains_are_refused(folder: Path) -> None:
    with pytest.raises(SettingsError, match="too long"):
        Server(folder / ("x" * 120), DOMAIN)
    with pytest.raises(SettingsError, match="domain"):
        Server(folder / "xmpp", 'a"b')


async def test_without_a_server_the_api_says_so(folder: Path) -> None:
    with pytest.raises(NotConnected, match="cannot be reached"):
        await AdminApi(folder / "no.sock").call("status")


async def test_the_api_says_what_is_wrong_with_a_call(xmpp_server: XmppServer) -> None:
    with pytest.raises(CommandRefused, match="http-404"):
        await xmpp_server.server.api.call("no_such_command")


async def test_provisioning_twice_is_provisioning_once(own: XmppServer) -> None:
    before = {f.name: f.read_text() for f in own.secrets.iterdir()}
    room = {"name": "ops", "service": f"conference.{DOMAIN}"}
    await own.server.api.call(
        "set_room_affiliation", **room, jid=own.jid("ana"), affiliation="admin"
    )
    await provision_server(
        own.server.api, DOMAIN, ["node-a", "node-b"], [Person("ana", "member")], own.secrets
    )
    after = {f.name: f.read_text() for f in own.secrets.iterdir()}
    assert before.items() <= after.items()
    assert set(after) == {"geolane", "node-a", "node-b", "ana"}
    assert await own.server.api.call("get_room_affiliation", **room, jid=own.jid("ana")) == {
        "affiliation": "admin"
    }
    async with (
        session(own, "geolane", "leader", priority=10) as leader,
        session(own, "node-a", priority=-1) as node,
    ):
        await leader.answers()
        service = f"pubsub.fleet.{DOMAIN}"
        await node.iq("set", service, publish("telemetry/node-a", item="one"))
        await node.iq("set", service, publish("telemetry/node-a", item="two"))
        heard = [await leader.message(event_of("telemetry/node-a")) for _ in range(2)]
    ids = [
        i.get("id") for m in heard for i in m.iter("{http://jabber.org/protocol/pubsub#event}item")
    ]
    assert ids == ["one", "two"]  # one subscription, not two


async def test_a_lost_password_file_is_made_anew_when_asked_for(own: XmppServer) -> None:
    (own.secrets / "node-a").unlink()
    with pytest.raises(SettingsError, match=r"was not made here.*--reset-password"):
        await add_worker(own.server.api, DOMAIN, "node-a", own.secrets)
    await add_worker(own.server.api, DOMAIN, "node-a", own.secrets, reset=True)
    async with session(own, "node-a", priority=-1) as node:
        await node.answers()


async def test_passwords_are_private_and_nowhere_else(own: XmppServer) -> None:
    pid = own.server.pid
    assert pid is not None
    command_line = " ".join(psutil.Process(pid).cmdline())
    written = "".join(
        f.read_text("utf-8", "replace")
        for d in ("conf", "log", "")
        for f in (own.server.folder / d).glob("*")
        if f.is_file()
    )
    for file in own.secrets.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        assert len(secret := own.password(file.name)) >= 40
        assert secret not in command_line
        assert secret not in written


@pytest.mark.parametrize("name", ["geolane", "node-x", "Ana", "a b", "../x", ""])
async def test_a_persons_name_must_be_a_persons(folder: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="person"):
        await add_person(AdminApi(folder / "no.sock"), DOMAIN, Person(name, "member"), folder)


@pytest.mark.parametrize("name", ["geolane", "node-", "node-A", "iad-1", "node-a/b", ""])
async def test_a_workers_name_says_its_kind(folder: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="worker"):
        await add_worker(AdminApi(folder / "no.sock"), DOMAIN, name, folder)


def test_the_certificate_names_every_host_and_is_renewed_in_time() -> None:
    now = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    _, pem = certificate.make_certificates(hosts_of_domain(DOMAIN), now)
    assert certificate.covers_hosts(pem, hosts_of_domain(DOMAIN), now)
    assert not certificate.covers_hosts(pem, [*hosts_of_domain(DOMAIN), "another.test"], now)
    assert not certificate.covers_hosts(
        pem, hosts_of_domain(DOMAIN), now + datetime.timedelta(days=340)
    )
