"""The embedded broker: the same ports and data after any end, nothing left behind, and an error
that says why it is not up."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from agents.base.errors import InstallError, KafkaUnavailable
from agents.kafka.topics import Topic, ensure_topics
from agents.local.servers.broker import Broker
from tests.kafka.support import fill, lease_maker, leased, read_all, until

pytestmark = pytest.mark.stack


@pytest_asyncio.fixture
async def broker(server_folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Broker]:
    """In a folder with letters, spaces and signs, started where nobody has set a locale."""
    for name in ("LC_ALL", "LANG", "LC_CTYPE"):
        monkeypatch.delenv(name, raising=False)
    broker = Broker(server_folder / 'Kafka für "ж" $1', heap_mb=256)
    yield broker
    broker.kill()


async def test_it_starts_again_on_the_same_data_after_kill_and_after_stop(broker: Broker) -> None:
    await broker.start()
    bootstrap, kafka = broker.bootstrap, broker.kafka
    await ensure_topics(kafka, (Topic("in", 2, 16),), embedded=True)
    await fill(kafka, "in", [b"1"])
    async with lease_maker(kafka) as maker:
        first = await maker.make_lease("geolane-node-a")
        async with leased(kafka, "geolane-node-a", first) as producer:
            await producer.begin_transaction()
            await (await producer.send("in", b"open when the broker died", partition=0))
            broker.kill()
        assert broker.pid is None
        with pytest.raises(KafkaUnavailable, match="geolane-node-a"):
            await maker.make_lease("geolane-node-a", 0.3)
        await broker.start()
        assert broker.bootstrap == bootstrap
        assert (
            await maker.make_lease("geolane-node-a") > first
        )  # the client that was there before is at work again
        await fill(kafka, "in", [b"2"])

        pid = broker.pid
        await broker.stop(20)
        with pytest.raises(ProcessLookupError):
            os.kill(pid or 0, 0)
        await broker.start()
        await fill(kafka, "in", [b"3"])
    assert [r.value for r in await read_all(kafka, "in")] == [b"1", b"2", b"3"]


async def test_what_a_killed_run_left_is_ended_by_the_next_start_which_is_quiet(
    broker: Broker,
) -> None:
    await broker.start()
    left, process = broker.pid, broker.process.child
    assert left is not None
    assert process is not None
    following = Broker(broker.folder, heap_mb=256)
    await following.start()
    try:
        assert following.bootstrap == broker.bootstrap
        assert process.wait(1) is not None
        assert following.pid not in (None, left)
        assert (broker.folder / "data" / "meta.properties").exists()
        assert [f.name for f in broker.folder.parent.iterdir()] == [broker.folder.name]
        assert (broker.folder / "log" / "broker.log").stat().st_size < 20_000, (
            "the log is not quiet"
        )
        assert (broker.folder / "java.out").read_text() == ""
        os.kill(following.pid or 0, signal.SIGKILL)

        async def seen_to_be_gone() -> bool:
            return following.pid is None

        await until(seen_to_be_gone)
    finally:
        await following.stop()


def test_a_process_that_only_has_the_pid_is_left_alone(broker: Broker) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        broker.folder.mkdir()
        (broker.folder / "broker.pid").write_text(str(stranger.pid))
        broker.end_stale_broker()
        assert stranger.poll() is None
    finally:
        stranger.communicate(b"\n", timeout=30)


async def test_a_port_that_was_asked_for_and_is_taken_is_said_at_once(server_folder: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        broker = Broker(server_folder / "kafka", port=taken.getsockname()[1], heap_mb=256)
        with pytest.raises(KafkaUnavailable, match=r"port \d+ of 127\.0\.0\.1 is taken"):
            await broker.start(30)
    assert broker.pid is None


async def test_a_kept_port_that_somebody_took_is_given_up(broker: Broker) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        broker.folder.mkdir()
        (broker.folder / "ports").write_text(f"{taken.getsockname()[1]} 20001\n")
        broker._replace_taken_ports()
        assert broker.bootstrap != f"127.0.0.1:{taken.getsockname()[1]}"


async def test_missing_jars_name_the_command_that_brings_them(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Broker, "jars", tmp_path)
    with pytest.raises(InstallError, match="make install"):
        await broker.start()
