"""What benchmarks.distance measures on: a Kafka near by, and a way to it that takes time.

As root: packets are really delayed (tun_router.py), and two brokers have Kafka's own socket buffers and
the system's. Without the rights: the delaying proxy of `geolane up --delays`, whose windows stand for
the buffers; a transaction is 8 to 17 % too fast through it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from agents import settings
from agents.base import ports
from agents.local.servers.broker import PLAINTEXT, Broker, Listener
from agents.local.servers.delay_proxy import DelayProxy
from agents.local.servers.delays import Delays, DistantBroker
from benchmarks.tun_router import TunRouter

DEFAULT, SYSTEM = "default", "system"
BUFFERS = (DEFAULT, SYSTEM)
WINDOWS = {DEFAULT: 168_000, SYSTEM: 4 << 20}
"""For the proxy: what is on the way at most. With Kafka's default of 100 KiB, 1.12 MB/s were seen at
150 ms of packets that were really delayed; the system's send buffer grows to 4 MiB."""
NEAR = "0"
B = TypeVar("B", bound=Broker)


class Distance(Protocol):
    """`kafka_near` is reached at once, `kafka_far` after the round trip that was set last, by a
    process that is started with `enter` before its command. `about`: how, in a sentence."""

    about: str
    enter: tuple[str, ...]

    def kafka_near(self, buffers: str) -> settings.Kafka: ...

    def kafka_far(self, buffers: str) -> settings.Kafka: ...

    async def set_rtt_ms(self, rtt_ms: float, buffers: str) -> None: ...


class _RoutedBroker(Broker):
    """Has one more listener, on the router's address, without a password."""

    def __init__(self, folder: Path, buffer_bytes: int | None) -> None:
        super().__init__(folder)
        self._buffer_bytes = buffer_bytes
        self.far = f"{TunRouter.HERE}:{ports.find_free_port()}"

    @property
    def listeners(self) -> Sequence[Listener]:
        return [Listener("FAR", self.far, self.far, PLAINTEXT)]

    def _more_properties(self) -> str:
        n = self._buffer_bytes
        if n is None:
            return ""
        return f"socket.send.buffer.bytes={n}\nsocket.receive.buffer.bytes={n}\n"


class _Routed:
    about = "Packets are really delayed: a TUN router between two network namespaces."

    def __init__(self, router: TunRouter, brokers: dict[str, _RoutedBroker]):
        self._router, self._brokers, self.enter = router, brokers, router.enter

    def kafka_near(self, buffers: str) -> settings.Kafka:
        return self._brokers[buffers].kafka

    def kafka_far(self, buffers: str) -> settings.Kafka:
        return settings.Kafka(bootstrap=self._brokers[buffers].far)

    async def set_rtt_ms(self, rtt_ms: float, buffers: str) -> None:
        await self._router.set_rtt_ms(rtt_ms)


class _Proxied:
    about = (
        "Without the rights to delay packets: through the delaying proxy, which is 8 to 17 % too "
        "fast; a window stands for the socket buffers "
        f"({WINDOWS[DEFAULT]:,} bytes for Kafka's default of 100 KiB, 4 MiB for the system's)."
    )
    enter: tuple[str, ...] = ()

    def __init__(self, broker: DistantBroker, proxy: DelayProxy, site: str):
        self._broker, self._proxy, self._site = broker, proxy, site

    def kafka_near(self, buffers: str) -> settings.Kafka:
        return self._broker.kafka

    def kafka_far(self, buffers: str) -> settings.Kafka:
        bootstrap = self._broker.bootstrap_at(self._site)
        return msgspec.structs.replace(self._broker.kafka, bootstrap=bootstrap)

    async def set_rtt_ms(self, rtt_ms: float, buffers: str) -> None:
        await self._proxy.change_link(self._site, rtt_ms=rtt_ms, window_bytes=WINDOWS[buffers])


@asynccontextmanager
async def distance(folder: Path, proxied: bool) -> AsyncIterator[Distance]:
    """Brokers and a way to them. `proxied`: through the proxy, though packets could be delayed."""
    async with AsyncExitStack() as stack:

        async def started(broker: B) -> B:
            stack.push_async_callback(broker.stop)
            await broker.start(120)
            return broker

        if proxied or not TunRouter.is_possible():
            site = "far"
            delays = Delays(NEAR, {NEAR: 0.0, site: 1.0}, folder)
            distant = DistantBroker(folder / "kafka", delays)
            proxy = await stack.enter_async_context(DelayProxy(distant.links))
            yield _Proxied(await started(distant), proxy, site)
            return
        router = await stack.enter_async_context(TunRouter())
        sizes = {DEFAULT: None, SYSTEM: -1}
        brokers = {
            name: await started(_RoutedBroker(folder / name, sizes[name])) for name in BUFFERS
        }
        yield _Routed(router, brokers)
