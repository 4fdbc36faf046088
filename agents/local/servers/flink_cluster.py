"""One private Apache Flink per folder: a JobManager, a TaskManager and an SQL Gateway on loopback,
unprivileged, each behind our certificate, with bounded memory. A part that ends can be started
again beside the others, on the same ports.

    ours    conf/              configuration, written when all three start; the keystore
            secrets/flink.pem  certificate and key, for clients
            ports, NAME.pid    kept for restarts; NAME is jobmanager, taskmanager or gateway
            NAME.out           what Java printed
            jars/              only if its user cannot reach the project's
    its     checkpoints/, savepoints/, tmp/
            log/               bounded logs, one for each part
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import secrets
import shutil
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agents.analytics.flink import FlinkUrls, JobManager
from agents.analytics.flink_job import find_last_checkpoint
from agents.analytics.sql_gateway import SqlGateway
from agents.base import log, ports
from agents.base.errors import FlinkError, FlinkUnavailable, InstallError
from agents.base.files import INSTALL, PROJECT
from agents.base.unprivileged import find_user, require_reachable
from agents.local.servers.java import (
    POLL_S,
    JavaProcess,
    read_tail,
    readable_jars,
)
from agents.settings import Flink

USER = "geolane-flink"
"""The system user that Flink runs as if we are root (install.sh makes it)."""
JARS = PROJECT / ".local" / "flink"
TEMPLATES = Path(__file__).parent / "flink"

_LIFETIME = datetime.timedelta(days=365)
_RENEW_BEFORE = datetime.timedelta(days=30)
_STOP_S = 10.0
_log = log.get_logger("embedded.flink")

# What Flink's classes reach for in Java 17 (conf/config.yaml of its distribution).
_OPENED = (
    *(
        f"--add-exports=java.{name}=ALL-UNNAMED"
        for name in ("rmi/sun.rmi.registry", "security.jgss/sun.security.krb5")
    ),
    *(
        f"--add-opens=java.base/{name}=ALL-UNNAMED"
        for name in (
            "java.lang",
            "java.net",
            "java.io",
            "java.nio",
            "sun.nio.ch",
            "java.lang.reflect",
            "java.text",
            "java.time",
            "java.util",
            "java.util.concurrent",
            "java.util.concurrent.atomic",
            "java.util.concurrent.locks",
        )
    ),
)


@dataclass(frozen=True, slots=True)
class FlinkMemory:
    """Bounds in MiB. Java itself takes 100 to 150 more for each part. `managed_mb` and `network_mb`
    are the TaskManager's, beside its heap."""

    jobmanager_heap_mb: int = 192
    taskmanager_heap_mb: int = 256
    gateway_heap_mb: int = 192
    managed_mb: int = 64
    network_mb: int = 48


class FlinkCluster:
    """`slots`: how many subtasks of jobs find room. Not tied to an event loop."""

    jars = JARS
    """A subclass may name another folder."""

    def __init__(self, folder: Path, *, slots: int = 4, memory: FlinkMemory | None = None) -> None:
        self.folder = folder.absolute()
        self.slots = slots
        self.memory = memory or FlinkMemory()
        self.user = find_user(USER)
        self.jobmanager = self._part("jobmanager")
        self.taskmanager = self._part("taskmanager")
        self.gateway = self._part("gateway")
        self._ports: list[int] | None = None
        self._taskmanager_id = ""

    @property
    def parts(self) -> tuple[JavaProcess, JavaProcess, JavaProcess]:
        return self.jobmanager, self.taskmanager, self.gateway

    @property
    def pid(self) -> int | None:
        """The JobManager's process id while all three run; `start` brings back what does not."""
        return self.jobmanager.pid if all(part.pid is not None for part in self.parts) else None

    @property
    def urls(self) -> FlinkUrls:
        """Where its REST interfaces are; known even before the start."""
        _, rest, gateway = self._choose_ports()
        return FlinkUrls(
            jobmanager=f"https://127.0.0.1:{rest}", gateway=f"https://127.0.0.1:{gateway}"
        )

    @property
    def client_certificate(self) -> Path:
        """A file with the certificate and key for a client; the server has the same certificate."""
        return self.folder / "secrets" / "flink.pem"

    def tls(self) -> ssl.SSLContext:
        """For a client of ours; after the first start. Blocks."""
        context = ssl.create_default_context(cafile=str(self.client_certificate))
        context.load_cert_chain(self.client_certificate)
        return context

    async def start(self, timeout_s: float = 90) -> None:
        """Start the parts that do not run, and return when a statement can be sent and a job finds
        room. Processes that an earlier, killed run left in this folder are ended first.

        Raises InstallError if Java, the jars or the user are missing, SettingsError if the user
        cannot reach the folder, FlinkUnavailable, with the end of the log, if it does not come
        up."""
        deadline = time.monotonic() + timeout_s
        while missing := self._find_missing():  # again if one that ran ends meanwhile
            launching = asyncio.ensure_future(asyncio.to_thread(self._launch_parts, missing))
            try:
                await asyncio.shield(launching)
                await self._wait_until_ready(missing, deadline)
            except BaseException:
                # A thread cannot be cancelled, and may be starting Java right now. Its error is
                # ignored.
                await asyncio.gather(launching, return_exceptions=True)
                for part in missing:
                    part.kill()
                raise
            _log.info("flink_ready", jobmanager=self.urls.jobmanager, gateway=self.urls.gateway)

    async def stop(self) -> None:
        """End all parts, each within 10 s. Jobs end with them; their last checkpoints stay."""
        await asyncio.gather(*(part.stop(_STOP_S) for part in self.parts))

    def kill(self) -> None:
        """SIGKILL for all parts, like a crash."""
        for part in self.parts:
            part.kill()

    def end_stale(self) -> None:
        """End what an earlier run left in this folder. Blocks."""
        for part in self.parts:
            part.end_stale()

    def settings(self) -> Flink:
        """How a client of ours reaches it."""
        certificate = str(self.client_certificate)
        urls = self.urls
        return Flink(urls.gateway, urls.jobmanager, ca_file=certificate, cert_file=certificate)

    def last_checkpoint(self, job_id: str) -> str | None:
        """The last completed checkpoint of a job, as a path to start from; None if it has none.

        Read from the folder, and not asked of a JobManager that may have ended since: an earlier
        checkpoint would produce again what a later one has already committed. Blocks."""
        found = find_last_checkpoint(self.folder / "checkpoints" / job_id)
        return f"file://{found}" if found is not None else None

    def log_of(self, part: JavaProcess) -> Path:
        return self.folder / "log" / f"{part.name}.log"

    # Starting.

    def _part(self, name: str) -> JavaProcess:
        return JavaProcess(self.folder, name, self.folder / f"{name}.out", mark=self._mark(name))

    def _mark(self, name: str) -> str:
        return f"-Dgeolane.part={self.folder}/{name}"

    def _choose_ports(self) -> list[int]:
        """Those of JobManager's RPC, JobManager's REST and the gateway, kept in the folder."""
        if self._ports is None:
            file = self.folder / "ports"
            self._ports = ports.read_kept_ports(file, 3)
            if not self._ports:
                self._ports = [ports.find_free_port() for _ in range(3)]
                self._make_folder()
                file.write_text("{} {} {}\n".format(*self._ports), "ascii")
        return self._ports

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.user.set_owner_and_mode(self.folder, 0o750 if self.user.switch else 0o700, give=False)

    def _find_missing(self) -> list[JavaProcess]:
        if self.jobmanager.pid is None:  # its jobs are lost, and the TaskManager works on for 10 s
            self.taskmanager.kill()
        return [part for part in self.parts if part.pid is None]

    def _launch_parts(self, missing: Sequence[JavaProcess]) -> None:
        """The blocking part of the start."""
        if not list(self.jars.glob("flink-runtime-*.jar")) or shutil.which("java") is None:
            raise InstallError(
                f"Flink's jars ({self.jars}) or java are missing; run: sh {INSTALL} flink"
            )
        require_reachable(self.folder, self.user)
        if len(missing) == len(self.parts):
            # before the ports: leftover processes still hold them
            self.end_stale()
            self._replace_taken_ports()
            self._make_folder()
            require_reachable(self.folder / "tmp", self.user)
            self._prepare_folder()
        for part in missing:
            self._spawn(part)

    def _replace_taken_ports(self) -> None:
        if any(map(ports.is_taken, self._choose_ports())):
            _log.info("flink_ports_taken", ports=self._ports)
            self._ports = None
            (self.folder / "ports").unlink()

    def _prepare_folder(self) -> None:
        """Folders, certificate and configuration."""
        conf = self.folder / "conf"
        shutil.rmtree(
            self.folder / "tmp", ignore_errors=True
        )  # 20 MB of each start that was killed
        for folder, mode, give in (
            (conf, 0o750, False),
            (self.client_certificate.parent, 0o700, None),
            *((self.folder / n, 0o700, True) for n in ("checkpoints", "savepoints", "tmp", "log")),
        ):
            folder.mkdir(mode=0o700, exist_ok=True)
            if give is not None:
                self.user.set_owner_and_mode(folder, mode, give=give)
        keystore, password = conf / "flink.p12", secrets.token_urlsafe(32)
        rpc_port, rest_port, gateway_port = self._choose_ports()
        values = {
            "rpc_port": rpc_port,
            "rest_port": rest_port,
            "gateway_port": gateway_port,
            "slots": self.slots,
            "task_heap_mb": self.memory.taskmanager_heap_mb - 64,
            "managed_mb": self.memory.managed_mb,
            "network_mb": self.memory.network_mb,
            "folder": json.dumps(str(self.folder))[1:-1],
            "password": password,
        }
        for name in ("config.yaml", "log4j2.properties"):
            text = (TEMPLATES / name).read_text("utf-8")
            for key, value in values.items():
                text = text.replace(f"@{key}@", str(value))
            self.user.write_private_file(conf / name, text.encode())
        certificate, private_key = self._certificate()
        self.user.write_private_file(
            keystore,
            pkcs12.serialize_key_and_certificates(
                b"flink",
                private_key,
                certificate,
                None,
                serialization.BestAvailableEncryption(password.encode()),
            ),
        )

    def _certificate(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """The cluster's certificate and key: those in the folder while they are valid for another
        month, so that clients go on after a restart."""
        file, now = self.client_certificate, datetime.datetime.now(datetime.UTC)
        if file.exists():
            pem = file.read_bytes()
            certificate = x509.load_pem_x509_certificate(pem)
            key = serialization.load_pem_private_key(pem, None)
            if (
                isinstance(key, ec.EllipticCurvePrivateKey)
                and certificate.not_valid_after_utc - now > _RENEW_BEFORE
            ):
                return certificate, key
        certificate, key = _make_certificate(now)
        file.touch(mode=0o600)
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, key

    def _spawn(self, part: JavaProcess) -> None:
        # Names of files are relative to Java's working folder, the cluster's folder: its name may
        # have signs that log4j or a list of folders would take for its own.
        memory = self.memory
        match part.name:
            case "jobmanager":
                java = [f"-Xmx{memory.jobmanager_heap_mb}m", "-XX:TieredStopAtLevel=1"]
                program = [
                    "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
                    "--configDir",
                    "conf",
                ]
            case "taskmanager":
                # A new name at each start: the JobManager still lists one that has just crashed.
                self._taskmanager_id = f"taskmanager-{secrets.token_hex(4)}"
                direct_mb = memory.network_mb + 64
                java = [
                    f"-Xmx{memory.taskmanager_heap_mb}m",
                    f"-XX:MaxDirectMemorySize={direct_mb}m",
                ]
                program = [
                    "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
                    "--configDir",
                    "conf",
                    f"-Dtaskmanager.resource-id={self._taskmanager_id}",
                ]
            case _:  # the gateway finds its configuration by the environment alone
                java = [f"-Xmx{memory.gateway_heap_mb}m", "-XX:TieredStopAtLevel=1"]
                program = ["org.apache.flink.table.gateway.SqlGateway"]
        command = [
            "java",
            "-Xms32m",
            *java,
            "-XX:+UseSerialGC",
            "-XX:MaxMetaspaceSize=256m",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:-UsePerfData",  # nothing in /tmp, where everybody reads
            f"-XX:ErrorFile=log/{part.name}_error.log",
            "-Djava.awt.headless=true",
            "-Djava.io.tmpdir=tmp",
            f"-Dgeolane.name={part.name}",
            "-Dlog4j.configurationFile=conf/log4j2.properties",
            self._mark(part.name),
            *_OPENED,
            "-cp",
            f"{readable_jars(self.jars, self.folder, self.user)}/*",
            *program,
        ]
        part.spawn(command, self.user, FLINK_CONF_DIR="conf")

    async def _wait_until_ready(self, launched: Sequence[JavaProcess], deadline: float) -> None:
        """Returns early if another part than the launched ones ends."""
        tls = await asyncio.to_thread(self.tls)
        jobmanager, gateway = JobManager(self.urls, tls), SqlGateway(self.urls, tls)
        while True:
            try:
                there = await jobmanager.taskmanager_ids()
                await gateway.version()
                if self._taskmanager_id in there:
                    return
                missing = "its TaskManager has not registered"
            except FlinkError as e:
                missing = str(e)
            for part in launched:
                if part.pid is None:
                    raise FlinkUnavailable(
                        f"Flink's {part.name} ended while it started; read {self.log_of(part)}:\n"
                        f"{self.read_log_tail(part)}"
                    )
            if self.pid is None:
                return
            if time.monotonic() > deadline:
                raise FlinkUnavailable(
                    f"Flink did not start in time ({missing}); read the logs in "
                    f"{self.folder / 'log'}; the JobManager's ends:\n"
                    f"{self.read_log_tail(self.jobmanager)}"
                )
            await asyncio.sleep(4 * POLL_S)

    def read_log_tail(self, part: JavaProcess, characters: int = 2000) -> str:
        """The end of a part's log, and of what Java itself printed."""
        return read_tail((self.log_of(part), part.printed), characters)


def _make_certificate(
    now: datetime.datetime,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate for 127.0.0.1 that signs itself, for servers and clients alike."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "geolane local flink")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def is_flink_installed() -> bool:
    """Whether the jars, Java and the user are there. Blocks."""
    try:
        find_user(USER)
    except InstallError:
        return False
    return bool(list(JARS.glob("flink-runtime-*.jar"))) and shutil.which("java") is not None
