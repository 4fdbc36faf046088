"""The whole stack scraped: the leader's numbers, each worker's, and what a drain and a killed node
change in them."""

from __future__ import annotations

import asyncio
import json
import re
import sys

import pytest

from agents.admin.doctor.judge.roles import Whom
from agents.admin.doctor.judge.verdict import Level, Report
from agents.admin.doctor.run import make_report
from agents.core.model.placement import State
from agents.core.model.topology import WorkerKind
from agents.local.stack import ANALYTICS_EMBEDDED
from agents.observe.metrics import declared as m
from agents.settings import gather_settings
from tests.observe.metrics.support import scrape, scrape_until
from tests.stack.conftest import Running

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

METRICS, ANALYTICS = True, ANALYTICS_EMBEDDED
HOTSPOTS = WorkerKind.ANALYTICS.partition(0)


async def test_the_leader_and_every_worker_are_scraped(running: Running) -> None:
    first = running.first_port
    replay, sending = running.replay(3000)
    await running.account(replay, sending)
    workers = running.stack.workers
    leader = await scrape_until(first, lambda s: s.value("geolane_plan_bound"))
    assert leader.value("geolane_leader") == 1
    assert leader.value("geolane_workers", kind="node", health="available") == 3
    assert leader.value("geolane_workers") == len(workers)
    assert leader.value("geolane_partitions", topic="events.lanes", state="assigned") == 12
    assert leader.value("geolane_partitions", topic="hotspots", state="assigned") == 1
    assert leader.value("geolane_partitions", state="orphan") == 0
    assert leader.value("geolane_xmpp_up", worker="coordinator") == 1
    assert leader.value("geolane_kafka_up", worker="coordinator") == 1
    assert (
        (leader.value("geolane_plan_objective") or 0)
        >= (leader.value("geolane_plan_bound") or 0)
        > 0
    )
    assert 0 < (leader.value("geolane_plan_mean_rtt_seconds") or 0) < 1
    for name in (
        "geolane_fences_total",
        "geolane_journal_dropped_total",
        "geolane_lanes_waiting",
        "geolane_paused",
    ):
        assert leader.value(name) == 0
    assert leader.value("geolane_leader_epoch") == running.stack.follower.leader_epoch
    declared = {x.name for x in (*m.EVERY_PROCESS, *m.COORDINATOR)}
    found = {n for n in leader.names if n.startswith("geolane_")}
    found -= {x.name for x in m.WITH_GEO}
    assert found <= declared
    assert declared - found <= {
        "geolane_forecast_error_ratio",
        "geolane_forecast_last_value_error_ratio",
    }
    events = 0.0
    for i, spec in enumerate(workers, 1):
        worker = await scrape(first + i)
        assert worker.value("geolane_worker_info", worker=spec.worker, kind=spec.kind.name) == 1
        if spec.kind.name == "node":
            events += worker.value("geolane_events_in_total") or 0
    assert events == 3000 - running.stack.accounting.unplaced


async def test_the_doctor_finds_nothing_wrong_and_disturbs_nobody(running: Running) -> None:
    """As the coordinator (the command itself), as a node and as a person, all at once: no warning
    either."""
    stack, first_fences = running.stack, running.stack.follower.fences
    epoch, node = stack.follower.leader_epoch, stack.workers[0].worker
    command = (
        "-m",
        "agents",
        "doctor",
        "--settings",
        f"{stack.folder.settings}/geolane.toml",
        "--json",
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        "--secrets",
        str(stack.folder.secrets),
        stdout=asyncio.subprocess.PIPE,
    )

    async def look_as(account: str) -> Report:
        loaded = gather_settings(stack.folder.settings / f"{account}.toml")
        return await make_report(
            loaded, Whom.from_settings(loaded.settings, None), stack.folder.secrets
        )

    reports = await asyncio.gather(look_as(node), look_as("operator"))
    said = json.loads((await process.communicate())[0])
    assert (process.returncode, said["ok"], said["account"]) == (0, True, "geolane"), said
    assert said["counts"]["ok"] >= 46, said
    assert [f for f in said["findings"] if f["level"] not in ("ok", "skipped")] == []
    skipped = {f["name"] for f in said["findings"] if f["level"] == "skipped"}
    # the last three need a right that the coordinator has not: DescribeConfigs on topics
    assert skipped == {"tuning", "pipeline", "keeping", "record sizes", "time stamps"}, said
    assert [f["found"] for f in said["findings"] if f["name"] == "metrics port"] == [
        f"127.0.0.1:{running.first_port} is served by a process of ours"
    ]
    for report in (*reports, await look_as("analytics-1")):
        assert {f.level for f in report.findings} == {Level.OK, Level.SKIPPED}, report.to_text()
        least = 35 if report.account == "analytics-1" else 36  # only a node has a pipeline
        assert report.count(Level.OK) >= least, report.to_text()
    assert (stack.follower.fences, stack.follower.leader_epoch) == (first_fences, epoch)
    assert (await scrape(running.first_port)).value("geolane_fences_total") == 0


async def test_a_killed_node_is_a_fence_and_its_lanes_move(running: Running) -> None:
    first = running.first_port
    before = await scrape(first)
    replay, sending = running.replay(4000)
    await replay.wait_until_sent(1000)
    victim = running.stack.busiest_node().name
    lanes = len(running.stack.follower.lanes_of(victim))
    running.stack.kill_process(victim)

    def moved(name: str, by: int) -> object:
        return lambda s: (s.value(name) or 0) - (before.value(name) or 0) >= by

    after = await scrape_until(first, moved("geolane_moves_total", lanes))  # type: ignore[arg-type]
    assert (after.value("geolane_fences_total") or 0) - (
        before.value("geolane_fences_total") or 0
    ) == 1
    await running.account(replay, sending)
    follower = running.stack.follower
    last = await scrape(first)
    assert last.value("geolane_moves_total", topic="events.lanes") == follower.moves
    assert last.value("geolane_fences_total") == follower.fences


async def test_killed_analytics_costs_no_lane_and_is_back(running: Running) -> None:
    stack, first = running.stack, running.first_port
    before, was = await scrape(first), stack.follower.placed[HOTSPOTS]
    replay, sending = running.replay(2000)
    stack.kill_process("analytics-1")

    def back() -> bool:
        now = stack.follower.placed[HOTSPOTS]
        return now.state is State.ASSIGNED and now.boot != was.boot and now.epoch > was.epoch

    await running.until(back, "the next process has its work")
    await running.account(replay, sending)
    after = await scrape_until(
        first, lambda s: s.value("geolane_workers", kind="analytics", health="available") == 1
    )
    moves = [x.value("geolane_moves_total", topic="events.lanes") for x in (before, after)]
    assert moves[0] == moves[1]


async def test_a_process_whose_port_is_taken_says_so(running: Running) -> None:
    """Its log has the line that an operator will look for."""
    stack = running.stack
    taken = stack.family.children[stack.workers[0].worker]
    file = stack.folder.settings / f"{taken.name}.toml"
    text = file.read_text("utf-8")
    file.write_text(
        re.sub(r"(\[metrics\][^\[]*port = )\d+", rf"\g<1>{running.first_port}", text), "utf-8"
    )
    try:
        starts = taken.starts
        stack.kill_process(taken.name)
        said = f"metrics.port: 127.0.0.1:{running.first_port} is taken"
        await running.until(lambda: said in taken.log_file.read_text("utf-8"), "it says so", 30)
        assert taken.refusals >= 1 or taken.starts > starts
    finally:
        file.write_text(text, "utf-8")
    lanes = {*stack.accounting.lanes}
    await running.until(
        lambda: (
            lanes
            <= {
                p
                for p, r in stack.follower.placed.items()
                if r.worker and r.state.value == "assigned"
            }
        ),
        "every lane is worked",
    )
