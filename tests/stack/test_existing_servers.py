"""Servers of one's own: a Kafka with SASL over TLS that denies what nobody allowed, an ejabberd
with a certificate authority of its own (ejabberd/own.yml); `geolane provision` makes what is needed
there, and `up` starts the processes only, each with an account of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import msgspec
import pytest

from agents.core.model.topology import WorkerKind
from agents.kafka.offsets import Offsets
from agents.local import headless
from agents.local import stack as local_stack
from agents.local.demo import flights
from agents.local.demo.replay import Replay
from agents.local.servers.folder import RunFolder
from agents.local.stack import ANALYTICS_EMBEDDED, MAPS_OF_SETTINGS, Stack, StackPlan
from agents.settings import Coordinator, Kafka, Settings
from agents.worker.lane import RunningCounts
from tests.ejabberd.own import ADMIN_PASSWORD, OwnServer
from tests.kafka.secured import PASSWORD, USER, SecureBroker, secret
from tests.once import require_settled

pytestmark = pytest.mark.stack

DOMAIN = "own.test"
EVENTS, PLACED = 3000, 100


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="geolane-own-"))
    os.chmod(path, 0o711)
    yield path
    shutil.rmtree(path)


def _settings(folder: Path, broker: SecureBroker, server: OwnServer) -> Settings:
    kafka = Kafka(
        bootstrap=f"127.0.0.1:{broker.secure_port}",
        security="SASL_SSL",
        username="{account}",
        ca_file=str(broker.folder / "ca.pem"),
        admin_username=USER,
        admin_password_file=secret(folder / "kafka-admin", PASSWORD),
    )
    coordinator = Coordinator(lanes=6, raw_partitions=2, inventory=str(folder / "inventory.toml"))
    return msgspec.structs.replace(
        server.settings(folder / "xmpp-admin"), kafka=kafka, coordinator=coordinator
    )


async def _geolane(folder: Path, *words: str, codes: tuple[int, ...] = (0,)) -> str:
    """The command, as it is typed; what it said. `codes`: the exit codes that may be."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agents",
        *words,
        f"--settings={folder}/own.toml",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        said = (await process.communicate())[0].decode()
    assert process.returncode in codes, said
    return said


async def _provision(folder: Path) -> str:
    return await _geolane(folder, "provision", "--people=ana:owner", f"--sample={folder}/sample")


ACCOUNTS = ("geolane", "node-yyz-1", "router-1", "analytics-1", "geo-1", "ana")


async def _require_healthy(folder: Path) -> None:
    """The doctor finds no fault, whoever it looks as, and asks Kafka as nobody else."""
    found = {}
    for account in ACCOUNTS:
        said = await _geolane(folder, "doctor", "--json", f"--as={account}", codes=(0, 1))
        found[account] = json.loads(said)["findings"]
    faults = [(a, f["name"], f["found"]) for a in found for f in found[a] if f["level"] == "fault"]
    assert not faults
    for account, findings in found.items():
        login = next(f for f in findings if (f["group"], f["name"]) == ("kafka", "login"))
        if account == "ana":
            assert (login["level"], "people have no account" in login["found"]) == ("skipped", True)
        else:
            assert f"as {account} (SCRAM-SHA-512)" in login["found"]


async def _events_seen_by_analytics(kafka: Kafka) -> int:
    """How many records it has committed as read."""
    offsets = Offsets(kafka, WorkerKind.ANALYTICS.group)
    await offsets.start()
    try:
        hotspots = WorkerKind.ANALYTICS.partition(0)
        found = (await offsets.read_committed_offsets([hotspots]))[hotspots]
    finally:
        await offsets.stop()
    return RunningCounts.decode(found[1]).taken if found else 0


async def test_the_stream_is_worked_exactly_once_with_the_rights_that_provisioning_gave(
    folder: Path,
) -> None:
    broker, server = SecureBroker(folder / "kafka", denies=True), OwnServer(folder / "xmpp", DOMAIN)
    try:
        await broker.start()
        await server.start()
        base = _settings(folder, broker, server)
        local_stack.write_settings(folder / "own.toml", base)
        (folder / "sample").write_bytes(b"\n".join(flights.sample_events()))
        plan = StackPlan(
            base,
            nodes=2,
            analytics=ANALYTICS_EMBEDDED,
            maps=MAPS_OF_SETTINGS,
            kafka=base.kafka.bootstrap,
            xmpp=DOMAIN,
            secrets=folder / "secrets",
        )
        (folder / "inventory.toml").write_text(local_stack.inventory_to_toml(plan.read_inventory()))

        first, again = await _provision(folder), await _provision(folder)
        assert "made: lane map, version 1" in first
        assert not [line for line in again.splitlines() if line.startswith(("made", "changed"))], (
            again
        )
        for secret_ in (
            PASSWORD,
            ADMIN_PASSWORD,
            (folder / "secrets" / "geolane").read_text().strip(),
        ):
            assert secret_ not in first

        with RunFolder(folder / "run") as run:
            stack = Stack(run, plan, lambda text: None)
            async with stack.working(flights.sample_events(), 1000.0):
                named = islice(flights.name_origins(flights.week_of_events(1)), PLACED)
                stream = chain(named, flights.endless_events())
                replay = Replay(stack.base.kafka, stream, 2, 1000.0, EVENTS)
                async with asyncio.timeout(60):
                    await replay.run()
                    await headless.wait_until_settled(stack, EVENTS)
                a = stack.accounting
                require_settled(a, EVENTS)
                assert (a.placed + a.reasons["unknown_place"], a.unplaced) == (PLACED, 0)
                async with asyncio.timeout(30):
                    while await _events_seen_by_analytics(stack.base.kafka) < EVENTS - a.dead:
                        await asyncio.sleep(0.1)
                await _require_healthy(folder)
                dead = json.loads(await _geolane(folder, "dead", "list", "--json"))
                assert dead["count"] == a.dead
                assert "6/6 lanes" in await _geolane(folder, "ctl", "status", "--user=ana")
                for name in ("geolane", "node-yyz-1", "router-1", "analytics-1", "geo-1"):
                    told = (run.settings / f"{name}.toml").read_text()
                    assert f'username = "{name}"' in told
                    assert USER not in told, "a process is not told how the admin logs in"
                for log in run.log.iterdir():
                    told = log.read_text("utf-8")
                    assert PASSWORD not in told, "no log tells a password"
                    assert "brokers_not_found" not in told, "each may find what it probes"
    finally:
        await server.stop()
        broker.kill()
