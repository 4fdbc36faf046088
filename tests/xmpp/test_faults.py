"""The server dies, freezes and comes back: every link is back by itself, spread in time, and
nothing stale is sent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import time

import pytest
from msgspec.structs import replace

from agents.base.errors import NameTaken, NoAnswer, NotConnected, SettingsError, XmppError
from agents.core.events import Led, NotLeading, TelemetryIn, WorkerSeen
from agents.core.model.messages import Health, LanesCommand, Telemetry
from agents.xmpp import client
from agents.xmpp import worker_session as worker_module
from agents.xmpp.client import Backoff, Handlers, Login, Session
from agents.xmpp.operator_client import OperatorClient
from ejabberd.provision import provision_server
from tests.xmpp.conftest import Links, Worker, until


async def test_a_blocked_loop_of_three_seconds_keeps_its_session(links: Links) -> None:
    leader = await links.coordinator()
    worker = await links.worker()
    session = worker.link._session
    blocked_s = 3.0
    time.sleep(blocked_s)  # noqa: ASYNC251  # the point of the test
    await leader.link.ping_worker(worker.account, 5.0)
    assert worker.link._session is session
    assert not leader.of(NotLeading)


async def test_a_ping_that_our_own_connection_holds_up_says_nothing_of_the_worker(
    links: Links,
) -> None:
    leader = await links.coordinator()
    worker = await links.worker()
    session = leader.link._leader_session
    assert session is not None
    assert session.stream.transport is not None
    session.stream.transport.pause_reading()
    with pytest.raises(NotConnected, match="no answer"):
        await leader.link.ping_worker(worker.account, 0.5)
    session.stream.transport.resume_reading()
    await leader.link.ping_worker(worker.account, 5.0)
    assert worker.link._session is not None
    assert worker.link._session.stream.transport is not None
    worker.link._session.stream.transport.pause_reading()
    with pytest.raises(NoAnswer):
        await leader.link.ping_worker(worker.account, 0.5)
    worker.link._session.stream.transport.resume_reading()


async def test_a_killed_server_comes_back_and_so_does_everyone(links: Links) -> None:
    leader = await links.coordinator("first")
    workers = [await links.worker() for _ in range(3)]
    for worker in workers:
        worker.link.announce_health(Health.AVAILABLE, "working", "")
    links.server.server.kill()
    await until(lambda: leader.of(NotLeading) and not any(w.link.is_up for w in workers))
    with pytest.raises(NotConnected):
        await leader.link.send_command(workers[0].account, LanesCommand(4, "boot1"), 5.0)
    workers[0].link.publish_telemetry(Telemetry("boot1", 1, "stale", 0.0, 1.0))
    leader.events.clear()
    await links.server.server.start()
    # What was provisioned in the last seconds before a kill may be lost; whoever starts the server
    # provisions again.
    api, secrets = links.server.server.api, links.server.secrets
    await provision_server(
        api, links.server.domain, [worker.account for worker in workers], [], secrets
    )
    await until(lambda: leader.of(Led) and all(w.link.is_up for w in workers), 20.0)
    back = {worker.account for worker in workers}
    await until(
        lambda: (
            back
            <= {
                e.announcement.worker
                for e in leader.of(WorkerSeen)
                if e.announcement.health is Health.AVAILABLE
            }
        )
    )
    for worker in workers:
        await leader.link.send_command(worker.account, LanesCommand(5, "boot1"), 5.0)
    workers[0].link.publish_telemetry(Telemetry("boot1", 2, "fresh", 0.0, 1.0))
    await until(lambda: leader.of(TelemetryIn))
    assert [e.telemetry.seq for e in leader.of(TelemetryIn)] == [2]
    assert await leader.link.send_to_room("back")


async def test_a_frozen_server_is_noticed_and_left_and_found_again(links: Links) -> None:
    leader = await links.coordinator()
    worker = await links.worker()
    pid = links.server.server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        await until(lambda: leader.of(NotLeading) and not worker.link.is_up, 12.0)
    finally:
        os.kill(pid, signal.SIGCONT)
    await until(lambda: len(leader.of(Led)) >= 2 and worker.link.is_up, 30.0)
    # Pings that the server sent to the old sessions may still end the new ones, once.
    await asyncio.sleep(4.0)
    await until(lambda: leader.link.is_leading and worker.link.is_up, 10.0)
    await leader.link.ping_worker(worker.account, 5.0)


async def test_a_frozen_leader_does_not_take_the_next_one_with_it(links: Links) -> None:
    """ejabberd ends whatever session has the name when a ping times out: a second ping that is
    under way when the frozen session ends would end its successor."""
    frozen = Session(
        Login(links.server.settings(), "geolane@fleet.geolane.test/leader", quiet_s=60.0),
        Handlers(),
    )
    await frozen.open()
    frozen.stream.send_raw = lambda data: None  # type: ignore[method-assign]
    leader = await links.coordinator(led=False)
    await until(lambda: leader.of(Led), 12.0)
    await asyncio.sleep(4.0)  # longer than the server's time-out
    assert not leader.of(NotLeading)
    frozen.abort("the test is over")
    await frozen.close()


async def test_a_full_jid_that_stays_taken_ends_the_worker(
    links: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "NAME_TAKEN_LIMIT_S", 0.5)
    first = await links.worker()
    with pytest.raises(NameTaken):
        await asyncio.wait_for(Worker(links.server, first.account, "boot2").task, 15)
    assert first.link.is_up


async def test_an_error_of_obey_ends_the_link_with_that_error(links: Links) -> None:
    leader = await links.coordinator()
    worker = await links.worker()

    def fail(_: object) -> None:
        raise ZeroDivisionError

    worker.answer = fail  # type: ignore[assignment]

    async def ask() -> None:
        """Until it arrives: a server that was frozen in the test before may still close a session
        or two."""
        while True:
            with contextlib.suppress(XmppError):
                await leader.link.send_command(worker.account, LanesCommand(4, "boot1"), 5.0)
            await asyncio.sleep(0.05)

    asking = asyncio.create_task(ask())
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(worker.task, 5)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_a_wrong_password_a_wrong_certificate_and_a_closed_port_are_not_connected(
    links: Links,
) -> None:
    server = links.server
    account = await server.person()
    right = server.settings(account)
    (server.secrets / account).write_text("wrong\n")
    with pytest.raises(NotConnected, match="password"):
        await OperatorClient(right, account).__aenter__()
    with pytest.raises(NotConnected, match="certificate"):
        await OperatorClient(
            replace(right, ca_file=ssl.get_default_verify_paths().cafile or ""), account
        ).__aenter__()
    with pytest.raises(NotConnected, match="connect"):
        await OperatorClient(replace(right, port=1), account).__aenter__()
    with pytest.raises(SettingsError):
        await OperatorClient(
            replace(right, ca_file=str(server.secrets / account)), account
        ).__aenter__()


async def test_a_handshake_that_stalls_is_given_up(
    links: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "LOGIN_TIMEOUT_S", 0.3)
    writers: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    login = Login(replace(links.server.settings(), port=port), "geolane@fleet.geolane.test/x")
    with pytest.raises(NotConnected, match="stuck after connected"):
        await Session(login, Handlers()).open()
    silent.close()
    for writer in writers:
        writer.close()
        await writer.wait_closed()


def test_waits_are_spread_over_a_window_that_grows_to_five_seconds() -> None:
    waits = [
        [backoff.next_wait_s() for _ in range(5)] for backoff in (Backoff() for _ in range(500))
    ]
    for n, window_s in enumerate((1.0, 2.0, 4.0, 5.0, 5.0)):
        drawn = sorted(wait[n] for wait in waits)
        assert 0.0 <= drawn[0] < 0.05 * window_s
        assert 0.95 * window_s < drawn[-1] <= window_s
        assert 0.4 * window_s < drawn[250] < 0.6 * window_s
    backoff = Backoff()
    backoff.next_wait_s()
    backoff.reset()
    assert backoff.window_s == 1.0
