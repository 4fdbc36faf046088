"""The settings: tables and keys with their types, limits, units, defaults and what they do. Nothing
is said of them anywhere else."""

from __future__ import annotations

from typing import Annotated, TypedDict

import msgspec

from agents.settings.calm import Calm
from agents.settings.fields import about, about_file, choice, described_by
from agents.settings.geo import Geo

_BROKERS = r"\A[^\s,]+:\d+(,[^\s,]+:\d+)*\Z"
_NAME = r"\A[^\s@/]+\Z"
_LOOPBACK = r"(127\.\d+\.\d+\.\d+|localhost|\[::1\])"
_API_URL = rf"\A(|https://[^\s/@]+/\S+|http://{_LOOPBACK}(:\d+)?/\S+)\Z"
_URL = r"\Ahttps?://[^\s/@]+(/\S*)?\Z"
_URL_FORM = "http:// or https://, with a host"
_JID = r"\A(|[^\s@/:]+@[^\s@/:]+)\Z"
_COMMANDS = r"\A(|[a-z]+(,[a-z]+)*)\Z"
_FUNCTION = r"\A[\w.]+:\w+\Z"
ACCOUNT = "{account}"
PASS_THROUGH = "agents.node.pass_through:pipeline"
MOST_MS, MOST_ROUND_TRIPS = 1e6, 100.0
"""The largest costs, as in the kernels."""


_BUFFER = (
    "The {} buffer of our sockets to Kafka, which limits what is under way in one round trip; 0: "
    "the system's, which grows as needed."
)
_KEPT = "kept for at least this long; 0: the broker's default"


class Topics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The topics that `geolane provision` creates; their partitions are coordinator.lanes and
    coordinator.raw_partitions."""

    replication: Annotated[
        int,
        about(
            "Copies of each partition; 0: 3, or the number of brokers if that is less.",
            "brokers",
            ge=0,
            le=100,
        ),
    ] = 0
    min_isr: Annotated[
        int,
        about(
            "Copies that a write waits for (min.insync.replicas); 0: the broker's default.",
            "brokers",
            ge=0,
            le=100,
        ),
    ] = 0
    raw_retention_h: Annotated[float, about(f"events.raw: {_KEPT}.", "h", ge=0)] = 0.0
    lanes_retention_h: Annotated[float, about(f"events.lanes: {_KEPT}.", "h", ge=0)] = 0.0
    clean_retention_h: Annotated[float, about(f"events.clean: {_KEPT}.", "h", ge=0)] = 0.0
    dead_retention_h: Annotated[float, about(f"events.dead: {_KEPT}.", "h", ge=0)] = 0.0
    unplaced_retention_h: Annotated[float, about(f"events.unplaced: {_KEPT}.", "h", ge=0)] = 0.0


class Kafka(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the brokers are reached."""

    bootstrap: Annotated[
        str,
        about(
            "The brokers to ask first.",
            form="HOST:PORT, several with commas between",
            pattern=_BROKERS,
        ),
    ] = "127.0.0.1:9092"
    security: Annotated[
        str, choice("Kafka's security.protocol.", "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        str,
        choice(
            "How a process proves its password, with SASL.",
            "PLAIN",
            "SCRAM-SHA-256",
            "SCRAM-SHA-512",
        ),
    ] = "SCRAM-SHA-512"
    username: Annotated[
        str,
        about(
            "The account, with SASL. {account} in it is replaced by the process's own: geolane, "
            "node-NAME, router-NAME, analytics-NAME, geo-NAME."
        ),
    ] = ""
    password_file: Annotated[
        str,
        about_file(
            "File with the account's password, mode 0600; it may contain {account}, too. If left "
            "out: the systemd credential kafka-USERNAME, else USERNAME."
        ),
    ] = ""
    ca_file: Annotated[
        str,
        about_file(
            "CA certificates (PEM) that the brokers' certificates are checked against, with SSL. "
            "If left out: the system's."
        ),
    ] = ""
    admin_username: Annotated[
        str,
        about(
            "The account with which `geolane provision` creates topics, accounts and rights. If "
            "left out: only topics, by username."
        ),
    ] = ""
    admin_password_file: Annotated[
        str,
        about_file(
            "File with that account's password, mode 0600. If left out: the systemd credential "
            "kafka-NAME, else NAME."
        ),
    ] = ""
    send_buffer_bytes: Annotated[int, about(_BUFFER.format("send"), "bytes", ge=0, le=1 << 30)] = 0
    receive_buffer_bytes: Annotated[
        int, about(_BUFFER.format("receive"), "bytes", ge=0, le=1 << 30)
    ] = 0
    topics: Topics = Topics()

    def for_account(self, account: str) -> Kafka:
        """As the process with the XMPP account `account` uses it: `{account}` is filled in."""
        return msgspec.structs.replace(
            self,
            username=self.username.replace(ACCOUNT, account),
            password_file=self.password_file.replace(ACCOUNT, account),
        )

    @property
    def admin(self) -> Kafka:
        """As the account that provisions uses it."""
        if not self.admin_username:
            return self
        return msgspec.structs.replace(
            self, username=self.admin_username, password_file=self.admin_password_file
        )


class Xmpp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The XMPP server. Agents log in at fleet.DOMAIN."""

    domain: Annotated[str, about("The people's domain.", form="a domain's name", pattern=_NAME)] = (
        "geolane.test"
    )
    host: Annotated[
        str,
        about(
            "The server's host, reached with STARTTLS.",
            form="a host's name or address",
            pattern=_NAME,
        ),
    ] = "127.0.0.1"
    port: Annotated[int, about("The server's port for clients.", ge=1, le=65_535)] = 5222
    ca_file: Annotated[
        str,
        about_file(
            "CA certificates (PEM) that the server's certificate is checked against. If left "
            "out: the system's."
        ),
    ] = ""
    password_file: Annotated[
        str,
        about_file(
            "File with the password of the process's account (geolane, node-NAME, router-NAME, "
            "analytics-NAME, geo-NAME), mode 0600. If left out: the systemd credential of the "
            "account's name."
        ),
    ] = ""
    sasl: Annotated[
        str,
        choice(
            "How the process authenticates. SCRAM: by SCRAM-SHA-256 or -512, never by sending "
            "the password; EXTERNAL: by cert_file, without a password (docs/deploy.md).",
            "SCRAM",
            "EXTERNAL",
        ),
    ] = "SCRAM"
    cert_file: Annotated[
        str,
        about_file(
            "The process's own certificate and its private key (PEM), mode 0600, for sasl "
            "EXTERNAL. {account} in it is replaced by the process's account. If left out: the "
            "systemd credential ACCOUNT.pem."
        ),
    ] = ""

    def for_account(self, account: str) -> Xmpp:
        """As the process with the XMPP account `account` uses it: `{account}` is filled in."""
        return msgspec.structs.replace(self, cert_file=self.cert_file.replace(ACCOUNT, account))

    @property
    def fleet(self) -> str:
        return f"fleet.{self.domain}"

    @property
    def room(self) -> str:
        return f"ops@conference.{self.domain}"

    @property
    def pubsub(self) -> str:
        return f"pubsub.fleet.{self.domain}"

    @property
    def coordinator(self) -> str:
        """The bare JID of the coordinator; its leader is `/leader` of it."""
        return f"geolane@fleet.{self.domain}"


class Ejabberd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The admin API of the XMPP server, for `geolane provision` and the other commands that make
    accounts (docs/deploy.md)."""

    api_url: Annotated[
        str,
        about(
            "Its address over HTTP, for api_user with a password.",
            form="a URL: https://HOST:PORT/api (http:// on loopback only), or empty",
            pattern=_API_URL,
        ),
    ] = ""
    api_socket: Annotated[
        str,
        about_file(
            "Its unix socket, instead of api_url: a process that may open it is admin, without a "
            "password."
        ),
    ] = ""
    api_user: Annotated[
        str,
        about(
            "The JID of an account that api_permissions admits.",
            form="NAME@DOMAIN, or empty",
            pattern=_JID,
        ),
    ] = ""
    api_password_file: Annotated[
        str,
        about_file(
            "File with that account's password, mode 0600. If left out: the systemd credential "
            "ejabberd-NAME, else NAME."
        ),
    ] = ""
    ca_file: Annotated[
        str,
        about_file(
            "CA certificates (PEM) that the API's certificate is checked against. If left out: "
            "xmpp.ca_file, else the system's."
        ),
    ] = ""


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


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file; every table may be left out."""

    kafka: Kafka = Kafka()
    xmpp: Xmpp = Xmpp()
    ejabberd: Ejabberd = Ejabberd()
    worker: Worker = Worker()
    coordinator: Coordinator = Coordinator()
    router: Router = Router()
    analytics: Analytics = Analytics()
    geo: Geo = Geo()
    metrics: Metrics = Metrics()

    def for_account(self, account: str) -> Settings:
        """As the process with the XMPP account `account` reads them."""
        return msgspec.structs.replace(
            self, kafka=self.kafka.for_account(account), xmpp=self.xmpp.for_account(account)
        )


ORDERED = (
    ("coordinator.calm.settle_to", "coordinator.calm.act_above"),
    ("coordinator.calm.cooldown_s", "coordinator.calm.cooldown_most_s"),
)
"""The first is not above the second."""
