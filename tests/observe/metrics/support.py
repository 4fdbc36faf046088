"""What a Prometheus server would read: scraped over HTTP, parsed by the library's own parser."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from agents.observe.metrics.samples import Samples


class _One(Collector):
    """A registry's collector of one look."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterable[Family]:
        return self._samples.families()


def written(samples: Samples) -> str:
    """A look as a process writes it."""
    book = CollectorRegistry(auto_describe=False)
    book.register(_One(samples))
    return generate_latest(book).decode()


class Scrape:
    """One scrape's samples."""

    def __init__(self, text: str) -> None:
        self.text = text
        families = list(text_string_to_metric_families(text))
        self.names = {f.name + ("_total" if f.type == "counter" else "") for f in families}
        self._samples = [s for f in families for s in f.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """Of the series that has these labels, the sum; None where there is none."""
        found = [
            s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items()
        ]
        return sum(found) if found else None


def read_text(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return str(answer.read(), "utf-8")


def read(port: int, path: str = "/metrics") -> Scrape:
    return Scrape(read_text(port, path))


async def scrape(port: int) -> Scrape:
    return await asyncio.to_thread(read, port)


async def scrape_until(
    port: int, condition: Callable[[Scrape], object], bound_s: float = 30.0
) -> Scrape:
    """The first scrape for which the condition holds."""
    async with asyncio.timeout(bound_s):
        while True:
            if condition(found := await scrape(port)):
                return found
            await asyncio.sleep(0.05)
