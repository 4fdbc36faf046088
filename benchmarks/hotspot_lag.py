"""Does knowing of a hotspot save lag? One lane's events grow from 20 to 300 events/s, more than its
node can work beside its other lanes: on real stacks, without and with analytics by turns. Writes
docs/hotspot-lag.md and benchmarks/hotspot_lag.csv.

    python -m benchmarks.hotspot_lag [--rounds N] [--ramps S,...] [--add] [--no-write]
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from agents import settings
from agents.base.text import counted
from agents.core.hotspots.records import decode_record
from agents.core.lanes.lane_map import LaneMap
from agents.core.lanes.records import RAW_MS, parse_number
from agents.core.model.hotspots import Hotspot, HotspotState
from agents.core.model.topology import (
    TOPIC_CLEAN,
    TOPIC_HOTSPOTS,
    TOPIC_LANES,
    TOPIC_RAW,
    WorkerKind,
)
from agents.kafka import compacted
from agents.kafka.connection import client_kwargs, make_committed_reader
from agents.kafka.offsets import Offsets
from agents.local.servers.folder import RunFolder
from agents.local.stack import ANALYTICS_EMBEDDED, ANALYTICS_OFF, Stack, StackPlan
from agents.settings import Coordinator, Settings, Worker
from agents.settings.calm import Calm
from agents.xmpp.operator_client import OperatorClient
from benchmarks.slow_pipeline import CAPACITY_EPS
from benchmarks.tables import ROOT, machine, now, spread
from kernels.tables import Floats

PAGE, RUNS = ROOT / "docs" / "hotspot-lag.md", ROOT / "benchmarks" / "hotspot_lag.csv"
NODES, LANES = 4, 16
USUAL_EPS, BURST_EPS, OTHERS_EPS = 20.0, 300.0, 57.0
HISTORY_S = 20 * 60
QUIET_S, HELD_S, AFTER_S = 20.0, 20.0, 3.0
"""How long it is quiet before the burst, the burst holds its rate, and events go on after it."""
DRAINED_S, TICK_S = 60.0, 0.02
CITIES = (
    (32.9, -97.0), (33.6, -84.4), (41.9, -87.9), (39.9, -104.7), (34.0, -118.4), (36.1, -115.2),
    (33.4, -112.0), (47.4, -122.3), (40.6, -73.8), (28.4, -81.3), (25.8, -80.3), (42.2, -83.4),
    (44.9, -93.2), (39.2, -76.7), (40.8, -111.9), (30.0, -90.3),
)  # fmt: skip
"""In degrees, each in a lane of its own; the burst is in the first."""
BURSTING = CITIES[0]
ARMS = ANALYTICS_OFF, ANALYTICS_EMBEDDED
ROWS = (
    ("largest lag of the bursting lane, events", "lane_lag", ",.0f"),
    ("largest lag of the lanes beside it, events", "beside_lag", ",.0f"),
    ("p99 latency of the bursting lane, s", "lane_p99_s", ".2f"),
    ("p99 latency of the lanes beside it, s", "beside_p99_s", ".2f"),
    ("longest latency, s", "longest_s", ".2f"),
    ("waited beyond the usual latency, event-seconds", "waited_event_s", ",.0f"),
    ("first lane on another node, s after the burst began", "first_move_s", ".1f"),
    ("lanes that moved", "moves", ",.0f"),
)
SITE = '[[site]]\nname = "dsm"\nregion = "Central US"\nlat = 41.878\nlon = -93.0977\n'


def inventory() -> str:
    nodes = "".join(
        f'[[node]]\nname = "dsm-{n}"\nsite = "dsm"\ncapacity_eps = {CAPACITY_EPS}\n'
        for n in range(1, NODES + 1)
    )
    return f'{SITE}{nodes}[[router]]\nname = "1"\nsite = "dsm"\ncapacity_eps = 20000.0\n'


def usual_eps(city: int) -> float:
    return USUAL_EPS if city == 0 else OTHERS_EPS


TOTAL_EPS = sum(map(usual_eps, range(LANES)))


def event(n: int, ts_ms: int, city: tuple[float, float]) -> bytes:
    at = {"lat": city[0], "lon": city[1]}
    return orjson.dumps({"id": f"e-{n}", "ts": ts_ms, "origin": at, "type": "reading"})


def sample() -> Iterator[bytes]:
    """A minute of usual events, for the lane map."""
    for n, city in enumerate(CITIES):
        for i in range(round(60 * usual_eps(n))):
            yield event(i, round(i * 1000 / usual_eps(n)), city)


def draw_burst(seed: int, ramp_s: float) -> list[tuple[float, int]]:
    """(second, city) of each event of the live part, by time: Poisson, from `QUIET_S` on the first
    city's rate grows over `ramp_s`, and stays."""
    dice, found = random.Random(seed), list[tuple[float, int]]()
    ends_s = QUIET_S + ramp_s + HELD_S
    for city in range(LANES):
        most, at = (BURST_EPS if city == 0 else usual_eps(city)), 0.0
        while (at := at + dice.expovariate(most)) < ends_s + AFTER_S:
            grown = min(1.0, max(0.0, (at - QUIET_S) / ramp_s)) if at < ends_s else 0.0
            eps = usual_eps(city) + (grown * (BURST_EPS - USUAL_EPS) if city == 0 else 0.0)
            if dice.random() * most < eps:
                found.append((at, city))
    return sorted(found)


async def write_history(kafka: settings.Kafka, lanemap: LaneMap) -> None:
    """The last 20 minutes of usual events, as a router wrote and the nodes worked them, so that
    analytics, which begins with the last hour, knows what is usual."""
    producer: Any = AIOKafkaProducer(
        **client_kwargs(kafka), enable_idempotence=True, max_batch_size=1 << 20
    )
    await producer.start()
    sends, until_ms = [], round(time.time() * 1000)
    for n, (lat, lon) in enumerate(CITIES):
        cell, lane = lanemap.locate_event(lat, lon, b"")
        count, batch, value = round(HISTORY_S * usual_eps(n)), None, event(0, 0, (lat, lon))
        for i in range(count):
            ts_ms = until_ms - round(HISTORY_S * 1000 * (1 - i / count))
            headers = [
                ("geolane-src", b"events.raw/0/0"),
                ("geolane-cell", cell),
                ("geolane-ts", b"%d" % ts_ms),
                ("geolane-map", b"1"),
            ]
            row = {"key": None, "value": value, "timestamp": None, "headers": headers}
            if batch is None or batch.append(**row) is None:
                if batch is not None:
                    sends.append(await producer.send_batch(batch, TOPIC_LANES, partition=lane))
                batch = producer.create_batch()
                batch.append(**row)
        sends.append(await producer.send_batch(batch, TOPIC_LANES, partition=lane))
    await asyncio.gather(*sends)
    await producer.stop()
    offsets = Offsets(kafka, WorkerKind.NODE.group)
    await offsets.start()
    ends = await offsets.read_end_offsets(map(WorkerKind.NODE.partition, range(LANES)))
    await offsets.stop()
    consumer: Any = AIOKafkaConsumer(
        **client_kwargs(kafka), group_id=WorkerKind.NODE.group, enable_auto_commit=False
    )
    await consumer.start()
    done = {TopicPartition(TOPIC_LANES, p.n): OffsetAndMetadata(at, "") for p, at in ends.items()}
    consumer.assign(list(done))
    await consumer.commit(done)
    await consumer.stop()


class LoadedStack(Stack):
    """A stack that has been running for 20 minutes, by its topics."""

    async def start(self, sample: Iterable[bytes], rate_eps: float) -> None:
        await self.start_servers(sample, rate_eps)
        lanemap = await compacted.read_newest_lane_map(self.base.kafka)
        assert lanemap is not None  # noqa: S101
        assert all(len(lanes) == 1 for lanes in lanemap.cell_lanes.values())  # noqa: S101
        self.lane = lanemap.locate_event(*BURSTING, b"")[1]
        await write_history(self.base.kafka, lanemap)
        await self.start_processes(day_s=86_400.0)


@dataclass(slots=True)
class Seen:
    """What was seen from outside, times in epoch s. `clean`: by lane, when each event was appended
    to events.raw and its output to events.clean. `owners`: (when, lane, worker)."""

    clean: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    owners: list[tuple[float, int, str]] = field(default_factory=list)
    hotspots: list[tuple[float, Hotspot]] = field(default_factory=list)
    told: list[tuple[float, str]] = field(default_factory=list)

    async def read_topics(self, kafka: settings.Kafka) -> None:
        reader = make_committed_reader(kafka, fetch_max_wait_ms=20)
        await reader.start()
        try:
            clean = [TopicPartition(TOPIC_CLEAN, n) for n in range(LANES)]
            reader.assign([*clean, TopicPartition(TOPIC_HOTSPOTS, 0)])
            await reader.seek_to_beginning()
            while True:
                for tp, records in (await reader.getmany(timeout_ms=200)).items():
                    for r in records:
                        if tp.topic == TOPIC_HOTSPOTS:
                            self.hotspots.append(
                                (r.timestamp / 1000, decode_record(r.key, r.value))
                            )
                            continue
                        raw_ms = parse_number(dict(r.headers).get(RAW_MS), r.timestamp)
                        times = raw_ms / 1000, r.timestamp / 1000
                        self.clean.setdefault(tp.partition, []).append(times)
        finally:
            await reader.stop()

    async def watch_owners(self, stack: Stack) -> None:
        known = dict[int, str]()
        while True:
            for p, placed in list(stack.follower.placed.items()):
                if WorkerKind.NODE.works(p) and placed.worker and known.get(p.n) != placed.worker:
                    known[p.n] = placed.worker
                    self.owners.append((time.time(), p.n, placed.worker))
            await asyncio.sleep(TICK_S)

    async def listen_in_room(self, stack: Stack) -> None:
        xmpp = msgspec.structs.replace(
            stack.base.xmpp, password_file=str(stack.folder.secrets / "ana")
        )
        async with OperatorClient(xmpp, "ana") as ana:
            await ana.join_room()
            while True:
                said = await ana.wait_for_message(
                    lambda m: m.room and m.jid == xmpp.coordinator, 600
                )
                self.told.append((time.time(), said.text))


async def send(kafka: settings.Kafka, burst: list[tuple[float, int]]) -> float:
    """Send the events when they are due. Returns the epoch second of their second 0."""
    producer: Any = AIOKafkaProducer(**client_kwargs(kafka), enable_idempotence=True, linger_ms=5)
    await producer.start()
    began_s, sends = time.time(), []
    try:
        for n, (at_s, city) in enumerate(burst):
            if (wait_s := began_s + at_s - time.time()) > 0:
                await asyncio.sleep(max(TICK_S, wait_s))
            value = event(n, round((began_s + at_s) * 1000), CITIES[city])
            sends.append(await producer.send(TOPIC_RAW, value, partition=n % 4))
        await asyncio.gather(*sends)
    finally:
        await producer.stop()
    return began_s


@dataclass(frozen=True, slots=True)
class Run:
    """The figures of one run, from the beginning of the burst to its end. `lane`, `beside`: of the
    bursting lane, and of those that were on its node when it began. Lag in events, times in s;
    latency is from the append to events.raw to that to events.clean. `waited_event_s`: by how much
    the latencies of these lanes exceed the usual one, summed over their events. `first_move_s`: when
    the first lane had another node, since the burst began; `decided_s`: when the hotspot was
    appended to its topic; `to_room_s`: how long after that a client had its line. NaN: never."""

    ramp_s: float
    analytics: str
    usual_p50_s: float
    lane_lag: int
    beside_lag: int
    lane_p99_s: float
    beside_p99_s: float
    longest_s: float
    waited_event_s: float
    first_move_s: float
    moves: int
    decided_s: float
    to_room_s: float


def evaluate(seen: Seen, lane: int, began_s: float, ramp_s: float, analytics: str) -> Run:
    """`began_s`: when the first event was due."""
    at_s = began_s + QUIET_S
    ends_s = at_s + ramp_s + HELD_S
    owner = {n: worker for t, n, worker in seen.owners if t < at_s}
    beside = [n for n, worker in owner.items() if worker == owner[lane] and n != lane]
    moves = [t - at_s for t, _, _ in seen.owners if t >= at_s]

    def times_of(lanes: Iterable[int]) -> Floats:
        """float64[events, 2]: appended to events.raw, to events.clean."""
        return np.array([x for n in lanes for x in seen.clean.get(n, [])]).reshape(-1, 2)

    def most_lag(lanes: Iterable[int]) -> int:
        came, left = np.sort(times_of(lanes), axis=0).T
        looks = np.arange(at_s, ends_s, 0.05)
        lag = np.searchsorted(came, looks, "right") - np.searchsorted(left, looks, "right")
        return int(lag.max())

    def latencies(lanes: Iterable[int], begin_s: float, end_s: float) -> Floats:
        times = times_of(lanes)
        times = times[(times[:, 0] >= begin_s) & (times[:, 0] < end_s)]
        out: Floats = times[:, 1] - times[:, 0]
        return out

    own, others = latencies([lane], at_s, ends_s), latencies(beside, at_s, ends_s)
    both = np.concatenate([own, others])
    usual_s = float(np.median(latencies(seen.clean, began_s + 5, at_s)))
    opened = [t for t, h in seen.hotspots if h.state is HotspotState.OPEN and t >= at_s]
    lines = [t for t, text in seen.told if "Hotspot at" in text and t >= at_s]
    return Run(
        ramp_s,
        analytics,
        usual_s,
        most_lag([lane]),
        most_lag(beside),
        float(np.quantile(own, 0.99)),
        float(np.quantile(others, 0.99)),
        float(both.max()),
        float((both - usual_s).sum()),
        min(moves, default=math.nan),
        len(moves),
        opened[0] - at_s if opened else math.nan,
        lines[0] - opened[0] if opened and lines else math.nan,
    )


async def measure(path: Path, analytics: str, seed: int, ramp_s: float) -> Run:
    """One burst on a stack of its own."""
    worker = Worker(
        pipeline="benchmarks.slow_pipeline:pipeline",
        batch_records=100,
        capacity_eps=CAPACITY_EPS,
    )
    # Without the ramp of nodes that have just come: the stack has been running for 20 minutes.
    coordinator = Coordinator(lanes=LANES, calm=Calm(ramp_s=0.0))
    plan = StackPlan(
        Settings(coordinator=coordinator, worker=worker),
        path / "inventory.toml",
        analytics=analytics,
        web=False,
    )
    plan.inventory.write_text(inventory(), "utf-8")
    seen, burst = Seen(), draw_burst(seed, ramp_s)
    with RunFolder(path) as folder:
        stack = LoadedStack(folder, plan, lambda text: None)
        async with stack.working(sample(), TOTAL_EPS), asyncio.TaskGroup() as tasks:
            watching = [
                tasks.create_task(seen.read_topics(stack.base.kafka)),
                tasks.create_task(seen.watch_owners(stack)),
                tasks.create_task(seen.listen_in_room(stack)),
            ]
            began_s = await send(stack.base.kafka, burst)
            for _ in range(round(DRAINED_S / 0.1)):
                if sum(map(len, seen.clean.values())) >= len(burst):
                    break
                await asyncio.sleep(0.1)
            else:
                raise TimeoutError(f"not all events have come out {DRAINED_S:g} s after the last")
            for task in watching:
                task.cancel()
    return evaluate(seen, stack.lane, began_s, ramp_s, analytics)


async def measure_all(rounds: int, ramps_s: Iterable[float]) -> list[Run]:
    found = []
    for seed in range(rounds):
        for ramp_s in ramps_s:
            for analytics in ARMS:
                with tempfile.TemporaryDirectory(prefix="geolane-lag-") as folder:
                    os.chmod(folder, 0o711)  # the servers' own users may pass through
                    found.append(await measure(Path(folder), analytics, seed, ramp_s))
                print(found[-1], file=sys.stderr, flush=True)
    return found


# The page


def table(runs: list[Run], ramp_s: float) -> str:
    """Both sides of one ramp, median (lowest to highest)."""
    off, on = ([r for r in runs if (r.ramp_s, r.analytics) == (ramp_s, arm)] for arm in ARMS)
    saved = [a.waited_event_s - b.waited_event_s for a, b in zip(off, on, strict=True)]
    ratio = [a.waited_event_s / b.waited_event_s for a, b in zip(off, on, strict=True)]
    lines = [
        f"| over {ramp_s:g} s, {counted(len(on), 'round')} | without | with analytics |",
        "|---|---|---|",
    ]
    for title, name, form in ROWS:
        sides = (spread([getattr(r, name) for r in side], form) for side in (off, on))
        lines.append(f"| {title} | {' | '.join(sides)} |")
    lines += [
        "",
        f"Saved: {spread(saved, ',.0f')} event-seconds; ratio {spread(ratio, '.1f')}. The hotspot "
        f"was decided {spread([r.decided_s for r in on], '.1f')} s after the burst began.",
    ]
    return "\n".join(lines)


def page(runs: list[Run]) -> str:
    to_room = [r.to_room_s for r in runs if r.analytics != ANALYTICS_OFF]
    usual = [r.usual_p50_s for r in runs]
    tables = "\n\n".join(table(runs, ramp_s) for ramp_s in sorted({r.ramp_s for r in runs}))
    return f"""# Lag that a hotspot saves

Does it help to know of a hotspot? The benchmark starts a whole stack (Kafka, ejabberd, coordinator, router, {NODES} nodes), lets the events of
one place grow from {USUAL_EPS:g} to {BURST_EPS:g} events/s, and measures what waits; without an analytics worker and with one, by turns, with the same events.
`python -m benchmarks.hotspot_lag` measures it again and writes this page ([hotspots.md](hotspots.md#what-follows) says what the coordinator does).

{tables}

**From the hotspot to the room:** {spread(to_room, ".3f")} s from the append of its record to the line in a chat client ({counted(len(to_room), "hotspot")}).

{now()}; {machine()}; everything on this machine. Median (lowest to highest) of the rounds; each has other random events.

## How it is measured

- **Nodes.** A node needs {1000 / CAPACITY_EPS:g} ms for each event (`benchmarks/slow_pipeline.py` waits, as for a database), so that it can work at most
  {CAPACITY_EPS:g} events/s, which is what the inventory says. {LANES} lanes; {TOTAL_EPS:,.0f} events/s in all, {TOTAL_EPS / CAPACITY_EPS / NODES:.0%} of what the nodes can work. Beside the bursting lane, its node has
  lanes of {OTHERS_EPS:g} events/s each: together they are more than it can work once the burst has grown.
- **Events** come at random (Poisson). After {QUIET_S:g} s the burst grows in a straight line, holds its rate for {HELD_S:g} s, and ends. A history of
  {HISTORY_S // 60} minutes is in `events.lanes` before the processes start, with the event times that it would have; so analytics knows what is usual.
- **Lag** of a lane is what was appended to `events.raw` and whose output was not yet in `events.clean`, by the broker's clock. **Latency** is the time
  between the two; usually it is {spread(usual, ".2f")} s here, since a batch waits for the pipeline. **Event-seconds** sum by how much it is longer
  than that, over the events of the bursting lane and of those beside it, during the burst.
- **Settings** are the defaults, but for batches of 100 events and no ramp of new nodes.

## What it shows

With analytics the first lane leaves at about the same time however fast the burst grows: a hotspot is known after some seconds, 5 s of which are
`analytics.lateness_s`. Without it, the burst must first fill its node, and the faster it grows, the sooner that is; then the node must look hot for 5 s,
by rates that are smoothed over 5 s. A burst that overloads its node before a hotspot is known lags with both.
"""


def write(runs: list[Run], *, add: bool) -> None:
    """`add`: beside those that are in the file."""
    if add and RUNS.exists():
        with RUNS.open(encoding="utf-8", newline="") as file:
            kinds = {f.name: {"str": str, "int": int}.get(str(f.type), float) for f in fields(Run)}
            earlier = [
                Run(**{k: kinds[k](text) for k, text in row.items()})
                for row in csv.DictReader(file)
            ]
        runs = [*earlier, *runs]
    with RUNS.open("w", encoding="utf-8", newline="") as file:
        rows = csv.DictWriter(file, [f.name for f in fields(Run)], lineterminator="\n")
        rows.writeheader()
        for run in runs:
            row = asdict(run)
            rows.writerow({k: f"{x:.4g}" if isinstance(x, float) else x for k, x in row.items()})
    PAGE.write_text(page(runs), "utf-8")


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the servers, too
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ramps", default="10,20,40", help="how long the burst grows, s")
    parser.add_argument("--add", action="store_true", help="to the runs that are in the file")
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    ramps_s = [float(s) for s in options.ramps.split(",")]
    runs = asyncio.run(measure_all(options.rounds, ramps_s))
    if not options.no_write:
        write(runs, add=options.add)
    for ramp_s in ramps_s:
        print(table(runs, ramp_s))


if __name__ == "__main__":
    main()
