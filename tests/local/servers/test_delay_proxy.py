"""The delaying proxy, between real sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from agents.base import ports
from agents.base.errors import InstallError, SettingsError
from agents.local.servers.delay_proxy import DelayedLink, DelayProxy

BOUND_S = 20.0


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, asyncio.CancelledError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def far_echo(
    rtt_ms: float, jitter: float = 0.0, window_bytes: int = 0
) -> AsyncIterator[tuple[DelayProxy, int]]:
    """An echo server behind a proxy, and the proxy's port."""
    port = ports.find_free_port()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[1]
    async with (
        asyncio.timeout(BOUND_S),
        DelayProxy([DelayedLink("far", port, target, rtt_ms, jitter, window_bytes)]) as proxy,
    ):
        yield proxy, port
    server.close()


async def echo_ms(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float:
    begun = time.perf_counter()
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    return (time.perf_counter() - begun) * 1000


async def until_ended(proxy: DelayProxy) -> None:
    while proxy.pid is not None:
        await asyncio.sleep(0.01)


async def test_an_answer_takes_the_round_trip_that_was_set() -> None:
    async with far_echo(40) as (proxy, port):
        r, w = await asyncio.open_connection("127.0.0.1", port)
        took = [await echo_ms(r, w) for _ in range(15)]
        assert min(took) > 38
        assert statistics.median(took) < 50
        await proxy.change_link("far", rtt_ms=120)
        assert min([await echo_ms(r, w) for _ in range(5)]) > 118
        await proxy.change_link("far", rtt_ms=0)
        assert statistics.median([await echo_ms(r, w) for _ in range(15)]) < 20
        w.close()


async def test_jitter_varies_the_round_trip_around_its_mean() -> None:
    async with far_echo(40, jitter=0.5) as (_, port):
        r, w = await asyncio.open_connection("127.0.0.1", port)
        took = [await echo_ms(r, w) for _ in range(40)]
        assert min(took) < 36
        assert max(took) > 44
        assert min(took) > 18
        w.close()


async def test_all_bytes_arrive_in_their_order() -> None:
    """Though the delay of each part varies, and becomes shorter in the middle."""
    async with far_echo(60, jitter=0.9) as (proxy, port):
        r, w = await asyncio.open_connection("127.0.0.1", port)
        sent = b"".join(n.to_bytes(4, "big") for n in range(500_000))

        async def send() -> None:
            for part in _parts(sent, 9_973):
                w.write(part)
                await w.drain()
            w.write_eof()

        async def shorten() -> None:
            await asyncio.sleep(0.05)
            await proxy.change_link("far", rtt_ms=2)

        got, _, _ = await asyncio.gather(r.read(-1), send(), shorten())
        assert got == sent
        counts = (await proxy.read_counts())["far"]
        assert (counts.connections, counts.bytes_up, counts.bytes_down) == (
            1,
            len(sent),
            len(sent),
        )
        w.close()


def _parts(whole: bytes, size: int) -> list[bytes]:
    return [whole[at : at + size] for at in range(0, len(whole), size)]


async def test_a_window_lets_through_that_much_in_each_round_trip() -> None:
    """100 kB in 100 ms are 1 MB/s."""
    async with far_echo(100, window_bytes=100_000) as (_, port):
        r, w = await asyncio.open_connection("127.0.0.1", port)
        begun = time.perf_counter()
        w.write(bytes(1_000_000))
        await r.readexactly(1_000_000)
        assert 0.95 < time.perf_counter() - begun < 2.5
        w.close()


async def test_a_reader_that_stops_holds_its_sender_back() -> None:
    """The proxy keeps at most its bound, not all that somebody sends."""
    port, held = ports.find_free_port(), socket.create_server(("127.0.0.1", 0))
    async with DelayProxy([DelayedLink("far", port, held.getsockname()[1], 5)]) as proxy:
        _, w = await asyncio.open_connection("127.0.0.1", port)
        w.write(bytes(200 << 20))
        before = -1
        async with asyncio.timeout(BOUND_S):
            while (now := (await proxy.read_counts())["far"].bytes_up) != before:
                before = now
                await asyncio.sleep(0.5)
        assert now < 100 << 20  # the proxy's queue, and what the sockets take
        w.transport.abort()
    held.close()


async def test_a_refused_connection_is_reset_after_a_round_trip() -> None:
    port = ports.find_free_port()
    async with DelayProxy([DelayedLink("far", port, ports.find_free_port(), 50)]) as proxy:
        r, _ = await asyncio.open_connection("127.0.0.1", port)
        begun = time.perf_counter()
        async with asyncio.timeout(BOUND_S):
            with pytest.raises(ConnectionResetError):
                await r.read(1)
        assert time.perf_counter() - begun > 0.04
        assert (await proxy.read_counts())["far"].refused == 1


@pytest.mark.parametrize("who", ["client", "target"])
async def test_a_reset_on_one_side_is_a_reset_on_the_other(who: str) -> None:
    port = ports.find_free_port()
    came: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    server = await asyncio.start_server(lambda r, w: came.put_nowait((r, w)), "127.0.0.1", 0)
    link = DelayedLink("far", port, server.sockets[0].getsockname()[1], 20)
    async with asyncio.timeout(BOUND_S), DelayProxy([link]) as proxy:
        client = await asyncio.open_connection("127.0.0.1", port)
        target = await came.get()
        cutter, other = (client, target) if who == "client" else (target, client)
        cutter[1].write(b"last words")
        await cutter[1].drain()
        raw = cutter[1].get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        cutter[1].transport.abort()
        with pytest.raises(ConnectionResetError):
            await other[0].read(-1)
        while (await proxy.read_counts())["far"].open:
            await asyncio.sleep(0.01)
    server.close()


async def test_the_end_of_one_direction_leaves_the_other_open() -> None:
    port = ports.find_free_port()

    async def answer_at_the_end(r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
        w.write(b"%d" % len(await r.read(-1)))
        w.close()

    server = await asyncio.start_server(answer_at_the_end, "127.0.0.1", 0)
    link = DelayedLink("far", port, server.sockets[0].getsockname()[1], 20)
    async with asyncio.timeout(BOUND_S), DelayProxy([link]) as proxy:
        r, w = await asyncio.open_connection("127.0.0.1", port)
        w.write(bytes(12_345))
        w.write_eof()
        assert await r.read(-1) == b"12345"
        w.close()
        while (await proxy.read_counts())["far"].open:
            await asyncio.sleep(0.01)
    server.close()


async def test_it_starts_again_after_it_was_killed() -> None:
    async with far_echo(2) as (proxy, port):
        first = proxy.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until_ended(proxy)
        with pytest.raises(InstallError, match=r"ended|no answer"):
            await proxy.read_counts()
        await proxy.start()
        assert proxy.pid not in (None, first)
        r, w = await asyncio.open_connection("127.0.0.1", port)
        await echo_ms(r, w)
        w.close()


async def test_a_taken_port_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InstallError, match=rf"{port}.*in use"):
            await DelayProxy([DelayedLink("far", port, 1, 5)]).start()


_PARENT = """
import asyncio, os, signal, sys
from agents.local.servers.delay_proxy import DelayedLink, DelayProxy
async def main():
    proxy = DelayProxy([DelayedLink("far", int(sys.argv[1]), 1, 5)])
    await proxy.start()
    print(proxy.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_it_ends_with_its_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(ports.find_free_port())], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    with parent, parent.stdout:
        while not (line := parent.stdout.readline().strip()).isdigit():
            assert line  # it logs there, too
        pid = int(line)
        os.kill(pid, 0)
        parent.kill()
    deadline = time.monotonic() + BOUND_S
    while _runs(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rtt_ms": -1}, "RTT of -1 ms"),
        ({"rtt_ms": 60_000}, "60000 ms is not from 0 to 2,000"),
        ({"rtt_ms": float("nan")}, "RTT of nan"),
        ({"rtt_ms": 1, "jitter": 1}, "jitter of 1"),
        ({"rtt_ms": 1, "window_bytes": 100}, "window of 100 bytes"),
    ],
)
def test_a_link_refuses_what_no_network_has(values: dict[str, float], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        DelayedLink("far", 1, 2, **values)  # type: ignore[arg-type]
