"""Runs one contestant in a process of its own: the same records in, the same work, exactly once
out. Prints its figures as one line of JSON.

python -m benchmarks.contestants NAME '{"kafka": {"bootstrap": ...},  "source": ..., "sink": ..., "events": N, ...}'
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil
import uvloop

from agents import settings

RECORDS, COLUMNS = "agents.node.flights:pipeline", "agents.node.flights:column_pipeline"


class Task(msgspec.Struct, frozen=True):
    """`source` and `sink` are topics of `partitions` and `sinks` partitions. The source holds
    `events` records."""

    kafka: settings.Kafka
    source: str
    sink: str
    dead: str
    partitions: int
    sinks: int
    events: int
    lanemap: str = ""


class Figures(msgspec.Struct, frozen=True):
    """`seconds` and `cpu_s` are from the first fetch to the last commit; `rss_mb` is the peak. Both
    memory and CPU are over all of its processes."""

    events: int
    seconds: float
    cpu_s: float
    rss_mb: float


class Watch:
    """Wall and CPU time since it was made, of this process and of those that work for it."""

    def __init__(self, pids: Sequence[int] = ()) -> None:
        self._pids = (os.getpid(), *pids)
        self._at, self._cpu = time.perf_counter(), self._cpu_s()

    def figures(self, events: int) -> Figures:
        most_mb = sum(map(peak_mb, self._pids))
        return Figures(events, time.perf_counter() - self._at, self._cpu_s() - self._cpu, most_mb)

    def _cpu_s(self) -> float:
        return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in self._pids)


def peak_mb(pid: int) -> float:
    """The most memory that a process has had resident. (getrusage would return the parent's if that
    was larger.)"""
    status = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("VmHWM:"))) / 1024


async def geolane(task: Task, kind: str) -> Figures:
    """A node's or a router's engine, as its process runs it. The lease and the commands come from
    here."""
    from agents.core.lanes.lane_map import LaneMap
    from agents.core.model.messages import AssignCommand, Grant, LeaseCommand
    from agents.core.model.topology import MAIN, Partition
    from agents.kafka.leases import LeaseMaker
    from agents.kafka.offsets import Offsets
    from agents.node.runner import Pipelines
    from agents.node.stage import NodeStage
    from agents.router.stage import RouterStage
    from agents.worker.engine import Engine
    from agents.worker.process import tune_interpreter
    from agents.worker.stage import Stage, Topics

    kafka, worker = task.kafka, settings.Worker(pipeline=COLUMNS if kind == "columns" else RECORDS)
    stage: Stage
    if kind != "router":
        topics = Topics(
            lanes=task.source,
            clean=task.sink,
            dead=task.dead,
            node_group=f"bench-{uuid.uuid4().hex}",
        )
        pipelines = Pipelines(worker.pipeline, worker.pipeline_memory_mb)
        pipelines.release_process(pipelines.acquire_process())
        stage = NodeStage(pipelines, worker.max_event_bytes, topics)
    else:
        topics = Topics(
            raw=task.source,
            lanes=task.sink,
            dead=task.dead,
            router_group=f"bench-{uuid.uuid4().hex}",
        )
        lanemap = LaneMap.decode(task.lanemap.encode())
        stage = RouterStage(lanemap, worker.max_event_bytes, worker.future_limit_s * 1000, topics)
    tune_interpreter()
    maker, offsets = LeaseMaker(kafka, 10_000), Offsets(kafka, stage.group)
    await maker.start()
    await offsets.start()
    tid = f"bench-{uuid.uuid4().hex}"
    producer_id, producer_epoch = await maker.make_lease(tid)
    engine = Engine(kafka, worker, stage, "BENCH")
    running = asyncio.create_task(engine.run())
    await engine.execute_command(LeaseCommand(1, "BENCH", tid, producer_id, producer_epoch))
    parts = [Partition(f"{MAIN}/{task.source}", n) for n in range(task.partitions)]
    watch = Watch(stage.pids)
    await engine.execute_command(
        AssignCommand(1, "BENCH", stage.topic, tuple(Grant(p.n, 1, 0) for p in parts))
    )
    done = 0
    while done < task.events:
        await asyncio.sleep(0.05)
        if running.done():
            running.result()
        found = await offsets.read_committed_offsets(parts)
        done = sum(json.loads(f[1])["in"] for f in found.values() if f is not None)
    figures = watch.figures(done)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await maker.stop()
    await offsets.stop()
    return figures


async def kafka_streams(task: Task) -> Figures:
    """A router's engine on Kafka Streams, from its first visible commit on."""
    from agents.core.lanes.lane_map import LaneMap
    from agents.core.model.messages import LeaseCommand
    from agents.core.model.topology import MAIN, Partition
    from agents.kafka.compacted import publish_lane_map
    from agents.kafka.leases import LeaseMaker
    from agents.kafka.offsets import Offsets
    from agents.kafka.topics import Topic, ensure_topics
    from agents.router.streams_config import StreamsSetup
    from agents.router.streams_engine import StreamsEngine
    from agents.worker.stage import Topics

    name, kafka = f"bench-{uuid.uuid4().hex}", task.kafka
    topics = Topics(raw=task.source, lanes=task.sink, dead=task.dead, unplaced=task.dead)
    topics = dataclasses.replace(topics, router_group=name)
    lanemap = LaneMap.decode(task.lanemap.encode())
    maps = f"{name}-maps"
    await ensure_topics(kafka, (Topic(maps, 1, 16, {"cleanup.policy": "compact"}),))
    await publish_lane_map(kafka, lanemap, topic=maps)
    maker, offsets = LeaseMaker(kafka, 10_000), Offsets(kafka, name)
    await maker.start()
    await offsets.start()
    producer_id, producer_epoch = await maker.make_lease(name)
    setup = StreamsSetup(kafka, settings.Router(), lanemap.version, 1, topics, maps)
    engine = StreamsEngine(setup, settings.Worker(), "BENCH")
    running = asyncio.create_task(engine.run())
    await engine.execute_command(LeaseCommand(1, "BENCH", name, producer_id, producer_epoch))
    parts = [Partition(f"{MAIN}/{task.source}", n) for n in range(task.partitions)]
    watch, first, done = None, 0, 0
    while done < task.events:
        await asyncio.sleep(0.02)
        if running.done():
            running.result()
        found = await offsets.read_committed_offsets(parts)
        done = sum(json.loads(f[1])["in"] for f in found.values() if f is not None)
        if watch is None and done:
            watch, first = Watch(engine.pids), done
    assert watch is not None  # noqa: S101
    figures = watch.figures(done - first)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await maker.stop()
    await offsets.stop()
    return figures


async def bare(task: Task) -> Figures:
    """The shortest correct loop over aiokafka that contains the pipeline: no leases, checks, dead
    letters, counts or headers."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
    from aiokafka.structs import OffsetAndMetadata

    from agents.core.lanes.records import Record
    from agents.kafka.connection import client_kwargs
    from agents.node.flights import pipeline

    name = f"bench-{uuid.uuid4().hex}"
    producer: Any = AIOKafkaProducer(
        **client_kwargs(task.kafka),
        transactional_id=name,
        retry_backoff_ms=5,
        max_batch_size=1 << 20,
    )
    consumer: Any = AIOKafkaConsumer(
        **client_kwargs(task.kafka),
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    await producer.start()
    await consumer.start()
    watch = Watch()
    tps = [TopicPartition(task.source, n) for n in range(task.partitions)]
    consumer.assign(tps)
    await consumer.seek_to_beginning(*tps)
    done = 0
    while done < task.events:
        got = await consumer.getmany(timeout_ms=500, max_records=5000)
        if not got:
            continue
        await producer.begin_transaction()
        offsets, sends = {}, []
        for tp, records in got.items():
            batch = producer.create_batch()
            for out in pipeline([Record(r.key, r.value, "", 0, "") for r in records]):
                if out is None:
                    continue
                if batch.append(key=out.key, value=out.value, timestamp=None) is None:
                    sends.append(
                        await producer.send_batch(batch, task.sink, partition=tp.partition)
                    )
                    batch = producer.create_batch()
                    batch.append(key=out.key, value=out.value, timestamp=None)
            sends.append(await producer.send_batch(batch, task.sink, partition=tp.partition))
            offsets[tp] = OffsetAndMetadata(records[-1].offset + 1, "")
            done += len(records)
        await asyncio.gather(*sends)
        await producer.send_offsets_to_transaction(offsets, name)
        await producer.commit_transaction()
    figures = watch.figures(done)
    await producer.stop()
    await consumer.stop()
    return figures


def quix(task: Task) -> Figures:
    """quixstreams with `processing_guarantee="exactly-once"`, values as bytes, the pipeline applied
    to each."""
    from quixstreams import Application
    from quixstreams.kafka import ConnectionConfig

    from agents.core.lanes.records import Record
    from agents.node.flights import enrich_flight

    kafka, name = task.kafka, f"bench-{uuid.uuid4().hex}"
    app = Application(
        broker_address=ConnectionConfig(
            bootstrap_servers=kafka.bootstrap,
            security_protocol=kafka.security,
            sasl_mechanism=kafka.sasl_mechanism,
            sasl_username=kafka.username,
            sasl_password=settings.read_secret(kafka.password_file),
        ),
        consumer_group=name,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_every=5000,
        auto_create_topics=False,
        use_changelog_topics=False,
        loglevel="ERROR",
    )
    source = app.topic(task.source, value_deserializer="bytes", key_deserializer="bytes")
    sink = app.topic(task.sink, value_serializer="bytes", key_serializer="bytes")

    def work(value: bytes) -> bytes | None:
        out = enrich_flight(Record(None, value, "", 0, ""))
        return None if out is None else out.value

    frame = app.dataframe(source)
    frame = frame.apply(work)
    frame = frame[frame.apply(lambda value: value is not None)]
    frame.to_topic(sink)
    watch = Watch()
    app.run(count=task.events, collect=False)
    return watch.figures(task.events)


def main(name: str, task: Task) -> Figures:
    logging.disable(logging.WARNING)
    if name == "quixstreams":
        return quix(task)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if name == "router-streams":
            return runner.run(kafka_streams(task))
        return runner.run(bare(task) if name == "aiokafka" else geolane(task, name))


if __name__ == "__main__":
    print(
        msgspec.json.encode(main(sys.argv[1], msgspec.json.decode(sys.argv[2], type=Task))).decode()
    )
