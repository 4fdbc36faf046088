"""The settings: tables and keys with their types, limits, units, defaults and what they do. Nothing
is said of them anywhere else."""

from __future__ import annotations

from typing import Annotated, TypedDict

import msgspec

from agents.settings.calm import Calm
from agents.settings.fields import about, choice, told_by

_BROKERS = r"\A[^\s,]+:\d+(,[^\s,]+:\d+)*\Z"
_NAME = r"\A[^\s@/]+\Z"
_LOOPBACK = r"(127\.\d+\.\d+\.\d+|localhost|\[::1\])"
_API_URL = rf"\A(|https://[^\s/@]+/\S+|http://{_LOOPBACK}(:\d+)?/\S+)\Z"
_JID = r"\A(|[^\s@/:]+@[^\s@/:]+)\Z"
_FUNCTION = r"\A[\w.]+:\w+\Z"
ACCOUNT = "{account}"
MOST_MS = 1e6
"""As in the kernels: more ms than that is none."""


def _file(text: str) -> msgspec.Meta:
    return about(text, form="a file's path, or empty")


_KEPT = "kept at least so long; 0: as the broker keeps what it is told nothing of"


class Topics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The topics that provisioning makes; their partitions are coordinator.lanes and
    coordinator.raw_partitions."""

    replication: Annotated[
        int,
        about(
            "Copies of each partition; 0: 3, or as many as there are brokers.",
            "brokers",
            ge=0,
            le=100,
        ),
    ] = 0
    min_isr: Annotated[
        int,
        about(
            "Copies that a write waits for (min.insync.replicas); 0: as the broker says.",
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
        choice("How the password is proved, with SASL.", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
    ] = "SCRAM-SHA-512"
    username: Annotated[
        str,
        about(
            "The account, with SASL. {account} in it stands for the process's own: geolane, "
            "node-NAME, router-NAME."
        ),
    ] = ""
    password_file: Annotated[
        str,
        _file(
            "File with the account's password, mode 0600; it may hold {account}, too. Left out: "
            "the systemd credential "
            "kafka-USERNAME, else USERNAME."
        ),
    ] = ""
    ca_file: Annotated[
        str,
        _file(
            "Certificates (PEM) that the brokers' are checked against, with SSL. Left out: the "
            "system's."
        ),
    ] = ""
    admin_username: Annotated[
        str,
        about(
            "The account with which `geolane provision` makes topics, accounts and rights. Left "
            "out: topics alone, by username."
        ),
    ] = ""
    admin_password_file: Annotated[
        str,
        _file(
            "File with that account's password, mode 0600. Left out: the systemd credential "
            "kafka-NAME, else NAME."
        ),
    ] = ""
    topics: Topics = Topics()

    def of(self, account: str) -> Kafka:
        """As the process with the XMPP account `account` uses it: `{account}` is filled in."""
        return msgspec.structs.replace(
            self,
            username=self.username.replace(ACCOUNT, account),
            password_file=self.password_file.replace(ACCOUNT, account),
        )

    @property
    def admin(self) -> Kafka:
        """As who provisions uses it."""
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
            "Where the server is reached, with STARTTLS.",
            form="a host's name or address",
            pattern=_NAME,
        ),
    ] = "127.0.0.1"
    port: Annotated[int, about("The server's port for clients.", ge=1, le=65_535)] = 5222
    ca_file: Annotated[
        str,
        _file("Certificates (PEM) that the server's is checked against. Left out: the system's."),
    ] = ""
    password_file: Annotated[
        str,
        _file(
            "File with the password of the process's account (geolane, node-NAME, router-NAME), "
            "mode 0600. Left out: the "
            "systemd credential of the account's name."
        ),
    ] = ""
    sasl: Annotated[
        str,
        choice(
            "How the process proves who it is. SCRAM: SCRAM-SHA-256 or -512, and nothing that "
            "sends the password; "
            "EXTERNAL: by cert_file, without a password (docs/deploy.md).",
            "SCRAM",
            "EXTERNAL",
        ),
    ] = "SCRAM"
    cert_file: Annotated[
        str,
        _file(
            "The process's own certificate and its private key (PEM), mode 0600, for sasl "
            "EXTERNAL. {account} in it stands "
            "for the process's account. Left out: the systemd credential ACCOUNT.pem."
        ),
    ] = ""

    def of(self, account: str) -> Xmpp:
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
    """The admin API of the XMPP server, for `geolane provision` and whoever else makes accounts
    (docs/deploy.md)."""

    api_url: Annotated[
        str,
        about(
            "Where it answers over HTTP, with the password of api_user.",
            form="https://HOST:PORT/api (http:// on loopback only), or empty",
            pattern=_API_URL,
        ),
    ] = ""
    api_socket: Annotated[
        str,
        _file(
            "Its unix socket, in place of api_url: who may open it is admin, without a password."
        ),
    ] = ""
    api_user: Annotated[
        str,
        about(
            "The JID of the account that api_permissions let in.",
            form="NAME@DOMAIN, or empty",
            pattern=_JID,
        ),
    ] = ""
    api_password_file: Annotated[
        str,
        _file(
            "File with that account's password, mode 0600. Left out: the systemd credential "
            "ejabberd-NAME, else NAME."
        ),
    ] = ""
    ca_file: Annotated[
        str,
        _file(
            "Certificates (PEM) that the API's is checked against. Left out: xmpp.ca_file, else "
            "the system's."
        ),
    ] = ""


class Worker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nodes and routers."""

    pipeline: Annotated[
        str,
        about(
            "What a node does with its events (README).", form="MODULE:FUNCTION", pattern=_FUNCTION
        ),
    ] = "agents.node.flights:pipeline"
    pipeline_timeout_s: Annotated[
        float,
        about(
            "A call of the pipeline that takes longer is ended; the record that holds it up is a "
            "dead letter.",
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
            "Between two commits, at least: longer is more throughput and more delay.",
            "ms",
            ge=0,
            le=60_000,
        ),
    ] = 100
    batch_records: Annotated[
        int, about("In one transaction, at most.", "records", ge=1, le=1_000_000)
    ] = 5000
    telemetry_period_s: Annotated[
        float,
        about(
            "How often load is told; who is silent for 3 s is asked whether it lives.",
            "s",
            ge=0.1,
            le=2,
        ),
    ] = 1.0
    ping_period_s: Annotated[
        float,
        about(
            "After so long without a word of the XMPP server's, it is asked whether it is there.",
            "s",
            ge=0.5,
            le=30,
        ),
    ] = 2.0
    future_limit_s: Annotated[
        int,
        about(
            "How far an event's ts may lie ahead of the broker's clock; further is a dead letter.",
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
            "What this worker says it can do; it may only lower what the inventory says.",
            "events/s",
            gt=0,
        ),
    ] = 2000.0
    drain_s: Annotated[
        float,
        about(
            "Told to stop, a worker hands over what it has, within this time; 0: it just ends.",
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
            "A node is relieved when its utilisation is above so many times the mean.",
            "times",
            ge=1,
        ),
    ]
    settle_to: Annotated[
        float, about("And then down to so many times the mean; not above act_above.", "times", ge=1)
    ]
    comfortable: Annotated[
        float,
        about(
            "Below this utilisation no node is relieved: imbalance costs nobody anything.",
            "share",
            ge=0,
            le=1,
        ),
    ]
    window_s: Annotated[
        float, about("Length of a window in which a move must look right.", "s", gt=0)
    ]
    windows: Annotated[int, about("How many such windows, one after the other.", "windows", ge=1)]
    horizon_s: Annotated[float, about("A move has to earn what it costs in this time.", "s", ge=0)]
    pause_ms: Annotated[
        float, about("A move costs the events of this time their wait.", "ms", ge=0)
    ]
    cooldown_s: Annotated[
        float,
        about(
            "A lane that moved is left alone so long; doubled each time it comes back to where it "
            "just was.",
            "s",
            ge=0,
        ),
    ]
    cooldown_most_s: Annotated[float, about("Up to so long; not below cooldown_s.", "s", ge=0)]
    budget_share: Annotated[
        float,
        about(
            "This share of the load may be on the move at once, or one lane.", "share", gt=0, le=1
        ),
    ]
    in_flight: Annotated[
        int,
        about(
            "Moves from or to one node; halved on trouble, one more after each window without.",
            "moves",
            ge=1,
        ),
    ]
    ramp_s: Annotated[
        float, about("A node that joins gets its room gradually, in this time.", "s", ge=0)
    ]
    ramp_from: Annotated[float, about("From this share of it.", "share", ge=0, le=1)]
    forecast_s: Annotated[float, about("How far ahead the load is looked at.", "s", ge=0)]


class Coordinator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the coordinator finds what it needs, its limits, and how it places lanes."""

    inventory: Annotated[
        str, about("Sites, nodes, routers and rules (TOML).", form="a file's path", min_length=1)
    ] = "inventory.toml"
    journal: Annotated[
        str, about("Where decisions are kept (SQLite).", form="a file's path", min_length=1)
    ] = "journal.sqlite3"
    rtt_table: Annotated[
        str, _file("RTTs measured between regions (CSV). Left out: those between Azure's.")
    ] = ""
    lanes: Annotated[int, about("Partitions of events.lanes.", "lanes", ge=1, le=100_000)] = 32
    raw_partitions: Annotated[
        int, about("Partitions of events.raw.", "partitions", ge=1, le=100_000)
    ] = 4
    transaction_timeout_ms: Annotated[
        int,
        about("After that the broker aborts what a worker left open.", "ms", ge=1000, le=900_000),
    ] = 10_000
    kernel: Annotated[
        str,
        choice(
            "What computes the scores; auto is the first that works here.",
            "auto",
            "gpu",
            "cpu",
            "numpy",
        ),
    ] = "auto"
    move_ms: Annotated[
        float,
        about("What a hand-over costs each event, as a term of the score.", "ms", ge=0, le=MOST_MS),
    ] = 2.0
    miss_ms: Annotated[
        float, about("What a node without the lane's caches costs.", "ms", ge=0, le=MOST_MS)
    ] = 1.0
    warm_s: Annotated[
        float, about("For how long the node before keeps a lane's caches warm.", "s", ge=0)
    ] = 300.0
    degraded_ms: Annotated[
        float, about("What a node costs whose devices report errors.", "ms", ge=0, le=MOST_MS)
    ] = 20.0
    day_s: Annotated[float, about("Length of the stream's day, for the forecast.", "s", gt=0)] = (
        86_400.0
    )
    journal_mb: Annotated[
        int, about("So much of the inputs of decisions is kept, for `geolane replan`.", "MB", ge=1)
    ] = 256
    calm: Annotated[Calm, told_by(CalmKeys)] = Calm()


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a process answers `/metrics` (Prometheus)."""

    host: Annotated[
        str, about("Address to listen on.", form="a host's name or address", pattern=_NAME)
    ] = "127.0.0.1"
    port: Annotated[int, about("Port to listen on; 0: nowhere.", ge=0, le=65_535)] = 0


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file; every table may be left out."""

    kafka: Kafka = Kafka()
    xmpp: Xmpp = Xmpp()
    ejabberd: Ejabberd = Ejabberd()
    worker: Worker = Worker()
    coordinator: Coordinator = Coordinator()
    metrics: Metrics = Metrics()

    def of(self, account: str) -> Settings:
        """As the process with the XMPP account `account` reads them."""
        return msgspec.structs.replace(
            self, kafka=self.kafka.of(account), xmpp=self.xmpp.of(account)
        )


ORDERED = (
    ("coordinator.calm.settle_to", "coordinator.calm.act_above"),
    ("coordinator.calm.cooldown_s", "coordinator.calm.cooldown_most_s"),
)
"""The first is not above the second."""
