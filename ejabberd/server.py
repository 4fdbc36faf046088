"""One private ejabberd per folder: loopback only, unprivileged, without Erlang distribution. It has
the same ports and data after a restart.

    ours    ca.pem      for clients                     its    spool/   the database
            conf/       configuration, certificate             log/     bounded logs
            ports.json  kept for restarts                      run/     the admin API's socket, 0700
            server.pid  the running server                     home/    empty
            server.out  what it printed
            web/        the chat page; empty unless installed
            lock        held by the process that started it
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import fcntl
import glob
import json
import os
import re
import shutil
import signal
import string
import subprocess
from pathlib import Path

from agents.base import log, ports
from agents.base.errors import InstallError, NoAnswer, NotConnected, SettingsError, XmppError
from agents.base.unprivileged import find_user, require_reachable
from ejabberd import certificate
from ejabberd.api import AdminApi

TEMPLATE = Path(__file__).with_name("ejabberd.yml")
ERLANG_LIBRARIES = "/usr/lib/*/ejabberd-*/ebin/ejabberd.app"
INSIDE = Path("/proc/self/cwd")
"""The server's own name for its folder, whatever the real name is. ejabberd 23.01 cannot open a
certificate or serve a page below a folder whose name has letters beyond ASCII."""
SOCKET_PATH_LIMIT = 107  # unix(7): sun_path holds 108 bytes with its end
POLL_S = 0.05
STACK_KILOWORDS = "8192"  # 64 MB, of which only the part in use takes memory
LOG = log.get_logger("ejabberd")


def hosts_of_domain(domain: str) -> list[str]:
    """Every name that the server answers to, all of which its certificate must hold; the people's
    domain first."""
    services = ("fleet", "conference", "pubsub.fleet", "pubsub", "upload")
    return [domain, *(f"{service}.{domain}" for service in services)]


class Server:
    """A private ejabberd in `folder` for `domain`. Ports that are not given are those of the last
    run, or else free ones. Until the server has served once, it changes ports that another program
    has taken."""

    def __init__(
        self,
        folder: Path,
        domain: str,
        *,
        c2s_port: int | None = None,
        http_port: int | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.domain = domain
        kept = self._read_kept_ports()
        self._asked = c2s_port is not None or http_port is not None
        self.c2s_port = c2s_port or kept.get("c2s") or ports.find_free_port()
        self.http_port = http_port or kept.get("http") or ports.find_free_port()
        self.ca_file = self.folder / "ca.pem"
        self.web = self.folder / "web"
        self.api = AdminApi(self.folder / "run" / "api.sock")
        self.user = find_user("ejabberd")
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._has_served = False
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,200}[a-z0-9])?", domain):
            raise SettingsError(f"domain {domain!r}: use letters a to z, digits, dots and hyphens")
        if len(os.fsencode(self.api.socket_path)) > SOCKET_PATH_LIMIT:
            raise SettingsError(
                f"{self.folder}: its path is too long for a unix socket in it; choose a shorter one"
            )

    @property
    def pid(self) -> int | None:
        """The process id of this folder's server, whichever process started it; None if it does not
        run."""
        try:
            pid = int((self.folder / "server.pid").read_text("ascii"))
        except (FileNotFoundError, ValueError):
            return None
        return pid if self._is_ours(pid) else None

    async def start(self, timeout_s: float = 60) -> None:
        """Start the server and wait until it serves. A server that a killed run left is ended
        first.

        Does nothing if this object's own server runs. Raises InstallError (no ejabberd),
        SettingsError (folder or port cannot be used), XmppError (it does not come up, with the end
        of its log; or another run uses the folder)."""
        if self._process is not None and self._is_ours(self._process.pid):
            return
        erlang_libraries = await asyncio.to_thread(self._find_erlang_libraries)
        require_reachable(self.folder, self.user)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(
            0o711 if self.user.switch else 0o700
        )  # its user may pass through but not list it
        require_reachable(self.folder / "spool", self.user)
        self._take_lock()
        try:
            if (stale := self.pid) is not None:
                LOG.warning("stale_server_ended", pid=stale, folder=str(self.folder))
            # before the ports are checked: a server that was left holds them
            await self._end_server(timeout_s=5)
            self._replace_taken_ports()
            await asyncio.to_thread(self._prepare_folder)
            await asyncio.to_thread(self._spawn_server, erlang_libraries)
            try:
                async with asyncio.timeout(timeout_s):
                    await self._wait_until_serving()
            except TimeoutError as e:
                raise XmppError(
                    f"ejabberd did not serve within {timeout_s:g} s:\n{self.log_tail()}"
                ) from e
        except BaseException:
            await self._end_server(timeout_s=0)
            self._release_lock()
            raise
        self._has_served = True
        LOG.info("server_started", pid=self.pid, c2s_port=self.c2s_port)

    async def stop(self, timeout_s: float = 10) -> None:
        """End the server, even one that a killed run left: first by SIGTERM, after `timeout_s` by
        SIGKILL. Does nothing if it does not run.

        Raises XmppError if it belongs to another run that is alive."""
        if self._process is None and self.pid is not None:
            self._take_lock()
        await self._end_server(timeout_s)
        self._release_lock()

    def kill(self) -> None:
        """SIGKILL at once, for tests of what follows. `start()` brings it back on the same ports
        with its data."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()  # a killed process ends within milliseconds
            self._process = None
        elif (pid := self.pid) is not None:
            os.kill(pid, signal.SIGKILL)

    def log_tail(self, lines: int = 15) -> str:
        """The end of the server's logs."""
        texts = []
        for file in (self.folder / "log" / "ejabberd.log", self.folder / "server.out"):
            with contextlib.suppress(OSError):
                texts += file.read_text("utf-8", "replace").splitlines()[-lines:]
        return "\n".join(texts) or "(its logs are empty)"

    # Starting.

    def _replace_taken_ports(self) -> None:
        """Replace ports that another program has taken, unless they were asked for or clients know
        them."""
        for port in filter(ports.is_taken, (self.c2s_port, self.http_port)):
            if self._asked or self._has_served:
                raise SettingsError(
                    f"port {port} of 127.0.0.1 is taken by another program; choose another"
                )
            LOG.info("server_port_taken", port=port)
            self.c2s_port, self.http_port = ports.find_free_port(), ports.find_free_port()
            return

    def _read_kept_ports(self) -> dict[str, int]:
        try:
            kept = json.loads((self.folder / "ports.json").read_text("ascii"))
            return {"c2s": int(kept["c2s"]), "http": int(kept["http"])}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return {}

    def _find_erlang_libraries(self) -> str:
        found = sorted(glob.glob(ERLANG_LIBRARIES))
        if not found or shutil.which("erl") is None:
            raise InstallError(
                "ejabberd is not installed: apt-get install ejabberd (make install does it)"
            )
        return str(Path(found[-1]).parents[2])

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            os.close(lock)
            raise XmppError(
                f"{self.folder}: another run is using this folder; stop it, or choose another "
                "folder"
            ) from e
        self._lock = lock

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _prepare_folder(self) -> None:
        conf = self.folder / "conf"
        for folder, mode, give in (
            (conf, 0o750, False),
            *((self.folder / n, 0o700, True) for n in self._private_folders()),
        ):
            folder.mkdir(mode=0o700, exist_ok=True)
            self.user.set_owner_and_mode(folder, mode, give=give)
        self.web.mkdir(exist_ok=True)
        self.user.set_owner_and_mode(self.web, 0o750, give=False)
        (self.folder / "ports.json").write_text(
            json.dumps({"c2s": self.c2s_port, "http": self.http_port}), "ascii"
        )
        (self.folder / "run" / "api.sock").unlink(missing_ok=True)
        self.user.write_private_file(
            conf / "ejabberd.yml",
            string.Template(TEMPLATE.read_text("utf-8"))
            .substitute(
                domain=self.domain,
                fleet=f"fleet.{self.domain}",
                conf=INSIDE / "conf",
                ca_file=INSIDE / "ca.pem",
                c2s_port=self.c2s_port,
                http_port=self.http_port,
                api_socket=INSIDE / "run" / "api.sock",
                uploads=INSIDE / "uploads",
                web=INSIDE / "web",
            )
            .encode(),
        )
        now = datetime.datetime.now(datetime.UTC)
        pem = conf / "server.pem"
        names = hosts_of_domain(self.domain)
        if not (
            self.ca_file.exists()
            and pem.exists()
            and certificate.covers_hosts(pem.read_bytes(), names, now)
        ):
            ca, server = certificate.make_certificates(names, now)
            self.user.write_private_file(pem, server)
            self.ca_file.write_bytes(ca)
            self.ca_file.chmod(0o644)

    def _private_folders(self) -> tuple[str, ...]:
        return ("spool", "log", "run", "home", "uploads")

    def _spawn_server(self, erlang_libraries: str) -> None:
        f = self.folder
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LC_ALL": "C.UTF-8",
            "HOME": str(INSIDE / "home"),
            "EJABBERD_CONFIG_PATH": str(INSIDE / "conf" / "ejabberd.yml"),
            "EJABBERD_LOG_PATH": str(INSIDE / "log" / "ejabberd.log"),
            "CONTRIB_MODULES_PATH": str(INSIDE / "home" / "modules"),
            "ERL_LIBS": erlang_libraries,
            "ERL_MAX_PORTS": "16384",
            "ERL_CRASH_DUMP_BYTES": "0",
        }
        # +sss: the XML library recurses on the scheduler's stack. 6,000 nested elements overflowed
        # its usual 1 MB (docs/security.md). No -name, no -sname: without Erlang distribution there
        # is no epmd, cookie or further port. +sbwt none: no busy waiting.
        quiet = [
            "+sbwt",
            "none",
            "+sbwtdcpu",
            "none",
            "+sbwtdio",
            "none",
            "+P",
            "262144",
            "+sss",
            STACK_KILOWORDS,
        ]
        command = [
            "erl",
            "-noinput",
            *quiet,
            "-mnesia",
            "dir",
            f'"{INSIDE}/spool"',
            "-s",
            "ejabberd",
            *self._mark_arguments(),
        ]
        with open(f / "server.out", "wb") as out:
            self._process = subprocess.Popen(
                command,
                cwd=f,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self.user.popen_arguments(),
            )
        (f / "server.pid").write_text(f"{self._process.pid}\n", "ascii")

    async def _wait_until_serving(self) -> None:
        while True:
            if self._process is None or self._process.poll() is not None:
                raise XmppError(f"ejabberd ended while starting:\n{self.log_tail()}")
            with contextlib.suppress(NotConnected, NoAnswer, OSError):
                await self.api.call("status")
                _, writer = await asyncio.open_connection("127.0.0.1", self.c2s_port)
                writer.close()
                return
            await asyncio.sleep(POLL_S)

    # Ending.

    def _mark_arguments(self) -> list[str]:
        """Arguments that mean nothing to Erlang and identify the server of this folder."""
        return ["-geolane", str(self.folder)]

    def _is_ours(self, pid: int) -> bool:
        """Whether `pid` runs (a zombie has no command line) and is the server of this folder.

        Our own child is polled instead: its command line is empty while `erl` turns into the
        emulator."""
        if self._process is not None and self._process.pid == pid:
            return self._process.poll() is None
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(self.folder) in arguments

    async def _end_server(self, timeout_s: float) -> None:
        pid = self._process.pid if self._process is not None else self.pid
        for sign, patience_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 5.0)):
            if pid is None or not self._is_ours(pid):
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
            deadline = asyncio.get_running_loop().time() + patience_s
            while self._is_ours(pid) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 (not our child, maybe)
                await asyncio.sleep(POLL_S)
        if self._process is not None:
            await asyncio.to_thread(self._process.wait, 5)
            self._process = None
        (self.folder / "server.pid").unlink(missing_ok=True)
