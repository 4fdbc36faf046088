"""Settings of the processes: workers, coordinator, analytics, router, metrics."""

from __future__ import annotations

from typing import Annotated, TypedDict

import msgspec

from agents.settings.calm import Calm
from agents.settings.fields import about, about_file, choice, described_by

_NAME = r"\A[^\s@/]+\Z"
_URL = r"\Ahttps?://[^\s/@]+(/\S*)?\Z"
_URL_FORM = "http:// or https://, with a host"
_COMMANDS = r"\A(|[a-z]+(,[a-z]+)*)\Z"
_FUNCTION = r"\A[\w.]+:\w+\Z"
PASS_THROUGH = "agents.node.pass_through:pipeline"
MOST_MS, MOST_ROUND_TRIPS = 1e6, 100.0
"""The largest costs, as in the kernels."""


class Worker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nodes, routers and geo; analytics use what concerns telemetry, pings and the drain."""

    pipeline: Annotated[
        str,
        about(
            "What a node does with its events (README). If left out: they pass unchanged.",
            form="MODULE:FUNCTION",
            pattern=_FUNCTION,
        ),
    ] = PASS_THROUGH
    pipeline_timeout_s: Annotated[
        float,
        about(
            "A call of the pipeline that takes longer is ended; the record that delays it "
            "becomes a dead letter.",
            "s",
            ge=0.1,
            le=3600,
        ),
    ] = 30.0
    pipeline_memory_mb: Annotated[
        int,
        about("Memory that the pipeline's process may use; 0: no limit.", "MB", ge=0, le=1 << 24),
    ] = 2048
    commit_gap_ms: Annotated[
        int,
        about(
            "Least time between two commits: longer means more throughput and more delay.",
            "ms",
            ge=0,
            le=60_000,
        ),
    ] = 100
    batch_records: Annotated[
        int, about("Most records in one transaction.", "records", ge=1, le=1_000_000)
    ] = 5000
    telemetry_period_s: Annotated[
        float,
        about(
            "How often a worker reports its load; one that is silent for 3 s is pinged.",
            "s",
            ge=0.1,
            le=2,
        ),
    ] = 1.0
    ping_period_s: Annotated[
        float,
        about(
            "After this long without a word from the XMPP server, the server is pinged.",
            "s",
            ge=0.5,
            le=30,
        ),
    ] = 2.0
    future_limit_s: Annotated[
        int,
        about(
            "How far an event's ts may be ahead of the broker's clock; one further ahead is a "
            "dead letter.",
            "s",
            ge=0,
        ),
    ] = 300
    max_event_bytes: Annotated[
        int, about("A larger event is a dead letter.", "bytes", ge=1, le=8 << 20)
    ] = 1 << 20
    capacity_eps: Annotated[
        float,
        about(
            "A ceiling of this worker's own, below its capacity in the inventory; 0: none, the "
            "inventory decides.",
            "events/s",
            ge=0,
        ),
    ] = 0.0
    drain_s: Annotated[
        float,
        about(
            "A worker that is told to stop hands its lanes over within this time; 0: it ends at "
            "once.",
            "s",
            ge=0,
            le=3600,
        ),
    ] = 20.0
    cell_resolution: Annotated[
        int, about("H3 resolution of the lane map that `geolane up` makes.", ge=0, le=15)
    ] = 4


class CalmKeys(TypedDict, total=False):
    """The rules that keep the fleet calm (docs/planning.md)."""

    target_utilisation: Annotated[
        float, about("A node is given at most this share of its capacity.", "share", gt=0, le=1)
    ]
    act_above: Annotated[
        float,
        about(
            "A node is relieved when its utilisation is above this many times the mean.",
            "times",
            ge=1,
        ),
    ]
    settle_to: Annotated[
        float,
        about(
            "It is relieved down to this many times the mean; not above act_above.", "times", ge=1
        ),
    ]
    comfortable: Annotated[
        float,
        about(
            "Below this utilisation no node is relieved: imbalance costs nothing there.",
            "share",
            ge=0,
            le=1,
        ),
    ]
    window_s: Annotated[
        float, about("Length of a window in which a move must look right.", "s", gt=0)
    ]
    windows: Annotated[int, about("How many such windows in a row.", "windows", ge=1)]
    horizon_s: Annotated[float, about("A move must earn its cost within this time.", "s", ge=0)]
    pause_ms: Annotated[
        float, about("The cost of a move: the events of this time wait.", "ms", ge=0)
    ]
    cooldown_s: Annotated[
        float,
        about(
            "A lane that moved is left alone for this long; doubled each time it returns to "
            "where it just was.",
            "s",
            ge=0,
        ),
    ]
    cooldown_most_s: Annotated[
        float, about("The longest such time; not below cooldown_s.", "s", ge=0)
    ]
    budget_share: Annotated[
        float,
        about(
            "The share of the load that may be moving at once, or one lane.", "share", gt=0, le=1
        ),
    ]
    in_flight: Annotated[
        int,
        about(
            "Most moves from or to one node at once; halved on trouble, one more after each "
            "window without.",
            "moves",
            ge=1,
        ),
    ]
    ramp_s: Annotated[
        float, about("A node that joins gets its room gradually, over this time.", "s", ge=0)
    ]
    ramp_from: Annotated[
        float, about("The share of its room that it gets at first.", "share", ge=0, le=1)
    ]
    forecast_s: Annotated[float, about("How far ahead the load is forecast.", "s", ge=0)]


class Coordinator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the coordinator finds what it needs, its limits, and how it places lanes."""

    inventory: Annotated[
        str, about("Sites, workers and rules (TOML).", form="a file's path", min_length=1)
    ] = "inventory.toml"
    journal: Annotated[
        str, about("Where decisions are kept (SQLite).", form="a file's path", min_length=1)
    ] = "journal.sqlite3"
    rtt_table: Annotated[
        str, about_file("RTTs measured between regions (CSV). If left out: Azure's.")
    ] = ""
    lanes: Annotated[int, about("Partitions of events.lanes.", "lanes", ge=1, le=100_000)] = 32
    raw_partitions: Annotated[
        int, about("Partitions of events.raw.", "partitions", ge=1, le=100_000)
    ] = 4
    transaction_timeout_ms: Annotated[
        int,
        about(
            "After this time the broker aborts a transaction that a worker left open.",
            "ms",
            ge=1000,
            le=900_000,
        ),
    ] = 10_000
    kernel: Annotated[
        str,
        choice(
            "What computes the scores; auto takes the first that works here.",
            "auto",
            "gpu",
            "cpu",
            "numpy",
        ),
    ] = "auto"
    data_at: Annotated[
        str,
        choice(
            "Where the lanes' data is: at the brokers that lead their partitions, or where events "
            "arise (only if sources write to a broker near them).",
            "kafka",
            "origin",
        ),
    ] = "kafka"
    round_trips: Annotated[
        float,
        about(
            "Round trips to Kafka that an event waits for before its result is visible.",
            ge=0,
            le=MOST_ROUND_TRIPS,
        ),
    ] = 5.5
    move_ms: Annotated[
        float,
        about("What a hand-over costs each event, as a term of the score.", "ms", ge=0, le=MOST_MS),
    ] = 2.0
    miss_ms: Annotated[
        float, about("What a node without the lane's caches costs.", "ms", ge=0, le=MOST_MS)
    ] = 1.0
    warm_s: Annotated[
        float, about("How long a lane's previous node keeps its caches warm.", "s", ge=0)
    ] = 300.0
    degraded_ms: Annotated[
        float, about("What a node whose devices report errors costs.", "ms", ge=0, le=MOST_MS)
    ] = 20.0
    day_s: Annotated[float, about("Length of the stream's day, for the forecast.", "s", gt=0)] = (
        86_400.0
    )
    traffic_period_s: Annotated[
        float,
        about(
            "How often the geo worker is asked for the traffic of the 10 lanes that matter most.",
            "s",
            ge=10,
            le=3600,
        ),
    ] = 60.0
    second_person: Annotated[
        str,
        about(
            "Operator commands that somebody else than the person who asks must confirm in the ops "
            "room; all: every one that changes something (docs/fronts.md).",
            form="names of commands with commas between, or all",
            pattern=_COMMANDS,
        ),
    ] = ""
    journal_mb: Annotated[
        int, about("How much of the decisions' inputs is kept, for `geolane replan`.", "MB", ge=1)
    ] = 256
    calm: Annotated[Calm, described_by(CalmKeys)] = Calm()


class Flink(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The Flink 2.2 that runs the job of analytics.engine = "flink" (docs/flink.md)."""

    gateway_url: Annotated[
        str, about("REST address of the SQL Gateway.", form=_URL_FORM, pattern=_URL)
    ] = "http://127.0.0.1:8083"
    jobmanager_url: Annotated[
        str, about("REST address of the JobManager.", form=_URL_FORM, pattern=_URL)
    ] = "http://127.0.0.1:8081"
    ca_file: Annotated[
        str, about_file("CA certificate of both, with https; empty: the system's CAs.")
    ] = ""
    cert_file: Annotated[
        str, about_file("Our certificate and its key, if they ask for one; else empty.")
    ] = ""
    parallelism: Annotated[
        int, about("How many subtasks each step of the job has.", "subtasks", ge=1, le=1000)
    ] = 1
    checkpoint_ms: Annotated[
        int,
        about(
            "How often the job makes a checkpoint; what it finds shows with the next one.",
            "ms",
            ge=100,
            le=600_000,
        ),
    ] = 1000


class Analytics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How `geolane analytics` finds hotspots (docs/hotspots.md). It runs where the inventory has an
    [[analytics]]."""

    engine: Annotated[
        str,
        choice(
            "What finds them: embedded computes in this process, flink runs a job on Apache Flink.",
            "embedded",
            "flink",
        ),
    ] = "embedded"
    lateness_s: Annotated[
        float,
        about(
            "An event that is this much older than the newest of its partition is late: it is "
            "not counted.",
            "s",
            gt=0,
            le=3600,
        ),
    ] = 5.0
    idle_s: Annotated[
        float,
        about("A partition without events for this time is not waited for.", "s", ge=1, le=86_400),
    ] = 10.0
    floor_events: Annotated[
        int,
        about(
            "Added to the events that a place is expected to have, so that one without a past "
            "needs a rise, too.",
            "events",
            ge=0,
            le=1_000_000,
        ),
    ] = 12
    threshold_nats: Annotated[
        float,
        about(
            "Evidence that a rise needs where one event a second is usual; each more makes a false "
            "alarm 2.7 times as rare.",
            "nats",
            ge=1,
            le=1000,
        ),
    ] = 17.0
    flink: Flink = Flink()


class Router(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How `geolane router` sorts raw events into lanes (docs/router-engines.md). The coordinator
    must have the same engine in its settings."""

    engine: Annotated[
        str,
        choice(
            "What sorts them: python sorts in this process, kafka-streams in a Java program that "
            "this process looks after.",
            "python",
            "kafka-streams",
        ),
    ] = "python"
    heap_mb: Annotated[int, about("Heap of the Java program.", "MB", ge=128, le=1 << 17)] = 512
    group_protocol: Annotated[
        str,
        choice(
            "How Kafka Streams shares the raw partitions out. auto: by its own protocol (KIP-1071) "
            "where the brokers have it; classic: by that of consumers. All routers must agree.",
            "auto",
            "classic",
        ),
    ] = "auto"
    session_ms: Annotated[
        int,
        about(
            "How long other routers wait for one that is silent, with the classic protocol; with "
            "the other it is the brokers' group.streams.session.timeout.ms.",
            "ms",
            ge=1000,
            le=300_000,
        ),
    ] = 6000


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a process serves `/metrics` (Prometheus)."""

    host: Annotated[
        str, about("Address to listen on.", form="a host's name or address", pattern=_NAME)
    ] = "127.0.0.1"
    port: Annotated[int, about("Port to listen on; 0: none.", ge=0, le=65_535)] = 0
