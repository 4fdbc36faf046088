"""How many events per second does each engine of analytics handle, at what cost, from the same
topic of a real Kafka: in process, and on Flink at a parallelism of 1 and of 2? They must find the
same rises. Writes docs/analytics-engines.md and rows of benchmarks/results.csv.

    python -m benchmarks.analytics_engines [--events N] [--cells N] [--rounds N] [--no-write]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import logging
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiokafka import TopicPartition
from h3.api import basic_str as h3

from agents import settings
from agents.analytics.base_engine import AnalyticsTopics, BaseEngine
from agents.analytics.engine import HotspotEngine
from agents.analytics.flink_engine import FlinkEngine
from agents.analytics.sql_gateway import connect_flink
from agents.base.text import counted
from agents.core.hotspots.job_rows import decode_row
from agents.core.model.messages import AssignCommand, Grant, LeaseCommand
from agents.core.model.topology import MAIN, Partition
from agents.kafka.connection import make_committed_reader
from agents.kafka.leases import LeaseMaker
from agents.kafka.markers import Reach
from agents.kafka.offsets import Offsets
from agents.kafka.topics import Topic, ensure_topics
from agents.local.servers.broker import Broker
from agents.local.servers.flink_cluster import FlinkCluster, FlinkMemory
from benchmarks.__main__ import fill
from benchmarks.children import run_child
from benchmarks.contestants import Watch, peak_mb
from benchmarks.tables import ROOT, append, machine, now, spread

PAGE = ROOT / "docs" / "analytics-engines.md"
PARTITIONS = 8
DURATION_S, BURST_S, BURSTS = 3600, 120, 200
PAYLOAD = b'{"id":"%s"}' % (b"x" * 280)
TASKMANAGER_HEAP_MB = 3072
CHECKPOINT_MS = 5000
MANY_CELLS, MANY_EVENTS = 1_000_000, 2_000_000
EMBEDDED, FLINK_1, FLINK_2 = "in process", "Flink, parallelism 1", "Flink, parallelism 2"
MANY = f"in process, {MANY_CELLS:,} cells"
PARALLELISM = {FLINK_1: 1, FLINK_2: 2}
LIMIT_S = 900


class Task(msgspec.Struct, frozen=True):
    """`pids`: Flink's processes, by name."""

    kafka: settings.Kafka
    analytics: settings.Analytics
    lanes: str
    events: int
    pids: dict[str, int]


class Figures(msgspec.Struct, frozen=True):
    """`cpu_s` is of all its processes, `peak_mb` of each: the most that it has had resident.
    `digest`: of all rises."""

    events: int
    seconds: float
    cpu_s: float
    peak_mb: dict[str, float]
    rises: int
    digest: str


def make_events(
    events: int, cells: int, begin_ms: int
) -> Iterator[tuple[int, bytes, bytes, list[Any]]]:
    """Records as a router writes them, an hour of event time: few cells are busy and many quiet,
    some burst, each has an event if there are enough, and the order is shuffled by up to 4 s. The first record of each partition is of
    `begin_ms`, its last one closes all slots."""
    rng = np.random.default_rng(1)
    base = sorted(h3.get_res0_cells())
    names = [
        name.encode()
        for cell in base[: cells // h3.cell_to_children_size(base[0], 5) + 4]
        for name in h3.cell_to_children(cell, 5)
    ][:cells]
    weight = 1 / np.arange(10, cells + 10)
    in_bursts = events // 50
    cell = rng.choice(cells, events, p=weight / weight.sum())
    if events >= 2 * cells:
        cell[-cells:] = np.arange(cells)
    ms = rng.integers(1, DURATION_S * 1000, events)
    burst = rng.integers(BURSTS, size=in_bursts)
    cell[:in_bursts] = rng.integers(cells // 100, size=BURSTS)[burst]
    begins = rng.integers(DURATION_S // 3, DURATION_S - BURST_S, BURSTS) * 1000
    ms[:in_bursts] = begins[burst] + rng.integers(BURST_S * 1000, size=in_bursts)
    order = np.argsort(ms + rng.integers(4000, size=events))

    def record(n: int, at_ms: int) -> tuple[int, bytes, bytes, list[Any]]:
        headers = [
            ("geolane-src", b"events.raw/0/1"),
            ("geolane-raw-ms", b"%d" % at_ms),
            ("geolane-cell", names[n]),
            ("geolane-ts", b"%d" % at_ms),
            ("geolane-map", b"1"),
        ]
        return n % PARTITIONS, names[n], PAYLOAD, headers

    for n in range(PARTITIONS):
        yield record(n, begin_ms)
    for n, at_ms in zip(cell[order].tolist(), ms[order].tolist(), strict=True):
        yield record(n, begin_ms + at_ms)
    for n in range(PARTITIONS):
        yield record(n, begin_ms + (DURATION_S + 600) * 1000)


# One contestant, in a process of its own


async def run_engine(task: Task) -> Figures:
    """As `geolane analytics` runs it; the lease and the commands come from here."""
    kafka, name, flink = task.kafka, f"bench-{uuid.uuid4().hex[:8]}", task.analytics.flink
    topics = AnalyticsTopics(
        task.lanes, *(f"{name}-{x}" for x in ("hotspots", "rises", "state", "group", "job"))
    )
    compact = {"cleanup.policy": "compact"}
    await ensure_topics(
        kafka,
        (
            Topic(topics.hotspots, 1, 64),
            Topic(topics.rises, 1, 256),
            Topic(topics.state, 1, 4096, compact),
        ),
        embedded=True,
    )
    reach = Reach((topics.hotspots, topics.rises, topics.state), (topics.group,))
    maker, offsets = LeaseMaker(kafka, 10_000, lambda _: reach), Offsets(kafka, topics.group)
    await maker.start()
    await offsets.start()
    engine: BaseEngine[Any]
    closing = 0
    if task.pids:
        clients = connect_flink(flink)
        engine = FlinkEngine(kafka, task.analytics, clients, "BENCH", topics=topics)
    else:
        engine = HotspotEngine(kafka, task.analytics, "BENCH", topics=topics)
        closing = PARTITIONS  # it counts all that it has read, and Flink what is closed
    running = asyncio.create_task(engine.run())
    lease = await maker.make_lease(name)
    await engine.execute_command(LeaseCommand(1, "BENCH", name, *lease))
    watch = Watch(tuple(task.pids.values()))
    part = Partition(f"{MAIN}/{topics.hotspots}", 0)
    await engine.execute_command(AssignCommand(1, "BENCH", part.topic, (Grant(0, 1, 0),)))
    deadline, done, job = time.monotonic() + LIMIT_S, 0, None
    if task.pids:  # its start is not measured: from when the job runs
        while job is None or job.state != "RUNNING":
            await asyncio.sleep(0.1)
            job = await clients[0].find_job(topics.job)
        watch = Watch(tuple(task.pids.values()))
    while done < task.events + PARTITIONS + closing:
        await asyncio.sleep(0.1)
        if running.done():
            running.result()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{done} of {task.events} events after {LIMIT_S} s")
        found = (await offsets.read_committed_offsets([part]))[part]
        done = json.loads(found[1] or "{}").get("in", 0) if found is not None else 0
    total = watch.figures(task.events)
    peaks = {"worker": peak_mb(os.getpid())}
    peaks |= {name: peak_mb(pid) for name, pid in task.pids.items()}
    rises = sorted(await read_rises(kafka, topics.rises))
    digest = hashlib.sha256(b"\n".join(rises)).hexdigest()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    if job is not None:
        await clients[0].cancel(job.job_id)
    await maker.stop()
    await offsets.stop()
    return Figures(total.events, total.seconds, total.cpu_s, peaks, len(rises), digest)


async def read_rises(kafka: settings.Kafka, topic: str) -> list[bytes]:
    """All rises, without Flink's ticks."""
    consumer, found = make_committed_reader(kafka, fetch_max_wait_ms=50), list[bytes]()
    await consumer.start()
    part = TopicPartition(topic, 0)
    consumer.assign([part])
    await consumer.seek_to_beginning(part)
    end = (await consumer.end_offsets([part]))[part]
    while await consumer.position(part) < end:
        for records in (await consumer.getmany(timeout_ms=100)).values():
            rows = [decode_row(record.value, 1 << 60) for record in records]
            found += [msgspec.json.encode(row) for row in rows if row is not None and row.cell]
    await consumer.stop()
    return found


# All of them


async def measure(
    events: int, cells: int, rounds: int, many: bool
) -> tuple[dict[str, list[Figures]], float]:
    """The figures of each, and how many seconds it took to write the events. `many`: also with
    MANY_CELLS."""
    names = [EMBEDDED, FLINK_1, FLINK_2] * rounds + [MANY] * many
    found: dict[str, list[Figures]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="geolane-bench-") as folder:
        os.chmod(folder, 0o711)  # the servers' users may pass through
        broker = Broker(Path(folder, "kafka"), heap_mb=1024)
        await broker.start()
        try:
            begun = time.perf_counter()
            streams = [("lanes", events, cells)] + [("lanes-many", MANY_EVENTS, MANY_CELLS)] * many
            for topic, count, size in streams:
                print(f"writing {count:,} events of {size:,} cells ...", file=sys.stderr)
                begin_ms = round(time.time() - 2 * DURATION_S) // 60 * 60_000
                await ensure_topics(broker.kafka, (Topic(topic, PARTITIONS, 4096),))
                await fill(broker.kafka, topic, make_events(count, size, begin_ms))
            fill_s = time.perf_counter() - begun
            for number, name in enumerate(names):
                topic, count = ("lanes-many", MANY_EVENTS) if name == MANY else ("lanes", events)
                flink_folder = Path(folder, f"flink-{number}")
                figures = await _measure_one(broker.kafka, topic, count, name, flink_folder)
                found[name].append(figures)
                print(f"{name}: {figures}", file=sys.stderr)
        finally:
            await broker.stop()
    return found, fill_s


async def _measure_one(
    kafka: settings.Kafka, topic: str, events: int, name: str, folder: Path
) -> Figures:
    analytics, pids, cluster = settings.Analytics(idle_s=60), dict[str, int](), None
    if name in PARALLELISM:
        cluster = FlinkCluster(folder, memory=FlinkMemory(taskmanager_heap_mb=TASKMANAGER_HEAP_MB))
        await cluster.start()
        flink = msgspec.structs.replace(
            cluster.settings(), parallelism=PARALLELISM[name], checkpoint_ms=CHECKPOINT_MS
        )
        analytics = msgspec.structs.replace(analytics, engine="flink", flink=flink)
        pids = {part.name: part.pid or 0 for part in cluster.parts}
    task = Task(kafka, analytics, topic, events, pids)
    try:
        return await run_child(
            __spec__.name, ["--run", msgspec.json.encode(task).decode()], Figures, LIMIT_S + 120
        )
    finally:
        if cluster is not None:
            await cluster.stop()


def table(found: Mapping[str, list[Figures]]) -> str:
    parts = ("worker", "jobmanager", "taskmanager", "gateway")
    lines = [
        "| | events/s | events per CPU-second | CPU-seconds | memory, MB: worker | JobManager | TaskManager | gateway |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, runs in found.items():
        peaks = [
            spread((f.peak_mb[p] for f in runs), ",.0f") if p in runs[0].peak_mb else ""
            for p in parts
        ]
        lines.append(
            f"| {name} | {spread((f.events / f.seconds for f in runs), ',.0f')} | "
            f"{spread((f.events / f.cpu_s for f in runs), ',.0f')} | {spread((f.cpu_s for f in runs), ',.0f')} | "
            f"{' | '.join(peaks)} |"
        )
    lines.append("")
    for one, other in ((EMBEDDED, FLINK_1), (FLINK_2, FLINK_1)):
        lines += [
            f"{one} : {other} = {_ratio(found, one, other, lambda f: f.seconds)} in events/s, "
            f"{_ratio(found, one, other, lambda f: f.cpu_s)} per CPU-second.",
            "",
        ]
    return "\n".join(lines)


def _ratio(
    found: Mapping[str, list[Figures]], one: str, other: str, cost: Callable[[Figures], float]
) -> str:
    return spread(cost(b) / cost(a) for a, b in zip(found[one], found[other], strict=True))


def page(found: Mapping[str, list[Figures]], events: int, cells: int) -> str:
    runs = [f for name in (EMBEDDED, *PARALLELISM) for f in found[name]]
    same = len({f.digest for f in runs}) == 1
    rises = (
        f"All three found the same {runs[0].rises:,} rises."
        if same
        else "The runs found DIFFERENT rises."
    )
    return f"""# The two engines of analytics, side by side

How many events a second does each engine of [hotspots](hotspots.md) handle, and what does that take? `python -m benchmarks.analytics_engines` measures
it again and writes this page.

{table(found)}
{rises}

{now()}; {machine()}; broker, worker and Flink on the same machine. Median of {counted(len(found[EMBEDDED]), "round")} (lowest to highest), by turns in one run.
CPU is of the worker and, with Flink, of its three processes, without the broker's. Memory is the most that each has had resident.

- **Events:** {events:,} in {PARTITIONS} partitions, all there before the start; {cells:,} cells (and their areas), an hour of event time,
  {BURSTS} bursts; a few cells are busy, most have an event now and then. The last row: {MANY_EVENTS:,} events of {MANY_CELLS:,} cells, once. A record has {len(PAYLOAD)} bytes and 100 of headers.
- **Time** runs until all slots are closed and everything found is committed: in process from when the worker gets the task; with Flink from
  when the job runs. Java compiles the job's code within that time.
- **Flink** has a heap of {TASKMANAGER_HEAP_MB:,} MB for its TaskManager (the local cluster of `geolane up` has 256 MB) and a checkpoint every {CHECKPOINT_MS / 1000:g} s; the last one,
  which shows the last rises, costs up to as much. The engine in process makes a snapshot at most every 10 s.
- **Parallelism 2** on {os.cpu_count()} cores has to share them with the broker. The step that looks for late events has a key for each partition,
  and all that Flink's hashing gives to one subtask is done by that one.
"""


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the servers, too
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--no-many", action="store_true", help=f"not with {MANY_CELLS:,} cells")
    parser.add_argument("--no-write", action="store_true")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        logging.disable(logging.WARNING)
        figures = asyncio.run(run_engine(msgspec.json.decode(options.run, type=Task)))
        print(msgspec.json.encode(figures).decode())
        return
    found, fill_s = asyncio.run(
        measure(options.events, options.cells, options.rounds, not options.no_many)
    )
    print(f"{fill_s:.0f} s to write the events", file=sys.stderr)
    text = page(found, options.events, options.cells)
    print(text)
    if not options.no_write:
        PAGE.write_text(text, "utf-8")
        append(
            (f"analytics {name}", f.events, f.seconds, f.cpu_s, sum(f.peak_mb.values()))
            for name, runs in found.items()
            for f in runs
        )


if __name__ == "__main__":
    main()
