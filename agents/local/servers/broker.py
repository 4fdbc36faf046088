"""One private Kafka broker per folder: loopback only, unprivileged, with passwords and rights. It
restarts on the same ports and data after any end, and the next start in its folder ends a leftover
one.

    ours    secrets/           passwords, 0700       its    data/   the topics
            server.properties  written at each start        log/    bounded logs
            ports, broker.pid  kept for restarts
            java.out           what Java printed
            jars/              only if its user cannot reach the project's
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agents import settings
from agents.base import log, ports
from agents.base.errors import InstallError, KafkaUnavailable
from agents.base.files import read_or_make_password
from agents.base.unprivileged import find_user, require_reachable
from agents.core.model.topology import Partition
from agents.kafka.leases import LeaseMaker
from agents.kafka.offsets import Offsets
from agents.local.servers.java import (
    POLL_S,
    JavaProcess,
    java_environment,
    read_tail,
    readable_jars,
)

USER = "geolane-kafka"
"""The system user that the broker runs as if we are root (install.sh makes it)."""
ADMIN, SELF = "admin", "broker"
"""Kafka's accounts that may do everything: one for the holder of our passwords, one for the broker
itself."""
JARS = Path(__file__).parents[3] / ".local" / "kafka"
TEMPLATES = Path(__file__).parent / "kafka"
LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required;"

PLAINTEXT, SASL = "PLAINTEXT", "SASL_PLAINTEXT"
"""Kafka's protocols without TLS: nobody says who they are, or everybody with a password."""

_log = log.get_logger("embedded.broker")


@dataclass(frozen=True, slots=True)
class Listener:
    """One way to the broker, at `address` (HOST:PORT). Clients that come there are told to go on at
    `advertised`. `protocol`: Kafka's; with PLAINTEXT, everybody there may do everything."""

    name: str
    address: str
    advertised: str
    protocol: str = SASL


class Broker:
    """A KRaft broker (and its controller) in one JVM, with its data, ports, passwords,
    configuration and log in `folder`.

    Without a password nothing is allowed; only ADMIN may do everything. `kafka` holds the settings
    with its password. `port` None takes a free port, kept in the folder for restarts. `heap_mb`
    bounds Java's heap; the process is about 200 MB larger. Not tied to an event loop."""

    jars = JARS
    """A subclass may name another version's folder."""
    protocol = SASL
    """Of the listener that every broker has."""

    def __init__(self, folder: Path, *, port: int | None = None, heap_mb: int = 512) -> None:
        self.folder = folder.absolute()
        self.heap_mb = heap_mb
        self.user = find_user(USER)
        self._port = port
        self.process = JavaProcess(
            self.folder,
            "broker",
            self.folder / "java.out",
            mark=str(self.folder / "server.properties"),
        )
        self._ports: tuple[int, int] | None = None

    @property
    def bootstrap(self) -> str:
        """`127.0.0.1:PORT`; known even before the start."""
        return f"127.0.0.1:{self._choose_ports()[0]}"

    @property
    def kafka(self) -> settings.Kafka:
        """How to reach it as ADMIN; known after the first start."""
        file = str(self._secrets / f"kafka-{ADMIN}")
        return settings.Kafka(
            bootstrap=self.bootstrap,
            security="SASL_PLAINTEXT",
            username=ADMIN,
            password_file=file,
            admin_username=ADMIN,
            admin_password_file=file,
        )

    @property
    def listeners(self) -> Sequence[Listener]:
        """For a subclass: more ways to the broker than CLIENTS."""
        return ()

    @property
    def pid(self) -> int | None:
        """The JVM's process id while it runs as our child."""
        return self.process.pid

    async def start(self, timeout_s: float = 60) -> None:
        """Start, and return when a client can commit. A process that an earlier, killed run left in
        this folder is ended first.

        Raises InstallError if Java, the jars or the user are missing, SettingsError if the user
        cannot reach the folder, KafkaUnavailable, with the end of the log, if it does not come
        up."""
        if self.pid is not None:
            return
        deadline = time.monotonic() + timeout_s
        launching = asyncio.ensure_future(asyncio.to_thread(self._launch_process))
        try:
            await asyncio.shield(launching)
            await self._wait_until_ready(deadline)
        except BaseException:
            # A thread cannot be cancelled, and may be starting Java right now. Its error is
            # ignored.
            await asyncio.gather(launching, return_exceptions=True)
            self.kill()
            raise
        _log.info("broker_ready", bootstrap=self.bootstrap, pid=self.pid)

    async def stop(self, timeout_s: float = 20) -> None:
        """SIGTERM, then SIGKILL if it has not ended in time. Returns when the process is gone and
        its port is free."""
        await self.process.stop(timeout_s)

    def kill(self) -> None:
        """SIGKILL, like a crash. `start` works again afterwards, on the same ports and data."""
        self.process.kill()

    def end_stale_broker(self) -> None:
        """End a broker that an earlier run left in this folder, if there is one. Blocks for at most
        20 s."""
        self.process.end_stale()

    @property
    def _secrets(self) -> Path:
        return self.folder / "secrets"

    def _choose_ports(self) -> tuple[int, int]:
        """The broker's and the controller's port, kept in the folder. They lie below the range of
        outgoing connections, which could take them while the broker is down."""
        if self._ports is None:
            file = self.folder / "ports"
            kept = ports.read_kept_ports(file, 2)
            if kept and self._port in (None, kept[0]):
                self._ports = (kept[0], kept[1])
            else:
                self._ports = (self._port or ports.find_free_port(), ports.find_free_port())
                self._make_folder()
                file.write_text("{} {}\n".format(*self._ports), "ascii")
        return self._ports

    def _launch_process(self) -> None:
        """The blocking part of the start: clean up, write the configuration, start Java."""
        if not list(self.jars.glob("kafka_2.13-*.jar")) or shutil.which("java") is None:
            raise InstallError(f"Kafka's jars ({self.jars}) or java are missing; run: make install")
        require_reachable(self.folder, self.user)
        # before the ports: a leftover broker still holds them
        self.end_stale_broker()
        self._replace_taken_ports()
        self._make_folder()
        require_reachable(self.folder / "data", self.user)
        self._prepare_folder()
        self._spawn_java()

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.user.set_owner_and_mode(self.folder, 0o750 if self.user.switch else 0o700, give=False)

    def _replace_taken_ports(self) -> None:
        """Replace a port that another program has taken since this folder was last used, if we may
        choose.

        Raises KafkaUnavailable if we may not: Java would report it later, and only in its log."""
        if self._ports is None and self._port is not None and ports.is_taken(self._port):
            raise KafkaUnavailable(
                f"port {self._port} of 127.0.0.1 is taken by another program; choose another"
            )
        if (
            self._ports is None
            and self._port is None
            and any(map(ports.is_taken, self._choose_ports()))
        ):
            _log.info("broker_ports_taken", ports=self._ports)
            self._ports = None
            (self.folder / "ports").unlink()

    def _prepare_folder(self) -> None:
        """Folders, passwords, configuration (written at each start) and, once, the formatted
        storage."""
        self._secrets.mkdir(mode=0o700, exist_ok=True)
        for name in ("data", "log"):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)
            self.user.set_owner_and_mode(self.folder / name, 0o700, give=True)
        values = {
            "controller_port": self._choose_ports()[1],
            "broker": SELF,
            "password": read_or_make_password(self._secrets / f"kafka-{SELF}"),
        }
        for name, more in (
            ("server.properties", "\n".join([*self._listener_lines(), self._more_properties()])),
            ("log4j2.properties", ""),
        ):
            text = (TEMPLATES / name).read_text("utf-8")
            for key, value in values.items():
                text = text.replace(f"@{key}@", str(value))
            self.user.write_private_file(self.folder / name, (text + more).encode())
        if not (self.folder / "data" / "meta.properties").exists():
            self._format_storage()

    def _format_storage(self) -> None:
        """Format the storage with Kafka's own tool, since it also writes a new cluster's features
        (transaction.version, group.version). With meta.properties alone they would stay at their
        oldest."""
        cluster_id = (
            base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode().replace("-", "a")
        )
        tool = [
            "kafka.tools.StorageTool",
            "format",
            "-t",
            cluster_id,
            "-c",
            str(self.folder / "server.properties"),
        ]
        for name in (ADMIN, SELF):
            password = read_or_make_password(self._secrets / f"kafka-{name}")
            tool += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
        # Java reads the arguments from a file, since anybody may see a process's arguments.
        arguments = self.folder / "format.args"
        words = [*self._java_command(64)[1:], *tool, *self._more_format_arguments()]
        quoted = ('"{}"'.format(word.replace("\\", r"\\").replace('"', r"\"")) for word in words)
        self.user.write_private_file(arguments, "\n".join(quoted).encode())
        try:
            done = subprocess.run(
                ["java", f"@{arguments.name}"],
                cwd=self.folder,
                env=java_environment(),
                capture_output=True,
                timeout=60,
                check=False,
                **self.user.popen_arguments(),
            )
        finally:
            arguments.unlink()
        if done.returncode != 0:
            raise KafkaUnavailable(
                "Kafka's storage cannot be formatted: "
                f"{done.stderr.decode(errors='replace')[-2000:]}"
            )

    def _listener_lines(self) -> Iterator[str]:
        each = [Listener("CLIENTS", self.bootstrap, self.bootstrap, self.protocol), *self.listeners]
        at = [f"{x.name}://{x.address}" for x in each]
        yield f"listeners=CONTROLLER://127.0.0.1:{self._choose_ports()[1]},{','.join(at)}"
        yield f"advertised.listeners={','.join(f'{x.name}://{x.advertised}' for x in each)}"
        protocols = [f"{x.name}:{x.protocol}" for x in each]
        yield f"listener.security.protocol.map=CONTROLLER:{SASL},{','.join(protocols)}"
        anybody = ["ANONYMOUS"] if any(x.protocol == PLAINTEXT for x in each) else []
        yield f"super.users={';'.join(f'User:{user}' for user in (ADMIN, SELF, *anybody))}"
        for x in self.listeners:
            if x.protocol != PLAINTEXT:
                yield f"listener.name.{x.name.lower()}.scram-sha-512.sasl.jaas.config={LOGIN}"

    def _more_properties(self) -> str:
        """For a subclass: lines to append; for Java they override those before them."""
        return ""

    def _more_format_arguments(self) -> list[str]:
        """For a subclass: arguments for StorageTool's `format`, like `--add-scram`."""
        return []

    def _java_command(self, heap_mb: int) -> list[str]:
        return [
            "java",
            f"-Xms{min(64, heap_mb)}m",
            f"-Xmx{heap_mb}m",
            # The quick compiler only. Measured: half the CPU of a start, a third of it for the
            # first commits, 90 MB less.
            "-XX:TieredStopAtLevel=1",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:-UsePerfData",  # nothing in /tmp, where everybody reads
            # names here and below are relative to Java's working folder, the broker's folder
            "-XX:ErrorFile=log/java_error.log",
            "-Djava.awt.headless=true",
            "-Dlog4j2.configurationFile=log4j2.properties",
            "-cp",
            f"{readable_jars(self.jars, self.folder, self.user)}/*",
        ]

    def _spawn_java(self) -> None:
        command = [
            *self._java_command(self.heap_mb),
            "kafka.Kafka",
            str(self.folder / "server.properties"),
        ]
        self.process.spawn(command, self.user)

    async def _wait_until_ready(self, deadline: float) -> None:
        port = self._choose_ports()[0]
        while not await asyncio.to_thread(_is_listening, port):
            self._require_still_starting(deadline)
            await asyncio.sleep(POLL_S)
        # the port opens before the broker can coordinate: try a lease and a commit's read
        maker, offsets = LeaseMaker(self.kafka, 10_000), Offsets(self.kafka, "geolane-ready")
        try:
            await maker.start()
            await maker.make_lease("geolane-ready", max(1.0, deadline - time.monotonic()))
            await offsets.start()
            await offsets.read_committed_offsets([Partition.of_key("main/events.raw/0")])
        except KafkaUnavailable as e:
            raise KafkaUnavailable(f"{e}\n{self.read_log_tail()}") from e
        finally:
            await maker.stop()
            await offsets.stop()
        self._require_still_starting(deadline)

    def _require_still_starting(self, deadline: float) -> None:
        if self.pid is None:
            raise KafkaUnavailable(f"Kafka ended while it started:\n{self.read_log_tail()}")
        if time.monotonic() > deadline:
            raise KafkaUnavailable(
                f"Kafka at {self.bootstrap} did not start in time:\n{self.read_log_tail()}"
            )

    @property
    def logs(self) -> tuple[Path, Path]:
        """The broker's log, and what Java itself printed."""
        return self.folder / "log" / "broker.log", self.folder / "java.out"

    def read_log_tail(self, characters: int = 2000) -> str:
        """The end of the broker's log, and of what Java itself printed."""
        return read_tail(self.logs, characters)


def _is_listening(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
