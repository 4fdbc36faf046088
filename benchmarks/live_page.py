"""Does the live page stay smooth and small with a large fleet? Publishes a fleet of 1,000 nodes and
10,000 lanes once a second on a real ejabberd, in the coordinator's own words, and watches the page in
headless Chromium: intervals between frames, long tasks, JavaScript heap, DOM nodes. Adds rows to
benchmarks/live_page.csv.

    python -m benchmarks.live_page [--seconds N] [--nodes N] [--lanes N] [--no-write] [--picture FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from playwright.async_api import CDPSession, Page

from agents.core.fleet.summary import LANE_ROWS_AT_MOST, ROWS_AT_MOST, fleet_item
from agents.core.model.feeds import (
    ALERTS,
    HOTSPOTS,
    PLACEMENT,
    AlertItem,
    FeedItem,
    FleetSummary,
    HotspotItem,
    LaneRow,
    LaneRows,
    MoveItem,
    PlacementPlan,
    Severity,
    TroubleRow,
    TroubleRows,
    WorkerRow,
    WorkerRows,
)
from agents.core.model.hotspots import HotspotState
from agents.geodata.cities import read_cities
from agents.local.servers.livepage import LivePlace, install_live_page
from agents.settings import Xmpp, read_secret
from agents.xmpp.client import Handlers, Login, Session
from agents.xmpp.pubsub import Publisher
from ejabberd.provision import COORDINATOR, Person, provision_server
from ejabberd.server import Server
from tests.stack.browser import LivePage, chromium

ROWS = Path(__file__).with_name("live_page.csv")
DOMAIN, PERSON = "geolane.test", "ana"
SITES = 60
CAPACITY_EPS = 2000.0
COLUMNS = (
    "time",
    "nodes",
    "lanes",
    "minute",
    "frames",
    "frame_p50_ms",
    "frame_p99_ms",
    "frame_max_ms",
    "long_tasks",
    "long_task_max_ms",
    "busy_share",
    "heap_mb",
    "dom_nodes",
    "items",
    "bad",
    "load1",
)
# In the page: intervals between animation frames, and tasks longer than 50 ms.
WATCH = """() => {
    const seen = window.seen = { frames: [], tasks: [] };
    let last = performance.now();
    const frame = now => { seen.frames.push(now - last); last = now; requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
    new PerformanceObserver(list => seen.tasks.push(...list.getEntries().map(e => e.duration)))
        .observe({ entryTypes: ["longtask"] });
}"""
TAKE = "() => { const { frames, tasks } = window.seen; window.seen.frames = []; window.seen.tasks = []; return { frames, tasks }; }"


class MadeFleet:
    """A fleet whose figures change from second to second, as items of the operator feeds. `second`:
    how many seconds it has had."""

    def __init__(self, nodes: int, lanes: int, seed: int = 1) -> None:
        self._random = np.random.default_rng(seed)
        cities = read_cities()
        big = np.argsort(-cities.people)
        self._sites = [
            (f"s{i}", float(cities.lat[c]), float(cities.lon[c])) for i, c in enumerate(big[:SITES])
        ]
        self.nodes = [f"s{i % SITES}-{i // SITES}" for i in range(nodes)]
        origins = self._random.choice(big[:2000], lanes)
        self._lat, self._lon = cities.lat[origins], cities.lon[origins]
        self._owner = self._random.integers(0, nodes, lanes)
        self._rate = self._random.gamma(2, 60, lanes)
        self.second = 0

    def items(self) -> list[FeedItem]:
        """The items of the next second: the fleet's, and of some seconds a plan, an alert or a
        hotspot."""
        self.second += 1
        out = [fleet_item(self._summary(), 4)]
        if self.second % 3 == 0:
            out.append(self._plan())
        if self.second % 20 == 0:
            title = f"{self.nodes[self.second % len(self.nodes)]} is slow"
            out.append(
                FeedItem(
                    ALERTS, f"a{self.second}", title, title, AlertItem(Severity.WARNING, "slow"), 4
                )
            )
        if self.second % 15 == 0:
            out.append(self._hotspot())
        return out

    def _summary(self) -> FleetSummary:
        r = self._random
        nodes, lanes = len(self.nodes), len(self._owner)
        rate = self._rate * r.uniform(0.9, 1.1, lanes)
        lag = r.integers(0, 100, lanes) + (r.random(lanes) < 0.002) * 5000
        load = np.bincount(self._owner, rate, nodes)
        count = np.bincount(self._owner, minlength=nodes)
        turns, lane_turns = -(-nodes // ROWS_AT_MOST), -(-lanes // LANE_ROWS_AT_MOST)
        turn, lane_turn = self.second % turns, self.second % lane_turns
        return FleetSummary(
            nodes=nodes,
            nodes_available=nodes - 3,
            routers=8,
            lanes=lanes,
            lanes_assigned=lanes,
            lanes_moving=5,
            lanes_orphaned=0,
            rate_eps=float(rate.sum()),
            arrival_eps=float(rate.sum()),
            lag_events=int(lag.sum()),
            p50_ms=float(r.uniform(190, 220)),
            p99_ms=float(r.uniform(290, 330)),
            workers=WorkerRows(
                turn,
                turns,
                tuple(
                    self._worker(i, int(count[i]), float(load[i]))
                    for i in range(turn * ROWS_AT_MOST, min(nodes, (turn + 1) * ROWS_AT_MOST))
                ),
            ),
            troubles=TroubleRows(
                1,
                (
                    TroubleRow(
                        "slow", "node-s1-1", Severity.WARNING, float(self.second), "s1-1 is slow"
                    ),
                ),
            ),
            lane_rows=LaneRows(
                lane_turn,
                lane_turns,
                tuple(
                    LaneRow(
                        n,
                        self.nodes[self._owner[n]],
                        "ok",
                        float(self._lat[n]),
                        float(self._lon[n]),
                        float(rate[n]),
                        int(lag[n]),
                        float(r.uniform(5, 300)),
                    )
                    for n in range(
                        lane_turn * LANE_ROWS_AT_MOST,
                        min(lanes, (lane_turn + 1) * LANE_ROWS_AT_MOST),
                    )
                ),
            ),
        )

    def _worker(self, i: int, lanes: int, rate: float) -> WorkerRow:
        name, lat, lon = self._sites[i % SITES]
        state = "gone" if i % 400 == 7 else "ok"
        return WorkerRow(
            f"node-{self.nodes[i]}",
            name,
            "A region",
            lat,
            lon,
            state,
            lanes,
            rate,
            int(rate / 20),
            250.0,
            CAPACITY_EPS,
        )

    def _plan(self) -> FeedItem:
        moves = []
        for lane in self._random.integers(0, len(self._owner), 10):
            to = int(self._random.integers(0, len(self.nodes)))
            moves.append(
                MoveItem(
                    int(lane), self.nodes[self._owner[lane]], self.nodes[to], self.second, -2.0
                )
            )
            self._owner[lane] = to
        plan = PlacementPlan(self.second, "load", "", tuple(moves))
        return FeedItem(PLACEMENT, f"plan-4-{self.second}", "10 lanes moved: load", "", plan, 4)

    def _hotspot(self) -> FeedItem:
        n = self.second // 15
        lat, lon = float(self._lat[n]), float(self._lon[n])
        spot = HotspotItem(
            f"h{n}", HotspotState.OPEN, "A city", lat, lon, 90.0, 9.0, self.second, self.second
        )
        return FeedItem(HOTSPOTS, f"h{n}", "A city is a hotspot", "", spot, 4)


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Server, Path]]:
    """A real ejabberd with the page, and its folder of passwords."""
    folder = Path(tempfile.mkdtemp(prefix="geolane-live-"))
    os.chmod(folder, 0o755)
    server, secrets = Server(folder / "ejabberd", DOMAIN), folder / "secrets"
    try:
        await server.start()
        await provision_server(server.api, DOMAIN, [], [Person(PERSON, "member")], secrets)
        place = LivePlace(DOMAIN, "/ws", (f"ws://127.0.0.1:{server.http_port}",))
        if not install_live_page(server.web / "live", place):
            raise SystemExit("the page's libraries are missing: make install")
        yield server, secrets
    finally:
        await server.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def publish(server: Server, secrets: Path, fleet: MadeFleet) -> None:
    """Publish as the leader, once a second, until cancelled."""
    xmpp = Xmpp(
        domain=DOMAIN,
        host="127.0.0.1",
        port=server.c2s_port,
        ca_file=str(server.ca_file),
        password_file=str(secrets / COORDINATOR),
    )
    async with Session(Login(xmpp, f"{xmpp.coordinator}/leader", 15.0, 8.0), Handlers()) as session:
        publisher = Publisher(xmpp.pubsub)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(publisher.run(session))
            due = time.monotonic()
            while True:
                for item in fleet.items():
                    publisher.enqueue_item(item)
                due = max(due + 1, time.monotonic())
                await asyncio.sleep(due - time.monotonic())


async def minute_of(page: Page, cdp: CDPSession, seconds: float) -> dict[str, float]:
    """Watch for this long. The heap is measured after a collection."""
    before = await metrics(cdp)
    await asyncio.sleep(seconds)
    seen = await page.evaluate(TAKE)
    after = await metrics(cdp)
    await cdp.send("HeapProfiler.collectGarbage")
    kept = await metrics(cdp)
    frames = np.array(seen["frames"] or [0.0])
    return {
        "frames": len(seen["frames"]),
        "frame_p50_ms": round(float(np.percentile(frames, 50)), 1),
        "frame_p99_ms": round(float(np.percentile(frames, 99)), 1),
        "frame_max_ms": round(float(frames.max()), 1),
        "long_tasks": len(seen["tasks"]),
        "long_task_max_ms": round(max(seen["tasks"], default=0.0)),
        "busy_share": round((after["TaskDuration"] - before["TaskDuration"]) / seconds, 3),
        "heap_mb": round(kept["JSHeapUsedSize"] / 1e6, 1),
        "dom_nodes": round(kept["Nodes"]),
    }


async def metrics(cdp: CDPSession) -> dict[str, float]:
    answer: Any = await cdp.send("Performance.getMetrics")  # CDP's own JSON
    return {m["name"]: m["value"] for m in answer["metrics"]}


async def measure(
    seconds: int, nodes: int, lanes: int, picture: Path | None
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    fleet = MadeFleet(nodes, lanes)
    async with served() as (server, secrets), chromium() as browser:
        publishing = asyncio.create_task(publish(server, secrets, fleet))
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        live = LivePage(page, f"http://127.0.0.1:{server.http_port}/live/")
        await live.open()
        await live.log_in(f"{PERSON}@{DOMAIN}", read_secret(str(secrets / PERSON)))
        await live.shows_fleet()
        await page.wait_for_function(
            "n => document.querySelector('#lanes .count').textContent.startsWith(n)",
            arg=f"{lanes:,} of {lanes:,}",
            timeout=180_000,
        )
        cdp = await page.context.new_cdp_session(page)
        await cdp.send("Performance.enable")
        await page.evaluate(WATCH)
        for minute in range(max(1, round(seconds / 60))):
            row = await minute_of(page, cdp, min(60, seconds))
            bad = await page.locator("#figures dt", has_text="Not readable").count()
            row |= {"items": fleet.second, "bad": bad, "load1": round(os.getloadavg()[0], 1)}
            print(minute + 1, row, flush=True)
            stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
            rows.append(
                {"time": stamp, "nodes": nodes, "lanes": lanes, "minute": minute + 1, **row}
            )
        if picture:
            await page.screenshot(path=picture)
        if live.complaints:
            print("the page complained:", live.complaints[:5])
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--lanes", type=int, default=10_000)
    parser.add_argument("--no-write", action="store_true")
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    rows = asyncio.run(measure(args.seconds, args.nodes, args.lanes, args.picture))
    if not args.no_write:
        fresh = not ROWS.exists()
        with ROWS.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if fresh:
                writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
