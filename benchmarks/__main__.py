"""How many events per second does one process handle, exactly once, and at what cost? Compares node
and router with quixstreams and a bare aiokafka loop, in one run on one broker. Writes
the figures of docs/benchmarks.md, and rows of benchmarks/results.csv.

    python -m benchmarks [--events N] [--rounds N] [--only NAME,...] [--no-write]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from agents import settings
from agents.core.lanes.lane_map import LaneMap, build_lane_map
from agents.core.lanes.records import Event, parse_event
from agents.kafka.connection import client_kwargs
from agents.kafka.topics import Topic, ensure_topics
from agents.local.demo.flights import endless_events, sample_events
from agents.local.servers.broker import Broker
from benchmarks.children import run_child
from benchmarks.contestants import Figures, Task
from benchmarks.tables import ROOT, append, machine, now, spread

LANES, RAW, OUT_LANES = 8, 4, 32
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- measured: speed -->\n", "\n<!-- end -->"
NODE_WORK = ("node", "columns", "aiokafka", "quixstreams")
ROUTER_WORK = ("router", "router-streams")
WHAT = {
    "node": "geolane node, flights pipeline, 8 lanes",
    "columns": "geolane node, the same pipeline by columns",
    "aiokafka": "bare aiokafka loop, same pipeline, exactly once",
    "quixstreams": "quixstreams, same pipeline, exactly once",
    "router": "geolane router, 4 raw partitions onto 32 lanes",
    "router-streams": "the same on Kafka Streams, Java and its supervisor together",
}
COMPARED = (
    ("node", "aiokafka"),
    ("columns", "aiokafka"),
    ("router", "aiokafka"),
    ("node", "quixstreams"),
)
TARGET = {"node": 50_000, "router": 40_000}


async def fill(
    kafka: settings.Kafka, topic: str, records: Iterable[tuple[int, bytes, bytes, list[Any]]]
) -> None:
    """Write the records, each (partition, key, value, headers), in large batches, before anything
    is measured."""
    producer: Any = AIOKafkaProducer(
        **client_kwargs(kafka), enable_idempotence=True, max_batch_size=1 << 20
    )
    await producer.start()
    open_: dict[int, Any] = {}
    sends = []
    for n, key, value, headers in records:
        batch = open_.get(n)
        if (
            batch is None
            or batch.append(key=key, value=value, timestamp=None, headers=headers) is None
        ):
            if batch is not None:
                sends.append(await producer.send_batch(batch, topic, partition=n))
            batch = open_[n] = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None, headers=headers)
    for n, batch in open_.items():
        sends.append(await producer.send_batch(batch, topic, partition=n))
    await asyncio.gather(*sends)
    await producer.stop()


def lane_records(events: int, lanemap: LaneMap) -> Iterator[tuple[int, bytes, bytes, list[Any]]]:
    """Records as a router writes them, spread evenly: the same load on each lane."""
    for i, (key, value) in enumerate(islice(endless_events(), events)):
        event = parse_event(value, 1 << 60, 1 << 20, 0)
        assert isinstance(event, Event)  # noqa: S101
        assert event.lat is not None  # noqa: S101
        assert event.lon is not None  # noqa: S101
        cell, _ = lanemap.locate_event(event.lat, event.lon, key)
        headers = [
            ("geolane-src", b"events.raw/%d/%d" % (i % RAW, i // RAW)),
            ("geolane-raw-ms", b"%d" % (datetime.now(UTC).timestamp() * 1000)),
            ("geolane-cell", cell),
            ("geolane-ts", b"%d" % event.ts_ms),
            ("geolane-map", b"1"),
        ]
        yield i % LANES, key, value, headers


def raw_records(events: int) -> Iterator[tuple[int, bytes, bytes, list[Any]]]:
    """Records as a source sends them."""
    for i, (key, value) in enumerate(islice(endless_events(), events)):
        yield i % RAW, key, value, []


async def count(kafka: settings.Kafka, topic: str, partitions: int) -> int:
    """How many committed records a topic has."""
    consumer: Any = AIOKafkaConsumer(
        **client_kwargs(kafka), isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    tps = [TopicPartition(topic, n) for n in range(partitions)]
    consumer.assign(tps)
    await consumer.seek_to_beginning(*tps)
    ends = await consumer.end_offsets(tps)
    found = 0
    while any([await consumer.position(tp) < ends[tp] for tp in tps]):
        found += sum(map(len, (await consumer.getmany(timeout_ms=200)).values()))
    await consumer.stop()
    return found


async def measure(names: list[str], events: int, rounds: int) -> dict[str, list[Figures]]:
    found: dict[str, list[Figures]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="geolane-bench-") as folder:
        os.chmod(folder, 0o711)  # the broker's user may pass through
        broker = Broker(Path(folder), heap_mb=1024)
        await broker.start()
        kafka = broker.kafka
        try:
            lanemap = build_lane_map(sample_events(), OUT_LANES, 4, 1, total_eps=1000)
            await ensure_topics(kafka, (Topic("in-lanes", LANES, 4096), Topic("in-raw", RAW, 4096)))
            print(f"writing {events:,} events ...", file=sys.stderr)
            if set(names) & set(NODE_WORK):
                await fill(kafka, "in-lanes", lane_records(events, lanemap))
            if set(names) & set(ROUTER_WORK):
                await fill(kafka, "in-raw", raw_records(events))
            for round_ in range(rounds):
                for name in names:
                    source, partitions = (
                        ("in-raw", RAW) if name in ROUTER_WORK else ("in-lanes", LANES)
                    )
                    sinks = OUT_LANES if name in ROUTER_WORK else LANES
                    sink, dead = f"out-{name}-{round_}", f"dead-{name}-{round_}"
                    await ensure_topics(kafka, (Topic(sink, sinks, 4096), Topic(dead, 1, 64)))
                    text = lanemap.encode().decode() if name in ROUTER_WORK else ""
                    task = Task(kafka, source, sink, dead, partitions, sinks, events, text)
                    arguments = [name, msgspec.json.encode(task).decode()]
                    figures = await run_child("benchmarks.contestants", arguments, Figures, 600)
                    out = await count(kafka, sink, sinks)
                    found[name].append(figures)
                    print(
                        f"{name}: {figures.events / figures.seconds:,.0f}/s, "
                        f"{figures.events / figures.cpu_s:,.0f} per CPU-s, {figures.rss_mb:.0f} "
                        f"MB, {out:,} out",
                        file=sys.stderr,
                    )
        finally:
            await broker.stop()
    return found


def table(found: dict[str, list[Figures]]) -> str:
    lines = [
        "| one process | events/s | events per CPU-second | peak memory, MB | target |",
        "|---|---|---|---|---|",
    ]
    for name, runs in found.items():
        a_second = spread((f.events / f.seconds for f in runs), ",.0f")
        a_cpu_second = spread((f.events / f.cpu_s for f in runs), ",.0f")
        target = f"{TARGET[name]:,}/s, 150 MB |" if name in TARGET else "|"
        memory = f"{max(f.rss_mb for f in runs):.0f}"
        lines.append(f"| {WHAT[name]} | {a_second} | {a_cpu_second} | {memory} | {target}")
    for ours, other in COMPARED:
        if ours in found and other in found:
            ratios = [a.cpu_s / b.cpu_s for a, b in zip(found[other], found[ours], strict=True)]
            times = [a.seconds / b.seconds for a, b in zip(found[other], found[ours], strict=True)]
            lines += [
                "",
                f"{ours} : {other} = {spread(times)} in events/s, {spread(ratios)} per CPU-second.",
            ]
    return "\n".join(lines)


def write(found: dict[str, list[Figures]], events: int) -> None:
    text = PAGE.read_text("utf-8")
    at = text.index(BEGIN) + len(BEGIN)
    count = len(next(iter(found.values())))
    measured = f"""{table(found)}

{now()}; {machine()}; broker and contestant on the same machine; {events:,} real flight events of about
290 bytes (and 150 of headers), all in the topic before the start. Median of {count} rounds (lowest to
highest); the contestants take turns, each in a separate process; the time runs from the first fetch
to the last visible commit."""
    PAGE.write_text(text[:at] + measured + text[text.index(END, at) :], "utf-8")
    append(
        (name, f.events, f.seconds, f.cpu_s, f.rss_mb) for name, runs in found.items() for f in runs
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=3)
    everyone = "node,columns,aiokafka,quixstreams,router,router-streams"
    parser.add_argument("--only", default=everyone)
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    found = asyncio.run(measure(options.only.split(","), options.events, options.rounds))
    print(table(found))
    if not options.no_write:
        write(found, options.events)


if __name__ == "__main__":
    main()
