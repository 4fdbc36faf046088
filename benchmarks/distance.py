"""What does it cost if a node is far from Kafka, and what does placing lanes bring then? Visible
latency and backlog of one node at several round-trip times, and the same events under several ways
to place lanes. Everything is live. Writes docs/distance.md.

    python -m benchmarks.distance [--rounds N] [--before PATH] [--only PART] [--rtts-ms MS,...] [--proxied]
        [--any-load]

`--before`: a checkout of an older version, which is measured beside this one, by turns. Without it,
recorded figures stand beside, and are marked as such."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from agents import settings
from agents.core.lanes.lane_map import LaneMap, build_lane_map
from agents.core.model.topology import MAIN, Partition
from agents.kafka.connection import client_kwargs
from agents.kafka.offsets import Offsets
from agents.kafka.topics import Topic, ensure_topics
from agents.local.demo.flights import endless_events, sample_events
from benchmarks import distance_live
from benchmarks.__main__ import LANES, fill, lane_records
from benchmarks.distant_ground import BUFFERS, DEFAULT, Distance, distance
from benchmarks.tables import ROOT, machine, now

PAGE = ROOT / "docs" / "distance.md"
PLOT = ROOT / "docs" / "distance.svg"
WORKER = Path(__file__).with_name("distant_worker.py")
RTTS_MS = (0, 20, 80, 150, 300)
MOST_LOAD = 2.0
NOW, BEFORE = "now", "before"
RAW = 2
RATE_EPS = 200.0
RATE_LANES = 4
WARM_S, WARM_ROUND_TRIPS = 6.0, 50
"""A node that begins far away first has to catch up with what came while it connected."""
READY_S = 60.0
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""Student's t, two-sided, by number of values."""

RECORDED = {
    "visible p50": ("102 to 121", "282", "1,109 to 1,503", "2,862 to 2,897", ""),
    "visible p99": ("163 to 178", "381", "1,653 to 1,755", "4,575 to 4,650", ""),
    "backlog default": ("58,351", "7,714", "2,175", "0", ""),
    "backlog system": ("67,265", "22,160", "6,959", "3,841", ""),
}
"""As it was on 28 November 2026, with packets that were really delayed (a TUN router)."""
WANTED = {
    "visible p50": ("110", "250", "500", "1,000", "works"),
    "visible p99": ("180", "350", "720", "1,600", ""),
    "backlog default": ("as it was", "8,600", "2,400", "1,000", "moves"),
    "backlog system": ("", "30,000", "10,000", "6,000", ""),
}
WHAT = {
    "visible p50": "visible, p50, ms",
    "visible p99": "visible, p99, ms",
    "backlog default": "backlog, Kafka's default socket buffers, events/s",
    "backlog system": "backlog, the system's socket buffers, events/s",
}


@dataclass(frozen=True)
class Ground:
    """What all measurements share."""

    way: Distance
    lane_map: LaneMap
    lane_map_file: Path
    events: int
    seconds: float
    bound_s: float


@asynccontextmanager
async def ground(
    events: int, seconds: float, bound_s: float, proxied: bool
) -> AsyncIterator[Ground]:
    with tempfile.TemporaryDirectory(prefix="geolane-distance-") as path:
        os.chmod(path, 0o711)  # the broker's own user may pass through
        folder = Path(path)
        async with distance(folder, proxied) as way:
            lane_map = build_lane_map(
                islice(sample_events(), 20_000), RATE_LANES, 4, 1, total_eps=RATE_EPS
            )
            file = folder / "lane-map"
            file.write_bytes(lane_map.encode())
            yield Ground(way, lane_map, file, events, seconds, bound_s)


@asynccontextmanager
async def distant_node(
    on: Ground, version: Path, rtt_ms: int, buffers: str, **task: Any
) -> AsyncIterator[None]:
    """A node with its partitions assigned, at this round-trip time."""
    if rtt_ms:
        await on.way.set_rtt_ms(rtt_ms, buffers)
    kafka = on.way.kafka_far(buffers) if rtt_ms else on.way.kafka_near(buffers)
    async with worker(version, kafka, on.way.enter if rtt_ms else (), kind="node", **task):
        yield


@asynccontextmanager
async def worker(
    version: Path, kafka: settings.Kafka, enter: Sequence[str] = (), **task: Any
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A node or router of that version of the project, with its partitions assigned."""
    login = {
        name: getattr(kafka, name)
        for name in ("bootstrap", "security", "username", "password_file")
    }
    process = await asyncio.create_subprocess_exec(
        *enter,
        sys.executable,
        "-P",
        str(WORKER),
        json.dumps({"kafka": login, **task}),
        env={**os.environ, "PYTHONPATH": str(version)},
        cwd=version,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None  # noqa: S101
    assert process.stdout is not None  # noqa: S101
    try:
        async with asyncio.timeout(READY_S):
            while (line := await process.stdout.readline()) != b"ready\n":
                if not line:
                    raise RuntimeError(f"the {task['kind']} of {version} ended before it began")
        yield process
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def measure_visible(on: Ground, version: Path, rtt_ms: int) -> tuple[float, float]:
    """p50 and p99 in ms from the append in raw until a read-committed reader has the event. Source,
    router and reader are near, the node is at this round-trip time."""
    name = f"v{uuid.uuid4().hex[:8]}"
    raw, lanes, clean, dead = (f"{name}-{what}" for what in ("raw", "lanes", "clean", "dead"))
    near = on.way.kafka_near(DEFAULT)
    topics = (Topic(raw, RAW, 64), Topic(dead, 1, 64))
    await ensure_topics(near, (*topics, *(Topic(t, RATE_LANES, 64) for t in (lanes, clean))))
    router: dict[str, Any] = {"kind": "router", "source": raw, "sink": lanes, "partitions": RAW}
    node: dict[str, Any] = {"source": lanes, "sink": clean, "partitions": RATE_LANES}
    more = {"dead": dead, "lane_map": str(on.lane_map_file)}
    async with (
        worker(version, near, group=f"{name}-r", **router, **more),
        distant_node(on, version, rtt_ms, DEFAULT, group=f"{name}-n", **node, **more),
    ):
        warm_s = WARM_S + WARM_ROUND_TRIPS * rtt_ms / 1000
        reading = asyncio.create_task(read_latencies(near, clean, warm_s, on.seconds))
        await send_events(near, raw, warm_s + on.seconds + 1)
        found = await reading
    if not found:
        return float("inf"), float("inf")
    return float(np.percentile(found, 50)), float(np.percentile(found, 99))


async def send_events(kafka: settings.Kafka, topic: str, seconds: float) -> None:
    producer: Any = AIOKafkaProducer(
        **client_kwargs(kafka), enable_idempotence=True, acks="all", linger_ms=5
    )
    await producer.start()
    events, sent, begun = endless_events(), 0, time.monotonic()
    pending: set[asyncio.Future[Any]] = set()
    while (now_s := time.monotonic() - begun) < seconds:
        while sent < now_s * RATE_EPS:
            key, value = next(events)
            future = await producer.send(topic, value, key, sent % RAW)
            pending.add(future)
            future.add_done_callback(pending.discard)
            sent += 1
        await asyncio.sleep(0.005)
    await producer.flush()
    await producer.stop()


async def read_latencies(
    kafka: settings.Kafka, topic: str, warm_s: float, seconds: float
) -> list[float]:
    """What becomes visible in `seconds` after `warm_s`: how old each event is then, in ms."""
    consumer: Any = AIOKafkaConsumer(
        **client_kwargs(kafka),
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
    )
    await consumer.start()
    consumer.assign([TopicPartition(topic, n) for n in range(RATE_LANES)])
    found: list[float] = []
    begun = time.monotonic()
    while (passed_s := time.monotonic() - begun) < warm_s + seconds:
        got = await consumer.getmany(timeout_ms=100)
        now_ms = time.time() * 1000
        if passed_s > warm_s:
            for records in got.values():
                found += [now_ms - int(dict(r.headers)["geolane-raw-ms"]) for r in records]
    await consumer.stop()
    return found


async def measure_backlog(on: Ground, version: Path, rtt_ms: int, buffers: str) -> float:
    """Events/s that a node at this round-trip time drains, from its assignment until nothing is
    left, or until the bound."""
    name = f"b{uuid.uuid4().hex[:8]}"
    near = on.way.kafka_near(buffers)
    clean, dead = f"{name}-clean", f"{name}-dead"
    await ensure_topics(near, (Topic(clean, LANES, 512), Topic(dead, 1, 64)))
    node: dict[str, Any] = {"source": BACKLOG, "sink": clean, "partitions": LANES}
    offsets = Offsets(near, name)
    await offsets.start()
    parts = [Partition(f"{MAIN}/{BACKLOG}", n) for n in range(LANES)]
    async with distant_node(on, version, rtt_ms, buffers, group=name, dead=dead, **node):
        begun, done = time.monotonic(), 0
        while done < on.events and time.monotonic() - begun < on.bound_s:
            await asyncio.sleep(0.05)
            committed = await offsets.read_committed_offsets(parts)
            done = sum(at[0] for at in committed.values() if at is not None)
        took_s = time.monotonic() - begun
    await offsets.stop()
    return done / took_s


BACKLOG = "backlog"

Found = dict[tuple[str, str, int], list[float]]
"""By figure, version and round-trip time: one value of each round."""


async def measure(
    on: Ground,
    versions: dict[str, Path],
    rounds: int,
    only: Sequence[str],
    rtts_ms: Sequence[int] = RTTS_MS,
) -> Found:
    """All figures, by turns."""
    found: Found = defaultdict(list)

    def note(figure: str, side: str, rtt_ms: int, value: float) -> None:
        found[figure, side, rtt_ms].append(value)
        load = os.getloadavg()[0]
        print(f"{figure}, {side}, {rtt_ms} ms: {value:,.0f} (load {load:.1f})", file=sys.stderr)

    if "backlog" in only:
        for kafka in {
            on.way.kafka_near(b).bootstrap: on.way.kafka_near(b) for b in BUFFERS
        }.values():
            await ensure_topics(kafka, (Topic(BACKLOG, LANES, 4096),))
            await fill(kafka, BACKLOG, lane_records(on.events, on.lane_map))
    for _ in range(rounds):
        for rtt_ms in rtts_ms:
            for side, version in versions.items():
                if "visible" in only:
                    p50, p99 = await measure_visible(on, version, rtt_ms)
                    note("visible p50", side, rtt_ms, p50)
                    note("visible p99", side, rtt_ms, p99)
                if "backlog" in only:
                    for buffers in BUFFERS:
                        rate = await measure_backlog(on, version, rtt_ms, buffers)
                        note(f"backlog {buffers}", side, rtt_ms, rate)
    return found


def spread(values: Sequence[float]) -> str:
    """The mean and its 95 % confidence interval by Student's t. Infinite: nothing was visible."""
    if not values:
        return ""
    if float("inf") in values:
        return f"none in {sum(v == float('inf') for v in values)} of {len(values)} rounds"
    mean = statistics.fmean(values)
    if (t := T_95.get(len(values))) is None:
        return f"{mean:,.0f}"
    half = t * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:,.0f} ({max(0.0, mean - half):,.0f} to {mean + half:,.0f})"


def table(part: str, found: Found, has_before: bool) -> str:
    lines = [
        f"| round trip of the node, ms | {' | '.join(map(str, RTTS_MS))} |",
        f"|---|{'---|' * len(RTTS_MS)}",
    ]
    for figure, what in WHAT.items():
        if not figure.startswith(part):
            continue

        def row(label: str, cells: Sequence[str], what: str = what) -> None:
            lines.append(f"| {what}: {label} | {' | '.join(cells)} |")

        row("as it is", [spread(found.get((figure, NOW, ms), ())) for ms in RTTS_MS])
        if has_before:
            row("as it was", [spread(found.get((figure, BEFORE, ms), ())) for ms in RTTS_MS])
        row("as it was, recorded", RECORDED[figure])
        row("wanted", WANTED[figure])
    return "\n".join(lines)


def write(parts: dict[str, str]) -> None:
    """Replace these parts of the page, each between its two comments; the others stay."""
    text = PAGE.read_text("utf-8") if PAGE.exists() else HEAD
    for name, part in parts.items():
        begin, end = f"<!-- measured: {name} -->\n", "\n<!-- end -->"
        at = text.index(begin) + len(begin)
        text = text[:at] + part + text[text.index(end, at) :]
    PAGE.write_text(text, "utf-8")


HEAD = """# Distance

What does it cost if a node is far from Kafka, and what does it bring that geolane knows? Everything here is live: real processes, a real
Kafka, and delays that are real, too: as root, packets are delayed between network namespaces; else, and for where lanes are, everything
goes through the proxy of `geolane up --delays` ([operating.md](operating.md#real-delays)), which is 8 to 17 % too fast for a transaction.
`python -m benchmarks.distance` measures it again and writes this page.

## A node at a distance

<!-- measured: visible -->
Not measured yet.
<!-- end -->

<!-- measured: backlog -->
Not measured yet.
<!-- end -->

- **visible**: from the append in `events.raw` until a read-committed reader has the event, at 200 events/s on 4 lanes. Source, router and
  reader are beside Kafka; the node is at the round trip of the column.
- **backlog**: how fast the node drains 8 lanes of real flight events that wait for it, from its assignment on. The buffers are Kafka's.
- **at 0 ms** a node begins with small fetches and batches, which costs about 0.1 s once, and the backlog lasts 1.3 s; then each transaction
  takes as long as it did. With 500,000 events on a quiet machine (29 November 2026, 6 measurements each): 93,758 to 104,176 events/s as it
  is, 101,444 to 107,416 as it was.
- **at a distance**, too, the beginning is part of the figure: with the system's buffers at 150 ms, the 120,000 events take 20 s.
- **as it was, recorded**: on 28 November 2026, before the loop was made for distance, with packets that were really delayed.

## Where lanes are

<!-- measured: policies -->
Not measured yet.
<!-- end -->

One Kafka at `iad`, nodes at `iad`, `sfo` and `mwh`, Azure's round trips (69 and 73 ms), 12 lanes, 150 events/s. The same events under each
way, by turns, in one running stack: for every way but geolane's the planner is paused and the lanes are moved by hand. geolane begins
with lanes at random and a new leader (a leader leaves a lane for 10 minutes where a person moved it), and is measured when it has moved
nothing for 25 s. Most events arise near `iad`, which favours "nearest by km". The source and the reader are beside Kafka. "Power of two choices"
takes the less loaded of two random nodes for each lane; "nearest by km" the node nearest to where a lane's events arise.

Even the best that can be done by hand is 67 % below round robin here, not more: about 110 ms are passed beside Kafka, too, most of them
the commit gap (100 ms), and a third of round robin's lanes are beside Kafka anyway. The farther the sites, the larger the share.

A fleet at one site gains nothing from this. [policies.md](policies.md) compares the ways over a whole day and with ten sites, in virtual time.
"""


def wait_until_quiet(patience_s: float = 300.0) -> float:
    """The load, once it is at most 2. Raises SystemExit if it stays above."""
    deadline = time.monotonic() + patience_s
    while (load := os.getloadavg()[0]) > MOST_LOAD:
        if time.monotonic() > deadline:
            sys.exit(
                f"the load is {load:.1f}: above {MOST_LOAD:g} nothing is measured, since the "
                "figures would be those of the other load; end it, or say --any-load"
            )
        print(f"waiting: the load is {load:.1f}, above {MOST_LOAD:g}", file=sys.stderr)
        time.sleep(min(10.0, patience_s))
    return load


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--before", type=Path, help="a checkout of an older version")
    parser.add_argument("--only", default="visible,backlog,policies")
    parser.add_argument("--rtts-ms", default=",".join(map(str, RTTS_MS)), help="of the node")
    parser.add_argument("--events", type=int, default=120_000, help="of the backlog")
    parser.add_argument("--live-events", type=int, default=3_000, help="of each way to place lanes")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each visible latency")
    parser.add_argument("--bound-s", type=float, default=30.0, help="of each backlog")
    parser.add_argument(
        "--proxied", action="store_true", help="a proxy, though packets could be delayed"
    )
    parser.add_argument("--any-load", action="store_true", help="measure on a busy machine, too")
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the servers, too
    load = os.getloadavg()[0] if options.any_load else wait_until_quiet()
    only = options.only.split(",")
    parts: dict[str, str] = {}
    rounds = "1 round" if options.rounds == 1 else f"{options.rounds} rounds by turns"
    about = f"{machine()}; load {load:.1f} at the beginning; {rounds}; mean (95 % by Student's t)."
    if {"visible", "backlog"} & set(only):
        versions = {NOW: ROOT} | ({BEFORE: options.before.resolve()} if options.before else {})

        async def run() -> tuple[Found, str]:
            asked = options.events, options.seconds, options.bound_s, options.proxied
            async with ground(*asked) as on:
                rtts_ms = [int(ms) for ms in options.rtts_ms.split(",")]
                found = await measure(on, versions, options.rounds, only, rtts_ms)
                return found, on.way.about

        found, way = asyncio.run(run())
        for part in {"visible", "backlog"} & set(only):
            measured = table(part, found, BEFORE in versions)
            parts[part] = f"{measured}\n\n{now()}; {about} {way}"
    if "policies" in only:
        live = asyncio.run(distance_live.measure_policies(options.rounds, options.live_events))
        picture = f"![p50, p75 and p99 of each way]({PLOT.name})"
        parts["policies"] = f"{distance_live.table(live, spread)}\n\n{picture}\n\n{now()}; {about}"
        if not options.no_write:
            distance_live.draw(live, PLOT)
    print("\n\n".join(parts.values()))
    if not options.no_write:
        write(parts)


if __name__ == "__main__":
    main()
