"""Settings are one TOML file, read once at start; a wrong key or value is an error that names the file and the key."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

import msgspec

from agents.core.planning.plan import Calm
from agents.errors import SettingsError


class Kafka(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the brokers are reached. `security` is Kafka's security.protocol; the password is read from a file of mode 0600."""

    bootstrap: str = "127.0.0.1:9092"
    security: str = "PLAINTEXT"
    sasl_mechanism: str = "SCRAM-SHA-512"
    username: str = ""
    password_file: str = ""
    ca_file: str = ""


class Xmpp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`domain` is the people's; agents log in at `fleet.DOMAIN`. `host` and `port` where the server is reached (STARTTLS)."""

    domain: str = "geolane.test"
    host: str = "127.0.0.1"
    port: int = 5222
    ca_file: str = ""
    password_file: str = ""

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


class Worker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The engine of nodes and routers (PROTOCOL 3)."""

    pipeline: str = "agents.node.flights:pipeline"
    commit_gap_ms: int = 100
    batch_records: int = 5000
    telemetry_period_s: float = 1.0
    future_limit_s: int = 300
    max_event_bytes: int = 1 << 20
    capacity_eps: float = 2000.0
    cell_resolution: int = 4


class Coordinator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the coordinator finds its inventory, measured RTTs and journal, its limits, and how it places lanes.

    `kernel`: auto, gpu, cpu or numpy computes the scores. `move_ms`, `miss_ms`: what a hand-over and cold caches cost;
    `warm_s`: for how long caches stay warm; `degraded_ms`: what a node costs whose devices report errors. `day_s`: length
    of the stream's day, for the forecast. `journal_mb`: how much of the inputs of decisions is kept. `calm`: the rules
    that keep the fleet calm (agents/core/planning/plan.py)."""

    inventory: str = "inventory.toml"
    journal: str = "journal.sqlite3"
    rtt_table: str = ""
    lanes: int = 32
    raw_partitions: int = 4
    transaction_timeout_ms: int = 10_000
    kernel: str = "auto"
    move_ms: float = 2.0
    miss_ms: float = 1.0
    warm_s: float = 300.0
    degraded_ms: float = 20.0
    day_s: float = 86_400.0
    journal_mb: int = 256
    calm: Calm = Calm()


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a process answers `/metrics`. `port` 0: nowhere."""

    host: str = "127.0.0.1"
    port: int = 0


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file; every table may be left out."""

    kafka: Kafka = Kafka()
    xmpp: Xmpp = Xmpp()
    worker: Worker = Worker()
    coordinator: Coordinator = Coordinator()
    metrics: Metrics = Metrics()


T = TypeVar("T")


def decode_toml(path: Path, kind: type[T]) -> T:
    """The file at `path` as a value of `kind`.

    Raises SettingsError with file, key and reason."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), kind)
    except FileNotFoundError as e:
        raise SettingsError(f"{path}: no such file") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as e:
        raise SettingsError(f"{path}: {e}") from e


def load(path: Path) -> Settings:
    """Read the settings file. Raises SettingsError."""
    return decode_toml(path, Settings)


def secret(path: str) -> str:
    """The first line of a secret's file; empty when no file is named.

    Raises SettingsError when it cannot be read, is empty, or others can read it too."""
    if not path:
        return ""
    file = Path(path)
    try:
        mode = file.stat().st_mode
        text = file.read_text("utf-8").split("\n", 1)[0].strip()
    except OSError as e:
        raise SettingsError(f"{file}: the password cannot be read ({e.strerror})") from e
    if mode & 0o077:
        raise SettingsError(f"{file}: others can read this password; run: chmod 600 {file}")
    if not text:
        raise SettingsError(f"{file}: the password is empty")
    return text
