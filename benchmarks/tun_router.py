"""A distance that packets really travel: a network namespace whose only way out is a TUN device, and
a process that passes on each packet after half of the round-trip time. Linux, as root.

    async with TunRouter() as router:
        await router.set_rtt_ms(80)
        await asyncio.create_subprocess_exec(*router.enter, "ping", "-c", "3", router.HERE)

What is in the namespace reaches HERE, and nothing else. Slow start, windows and socket buffers are
the kernel's own. The device takes TCP's segments together (TSO), so that a process in Python
keeps up. Nothing is left behind when the process ends, however it does."""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import ClassVar

TUN = Path("/dev/net/tun")
_SET_INTERFACE, _SET_OFFLOAD = 0x400454CA, 0x400454D0  # TUNSETIFF, TUNSETOFFLOAD of linux/if_tun.h
_TUN, _NO_PACKET_INFO, _VIRTIO_HEADER = 0x0001, 0x1000, 0x4000
_CHECKSUM, _TSO4 = 0x01, 0x02
_LARGEST = 10 + 65_536  # virtio_net_hdr and the largest packet
_QUEUE_PACKETS = 10_000
START_S = 10.0


class TunRouter:
    """The process and its namespace, as a context manager."""

    HERE: ClassVar[str] = "198.18.0.1"  # of the range for benchmarks (RFC 2544)
    THERE: ClassVar[str] = "198.18.0.2"
    enter: tuple[str, ...] = ()
    """What goes before a command so that it runs in the namespace."""

    @staticmethod
    def is_possible() -> bool:
        """Whether this process may make namespaces and TUN devices."""
        if os.geteuid() != 0 or not os.access(TUN, os.R_OK | os.W_OK):
            return False
        tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
        return tried.returncode == 0

    async def __aenter__(self) -> TunRouter:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None  # noqa: S101
        async with asyncio.timeout(START_S):
            if not (pid := await self._process.stdout.readline()):
                raise RuntimeError("the TUN router ended before it began")
        self.enter = ("nsenter", f"--net=/proc/{int(pid)}/ns/net")
        return self

    async def set_rtt_ms(self, rtt_ms: float) -> None:
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.write(b"%f\n" % rtt_ms)
        await self._process.stdin.drain()

    async def __aexit__(self, *error: object) -> None:
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.close()
        await self._process.wait()


def _open_device(name: str) -> int:
    fd = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    flags = _TUN | _NO_PACKET_INFO | _VIRTIO_HEADER
    fcntl.ioctl(fd, _SET_INTERFACE, struct.pack("16sH22x", name.encode(), flags))
    fcntl.ioctl(fd, _SET_OFFLOAD, _CHECKSUM | _TSO4)
    return fd


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def _set_up(name: str, address: str, prefix: tuple[str, ...] = ()) -> None:
    _run(*prefix, "ip", "address", "add", f"{address}/30", "dev", name)
    _run(*prefix, "ip", "link", "set", name, "up", "mtu", "1500", "txqueuelen", "5000")


def _pass_on(here: int, there: int, orders: int) -> None:
    """Until `orders` ends. Each line of it is a round-trip time in ms."""
    delay_s, to = 0.0, {here: there, there: here}
    waiting: dict[int, deque[tuple[float, bytes]]] = {here: deque(), there: deque()}
    while True:
        due = min((queue[0][0] for queue in waiting.values() if queue), default=None)
        wait_s = None if due is None else max(0.0, due - time.monotonic())
        readable = select.select([here, there, orders], [], [], wait_s)[0]
        now = time.monotonic()
        for fd in readable:
            if fd == orders:
                if not (said := os.read(orders, 4096)):
                    return
                delay_s = float(said.split()[-1]) / 2000
                continue
            queue = waiting[to[fd]]
            try:
                while True:
                    packet = os.read(fd, _LARGEST)
                    if len(queue) < _QUEUE_PACKETS:
                        queue.append((now + delay_s, packet))
            except BlockingIOError:
                pass
        for fd, queue in waiting.items():
            while queue and queue[0][0] <= now:
                try:
                    os.write(fd, queue.popleft()[1])
                except OSError:  # as a network does: it is lost
                    continue


def main() -> None:
    holder = subprocess.Popen(
        ["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )  # the namespace is there while it runs, and it ends when our end of its standard input does
    own = os.stat("/proc/self/ns/net").st_ino
    deadline = time.monotonic() + START_S
    while os.stat(f"/proc/{holder.pid}/ns/net").st_ino == own:
        if time.monotonic() > deadline:
            sys.exit("no network namespace was made")
        time.sleep(0.01)
    inside = ("nsenter", f"--net=/proc/{holder.pid}/ns/net")
    names = f"geo{os.getpid()}a", f"geo{os.getpid()}b"
    here, there = map(_open_device, names)
    _run("ip", "link", "set", names[1], "netns", str(holder.pid))
    _set_up(names[0], TunRouter.HERE)
    _run(*inside, "ip", "link", "set", "lo", "up")
    _set_up(names[1], TunRouter.THERE, inside)
    print(holder.pid, flush=True)
    _pass_on(here, there, sys.stdin.fileno())
    assert holder.stdin is not None  # noqa: S101
    holder.stdin.close()
    holder.wait()


if __name__ == "__main__":
    main()
