"""The part that the processes of all kinds of worker share: engine, XMPP link and telemetry start
and end together."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import secrets
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from agents.base import log
from agents.base.errors import LeaseLost
from agents.base.supervisor import LAST_END, first_leaf_error
from agents.base.systemd_notify import Service
from agents.core.model.geo import GeoAnswer, GeoCommand
from agents.core.model.messages import Telemetry
from agents.core.model.topology import name_without_kind
from agents.observe.accelerators import AcceleratorWatch
from agents.observe.metrics.endpoint import served
from agents.settings import Settings
from agents.settings import Worker as WorkerSettings
from agents.worker.engine import Engine
from agents.worker.health import STARTING, Probe, judge_health
from agents.worker.metrics import add_worker_metrics
from agents.worker.shutdown import Left, hand_over_and_leave
from agents.worker.stage import Stage
from agents.worker.tuning import Dials
from agents.worker.worker_engine import DataPlane, MakeEngine
from agents.xmpp.worker_session import AnswerGeo, WorkerLink, refuse_geo

_BOOT_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32

_log = log.get_logger("worker")


def new_boot() -> str:
    """A random name for one life of a process, 60 bits."""
    return "".join(secrets.choice(_BOOT_ALPHABET) for _ in range(12))


async def run_stage(
    settings: Settings, account: str, stage: Stage, service: Service | None = None
) -> None:
    """Run the worker `account` whose engine turns records into others by `stage`. Raises as
    `run_worker`."""

    def make_engine(boot: str, leave: Callable[[], None]) -> DataPlane:
        return Engine(settings.kafka, settings.worker, stage, boot, leave=leave)

    await run_worker(settings, account, make_engine, service)


async def run_worker(
    settings: Settings,
    account: str,
    make_engine: MakeEngine,
    service: Service | None = None,
    answer_geo: AnswerGeo = refuse_geo,
) -> None:
    """Work as `account` (`node-iad-1`) until cancelled, or until `service` asks to leave and
    everything is handed over. `answer_geo`: answers the leader's questions to a geo worker.

    Raises LeaseLost: the process must end, and a new one may start; also NameTaken,
    SettingsError."""
    service = service or Service()
    tune_interpreter()
    boot = new_boot()
    engine = make_engine(boot, service.leave.set)
    site = name_without_kind(account).rpartition("-")[0]

    async def answer_checked(command: GeoCommand) -> GeoAnswer:
        engine.tenure.accept_leader(command.boot, command.leader_epoch)
        return await answer_geo(command)

    def apply_settings(worker: WorkerSettings) -> None:
        engine.apply_settings(worker)
        link.set_ping_period(worker.ping_period_s)

    dials = Dials(settings.worker, apply_settings)
    link = WorkerLink(
        settings.xmpp,
        account,
        boot,
        engine.execute_command,
        site=site,
        capacity_eps=settings.worker.capacity_eps,
        ping_period_s=settings.worker.ping_period_s,
        tuned=dials.apply_tuning,
        last_end=os.environ.get(LAST_END, ""),
        engine=engine.name,
        answer_geo=answer_checked,
    )
    _log.info("worker_started", worker=account, boot=boot)
    try:
        with AcceleratorWatch() as devices:
            async with (
                served(
                    settings.metrics, partial(add_worker_metrics, account, engine, link), service
                ),
                asyncio.TaskGroup() as tasks,
            ):
                tasks.create_task(link.run())
                tasks.create_task(_publish_telemetry(engine, link, boot, dials, devices, service))
                tasks.create_task(_run_engine(engine))
                tasks.create_task(
                    hand_over_and_leave(service, engine.tenure, link, settings.worker.drain_s)
                )
    except BaseExceptionGroup as group:
        if not isinstance(error := first_leaf_error(group), Left):
            raise error from None


async def _run_engine(engine: DataPlane) -> None:
    """Run the engine; when it ends in any way, the process must end."""
    await engine.run()
    raise LeaseLost("the engine has ended")


async def _publish_telemetry(
    engine: DataPlane,
    link: WorkerLink,
    boot: str,
    dials: Dials,
    devices: AcceleratorWatch,
    service: Service,
) -> None:
    """Publish telemetry every period and when asked to leave; announce health when it changes."""
    probe, verdict, seq = Probe(lambda: engine.pids), STARTING, 0
    link.announce_health(verdict.health, verdict.state, verdict.status)
    while True:
        await _sleep_until_leaving(service.leave, dials.worker.telemetry_period_s)
        seq += 1
        vitals = probe.read_vitals()
        lanes, arrivals = engine.take_load()
        tenure = engine.tenure
        now = judge_health(
            verdict,
            vitals,
            leased=tenure.lease is not None,
            draining=tenure.draining or service.leave.is_set(),
            lanes=len(lanes),
            faults=sum(1 for lane in lanes if lane.fault),
            unready=engine.unready,
        )
        if (now.health, now.state) != (verdict.health, verdict.state) or (
            now.state in ("draining", STARTING.state) and now.status != verdict.status
        ):
            link.announce_health(now.health, now.state, now.status)
        verdict = now
        if not link.is_up:
            service.notify_status(f"not connected to XMPP; {now.status}")
        elif tenure.lease is not None:
            service.notify_ready(now.status)
        else:
            service.notify_status(now.status)
        ts = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        link.publish_telemetry(
            Telemetry(
                *(boot, seq, ts, round(vitals.cpu, 3), round(vitals.mem_mb, 1)),
                tuning=dials.version,
                lanes=lanes,
                arrivals=arrivals,
                accelerators=devices.latest(),
                pipeline=engine.code,
                paths=engine.path_reports(),
            )
        )


async def _sleep_until_leaving(leave: asyncio.Event, period_s: float) -> None:
    """Sleep for a period, or until `leave` is set."""
    if leave.is_set():
        await asyncio.sleep(period_s)
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(period_s):
            await leave.wait()


# The interpreter: one thread computes while the event loop serves Kafka and XMPP.

YOUNG = 50_000
SWITCH_S = 0.0005


def tune_interpreter() -> None:
    """Make garbage collections rarer and thread switches faster, for the whole process.

    A batch makes tens of thousands of objects and no cycles. Collecting after 50,000 of them
    instead of 700 reduced the flights pipeline from 17 us of CPU per event to 13 us. While a thread
    computes, the event loop gets its turn within 0.5 ms instead of 5 ms, so fetches and commits
    wait less."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)
    sys.setswitchinterval(SWITCH_S)
