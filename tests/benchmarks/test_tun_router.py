"""Packets that are really delayed."""

from __future__ import annotations

import asyncio
import sys

import pytest

from benchmarks.tun_router import TunRouter

_ECHOES = """
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as s:
    for _ in range(15):
        at = time.monotonic()
        s.sendall(b"x")
        s.recv(1)
        print(1000 * (time.monotonic() - at))
"""


@pytest.mark.skipif(not TunRouter.is_possible(), reason="needs root")
async def test_a_round_trip_takes_the_time_that_is_set() -> None:
    echoing: list[asyncio.Task[None]] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1):
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        echoing.append(asyncio.create_task(echo(reader, writer)))

    async with (
        TunRouter() as router,
        await asyncio.start_server(serve, router.HERE, 0) as server,
    ):
        port = server.sockets[0].getsockname()[1]
        for rtt_ms in (60, 20):
            await router.set_rtt_ms(rtt_ms)
            client = await asyncio.create_subprocess_exec(
                *router.enter,
                sys.executable,
                "-c",
                _ECHOES,
                router.HERE,
                str(port),
                stdout=asyncio.subprocess.PIPE,
            )
            async with asyncio.timeout(30):
                said, _ = await client.communicate()
            least = min(map(float, said.split()))
            assert rtt_ms <= least < rtt_ms + 20, said
        async with asyncio.timeout(10):
            await asyncio.gather(*echoing)
