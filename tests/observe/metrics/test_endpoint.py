"""The endpoint: what it answers, where it cannot listen, and that nobody who scrapes holds up the
event loop."""

from __future__ import annotations

import asyncio
import socket
import threading
import urllib.error

import pytest

from agents.base import ports
from agents.base.errors import SettingsError
from agents.base.systemd_notify import Service
from agents.observe.metrics import declared as m
from agents.observe.metrics import endpoint
from agents.observe.metrics.endpoint import served
from agents.observe.metrics.samples import BOUNDS_S, BucketCounts, Samples
from agents.settings import Metrics
from tests.observe.metrics.support import read, read_text, scrape


def look(out: Samples) -> None:
    out.add(m.XMPP_UP, True, "node-a-1")
    out.add(m.EVENTS_OUT, 7, "node-a-1", "events.lanes", 3)


async def test_a_look_is_answered_in_prometheus_words() -> None:
    async with served(Metrics(port=ports.find_free_port()), look, Service()) as port:
        found = await scrape(port)
        assert found.value("geolane_xmpp_up", worker="node-a-1") == 1
        assert found.value("geolane_events_out_total", topic="events.lanes", partition="3") == 7
        assert (found.value("process_resident_memory_bytes") or 0) > 0
        assert (await asyncio.to_thread(read, port, "/metrics?name[]=geolane_xmpp_up")).value(
            "geolane_xmpp_up"
        ) == 1
        with pytest.raises(urllib.error.HTTPError, match="404"):
            await asyncio.to_thread(read, port, "/elsewhere")
    with pytest.raises(OSError):  # noqa: PT011 - urllib's URLError is one
        await scrape(port)


async def test_ready_is_answered_once_the_process_is_and_from_then_on() -> None:
    service = Service()
    async with served(Metrics(port=ports.find_free_port()), look, service) as port:
        with pytest.raises(urllib.error.HTTPError, match="503"):
            await asyncio.to_thread(read_text, port, "/ready")
        service.notify_ready("7 lanes")
        assert await asyncio.to_thread(read_text, port, "/ready") == "ready\n"
        service.notify_status("not connected to XMPP")
        assert await asyncio.to_thread(read_text, port, "/ready") == "ready\n"


async def test_port_0_is_none() -> None:
    threads = threading.active_count()
    async with served(Metrics(port=0), look, Service()) as port:
        assert port == 0
        assert threading.active_count() == threads


async def test_a_taken_port_is_an_error_of_the_settings() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"metrics\.port: 127\.0\.0\.1:{port} is taken"):
            async with served(Metrics(port=port), look, Service()):
                pass


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (Metrics(port=70_000), r"metrics\.port: 70000 is not a valid port"),
        (
            Metrics(host="192.0.2.1", port=9464),
            r"metrics\.host: 192\.0\.2\.1 is not an address of this machine",
        ),
        (
            Metrics(host="no.such.host.invalid", port=9464),
            r"metrics\.host: 'no\.such\.host\.invalid'",
        ),
    ],
)
async def test_where_nobody_can_listen(where: Metrics, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        async with served(where, look, Service()):
            pass


async def test_ipv6() -> None:
    if not socket.has_ipv6 or not endpoint_on_ipv6():
        pytest.skip("needs IPv6")
    async with served(Metrics(host="::1", port=ports.find_free_port()), look, Service()):
        pass


def endpoint_on_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


async def test_the_look_is_taken_on_the_loop_and_the_rest_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Text is written in another thread: the loop turns meanwhile."""
    writing, written = threading.Event(), threading.Event()
    looked: list[threading.Thread] = []
    families = Samples.families

    def slow(self: Samples):  # type: ignore[no-untyped-def]
        writing.set()
        assert written.wait(20)
        yield from families(self)

    def here(out: Samples) -> None:
        looked.append(threading.current_thread())
        look(out)

    monkeypatch.setattr(Samples, "families", slow)
    async with served(Metrics(port=ports.find_free_port()), here, Service()) as port:
        scraping = asyncio.create_task(scrape(port))
        while not writing.is_set():
            await asyncio.sleep(0.01)
        assert not scraping.done()
        written.set()  # by the loop, which therefore was not held up
        assert (await scraping).value("geolane_xmpp_up") == 1
    assert looked == [threading.current_thread()]


async def test_who_connects_and_says_nothing_holds_up_nobody() -> None:
    async with served(Metrics(port=ports.find_free_port()), look, Service()) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
        assert (await scrape(port)).value("geolane_xmpp_up") == 1
        for _, writer in silent:
            writer.close()


async def test_a_loop_that_does_not_turn_fails_the_scrape_and_the_next_one_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endpoint, "LOOK_BOUND_S", 0.2)
    status: list[int] = []

    def ask() -> None:
        try:
            read(port)
        except urllib.error.HTTPError as e:
            status.append(e.code)

    async with served(Metrics(port=ports.find_free_port()), look, Service()) as port:
        asking = threading.Thread(target=ask)
        asking.start()
        asking.join(20)  # the loop stands still until the scraper has its answer
        assert status == [503]
        assert (await scrape(port)).value("geolane_xmpp_up") == 1


async def test_a_look_that_fails_is_answered_and_ends_nothing() -> None:
    fine = False

    def sometimes(out: Samples) -> None:
        if not fine:
            raise ZeroDivisionError("no lanes")
        look(out)

    async with served(Metrics(port=ports.find_free_port()), sometimes, Service()) as port:
        with pytest.raises(urllib.error.HTTPError, match="503"):
            await scrape(port)
        fine = True
        assert (await scrape(port)).value("geolane_xmpp_up") == 1


def test_a_histogram_adds_up() -> None:
    h = BucketCounts()
    h.add([-1.0, 0.004, 0.005, 0.3, 1e6], 2.0)
    buckets = dict(h.cumulative_buckets())
    assert (
        buckets["0.005"],
        buckets["0.2"],
        buckets["0.3"],
        buckets["300.0"],
        buckets["+Inf"],
    ) == (6, 6, 8, 8, 10)
    assert h.total_s == pytest.approx(2 * (0.004 + 0.005 + 0.3 + 1e6))
    assert len(buckets) == len(BOUNDS_S) + 1


def test_labels_must_be_those_declared() -> None:
    with pytest.raises(ValueError, match="geolane_xmpp_up"):
        Samples().add(m.XMPP_UP, 1)
