"""The process of the delaying proxy (delay_proxy.py): every connection has two ends, and what is
read at one waits in a bounded queue until it is written to the other.

It reads requests from standard input, a line of JSON each, and answers each with a line on standard
output. It ends when standard input does, which is when its parent has ended."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import sys
from collections import deque
from enum import Enum
from typing import cast

import msgspec

from agents.local.servers.delay_proxy import DelayedLink, LinkCounts, ProxyAnswer, Request

QUEUE_BYTES = 16 << 20
"""Of each direction of a connection: 50 MB/s at an RTT of 600 ms."""
CONNECT_S = 10.0
READ_BYTES = 256 << 10
EARLY_S = 0.0005
"""The event loop wakes up to 1 ms late (epoll_wait(2) takes whole milliseconds), so that without
this an RTT would be 1 ms too long on average."""


class _Mark(Enum):
    """The end of a direction, which keeps its place behind the data."""

    END = "end"
    RESET = "reset"


class _Road:
    """A link that is listened on, with what it has passed on."""

    def __init__(self, link: DelayedLink) -> None:
        self.link = link
        self.counts = LinkCounts()

    def one_way_s(self) -> float:
        link = self.link
        varied = random.uniform(1 - link.jitter, 1 + link.jitter) if link.jitter else 1.0
        return link.rtt_ms / 2000 * varied


_scratch = memoryview(bytearray(READ_BYTES))


class _End(asyncio.BufferedProtocol):
    """One end of a connection: what is read here is written to `other`."""

    transport: asyncio.Transport
    other: _End

    def __init__(self, road: _Road, *, is_client: bool) -> None:
        self._road, self._is_client = road, is_client
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[float, bytes | _Mark]] = deque()
        self._held = 0  # bytes of this direction that count towards its bound
        self._last_due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._paused = self._writable = True
        self._ended = False  # this end has said that nothing more comes from it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()  # until both ends are there

    def start_reading(self) -> None:
        self._paused = False
        self.transport.resume_reading()

    # ---- what is read here ----

    def get_buffer(self, sizehint: int) -> memoryview:
        return _scratch[: max(1, min(READ_BYTES, self._bound() - self._held))]

    def buffer_updated(self, nbytes: int) -> None:
        self._held += nbytes
        if self._held >= self._bound():
            self._paused = True
            self.transport.pause_reading()
        counts = self._road.counts
        if self._is_client:
            counts.bytes_up += nbytes
        else:
            counts.bytes_down += nbytes
        self._put(bytes(_scratch[:nbytes]))

    def eof_received(self) -> bool:
        self._ended = True
        self._put(_Mark.END)
        return True  # the other direction may go on

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._road.counts.resets += 1
            self._put(_Mark.RESET)
        if self._is_client:
            self._road.counts.open -= 1

    def _bound(self) -> int:
        return self._road.link.window_bytes or QUEUE_BYTES

    def _put(self, item: bytes | _Mark) -> None:
        # never before what came earlier, though the delay may have become shorter meanwhile
        due = max(self._loop.time() + self._road.one_way_s(), self._last_due)
        self._last_due = due
        self._queue.append((due, item))
        self._deliver()

    def _deliver(self) -> None:
        """Write what is due, if the other end takes it, and wake up again for what is next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue and self.other._writable:
            due, item = self._queue[0]
            if due - EARLY_S > self._loop.time():
                self._timer = self._loop.call_at(due - EARLY_S, self._deliver)
                return
            self._queue.popleft()
            self._pass_on(item)

    def _pass_on(self, item: bytes | _Mark) -> None:
        there = self.other.transport
        if isinstance(item, bytes):
            if not there.is_closing():
                there.write(item)
            if self._road.link.window_bytes:  # free again when the acknowledgement could be here
                self._loop.call_later(self._road.one_way_s(), self._release, len(item))
            else:
                self._release(len(item))
        elif item is _Mark.RESET:
            self.other.reset()
        elif self.other._ended and not self.other._queue:
            there.close()
            self.transport.close()
        elif not there.is_closing():
            there.write_eof()

    def _release(self, nbytes: int) -> None:
        self._held -= nbytes
        if self._paused and self._held < self._bound() and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    # ---- what is written here ----

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self.other._deliver()

    def reset(self) -> None:
        """This side sees its connection reset."""
        if not self.transport.is_closing():
            raw = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class _ClientEnd(_End):
    """An accepted connection; the one to the target is made at once."""

    def __init__(self, road: _Road, tasks: asyncio.TaskGroup) -> None:
        super().__init__(road, is_client=True)
        self._tasks = tasks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._road.counts.connections += 1
        self._road.counts.open += 1
        self._tasks.create_task(self._connect())

    async def _connect(self) -> None:
        target = _End(self._road, is_client=False)
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._loop.create_connection(
                    lambda: target, "127.0.0.1", self._road.link.target
                )
        except (OSError, TimeoutError):
            self._road.counts.refused += 1
            self._loop.call_later(2 * self._road.one_way_s(), self.reset)
            return
        self.other, target.other = target, self
        if self.transport.is_closing():
            target.transport.abort()
            return
        self.start_reading()
        target.start_reading()


class DelayServer:
    """Listens on every link, and answers the parent."""

    def __init__(self) -> None:
        self._roads: dict[str, _Road] = {}

    async def run(self, requests: asyncio.StreamReader) -> None:
        """Until there are no more requests."""
        async with asyncio.TaskGroup() as tasks:
            while line := await requests.readline():
                answer = await self._obey(msgspec.json.decode(line, type=Request), tasks)
                sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
                sys.stdout.buffer.flush()
            raise SystemExit  # cancels what still connects

    async def _obey(self, request: Request, tasks: asyncio.TaskGroup) -> ProxyAnswer:
        try:
            for link in request.links:
                await self._set_link(link, tasks)
        except OSError as e:
            return ProxyAnswer(error=str(e))
        return ProxyAnswer({name: road.counts for name, road in self._roads.items()})

    async def _set_link(self, link: DelayedLink, tasks: asyncio.TaskGroup) -> None:
        if (road := self._roads.get(link.name)) is not None:
            road.link = link
            return
        road = _Road(link)
        await asyncio.get_running_loop().create_server(
            lambda: _ClientEnd(road, tasks), "127.0.0.1", link.listen, backlog=512
        )
        self._roads[link.name] = road


async def main() -> None:
    requests = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(requests), sys.stdin
    )
    await DelayServer().run(requests)


if __name__ == "__main__":
    asyncio.run(main())
