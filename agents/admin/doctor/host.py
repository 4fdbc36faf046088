"""This machine: the installed versions, free disk and memory, the limit on open files, and the
metrics port."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import platform
import resource
import shutil
import socket
import sqlite3
from pathlib import Path

import psutil
from packaging.utils import canonicalize_name

from agents.admin.doctor.check import Check
from agents.admin.doctor.judge.host import (
    MIB,
    STACK_USUAL,
    judge_disk,
    judge_memory,
    judge_open_files,
    judge_stack,
    judge_versions,
)
from agents.admin.doctor.judge.roles import Role, Whom
from agents.admin.doctor.judge.verdict import NotLookedAt, Verdict, fault, ok
from agents.admin.doctor.sockets import connect
from agents.settings import Settings

GROUP = "host"
SCRAPE_S = 1.0


class Host:
    """What this machine lacks or will run out of."""

    def __init__(self, settings: Settings, who: Whom) -> None:
        self._settings, self._who = settings, who

    def list_checks(self) -> list[Check]:
        return [
            Check(GROUP, "versions", self._check_versions),
            Check(GROUP, "journal", self._check_journal),
            Check(GROUP, "disk", self._check_disk),
            Check(GROUP, "memory", self._check_memory),
            Check(GROUP, "open files", self._check_open_files),
            Check(GROUP, "metrics port", self._check_port),
            Check(GROUP, "ejabberd's stack", self._check_stack),
        ]

    async def _check_versions(self) -> Verdict:
        return await asyncio.to_thread(_judge_versions)

    @property
    def _journal_file(self) -> Path:
        if self._who.role is not Role.COORDINATOR:
            raise NotLookedAt("only the coordinator keeps a journal")
        return Path(self._settings.coordinator.journal)

    async def _check_journal(self) -> Verdict:
        return await asyncio.to_thread(_judge_journal, self._journal_file)

    async def _check_disk(self) -> Verdict:
        with contextlib.suppress(NotLookedAt):
            file = self._journal_file
            size = file.stat().st_size if file.exists() else 0
            if file.absolute().parent.is_dir():
                usage = shutil.disk_usage(file.absolute().parent)
                return judge_disk(
                    file.absolute().parent, usage.free, size, self._settings.coordinator.journal_mb
                )
        here = Path.cwd()
        return judge_disk(here, shutil.disk_usage(here).free, 0, 0)

    async def _check_memory(self) -> Verdict:
        return judge_memory(psutil.virtual_memory().available)

    async def _check_open_files(self) -> Verdict:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return judge_open_files(soft)

    async def _check_stack(self) -> Verdict:
        return await asyncio.to_thread(_judge_stack, self._settings.xmpp.port)

    async def _check_port(self) -> Verdict:
        host, port = self._settings.metrics.host, self._settings.metrics.port
        if not port:
            raise NotLookedAt("metrics.port is 0: nothing is served")
        try:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
            return ok(f"{host}:{port} is free")
        except PermissionError:
            return fault(
                f"{host}:{port}: no right to listen there",
                "choose a port above 1023 in metrics.port",
            )
        except OSError as e:
            if e.errno != 98:  # EADDRINUSE
                return fault(
                    f"{host}:{port}: {e.strerror}",
                    "correct metrics.host: an address of this machine",
                )
        if await _is_served_by_us(host, port):
            return ok(f"{host}:{port} is served by a process of ours")
        return fault(
            f"{host}:{port} is taken by another program",
            "choose another metrics.port, or end that program",
        )


def _judge_stack(port: int) -> Verdict:
    """The stack size of the ejabberd that listens on that port of this machine, from its command
    line."""
    try:
        listens = [
            c.pid
            for c in psutil.net_connections("tcp")
            if c.status == psutil.CONN_LISTEN and c.laddr[1:] == (port,)
        ]
        words = next((psutil.Process(pid).cmdline() for pid in listens if pid), [])
    except psutil.Error as e:
        raise NotLookedAt(f"this machine's connections cannot be read ({e})") from e
    if "ejabberd" not in words:
        raise NotLookedAt(f"no ejabberd that we may inspect listens on port {port} of this machine")
    at = words.index("-sss") if "-sss" in words else -1
    given = words[at + 1] if at >= 0 else ""
    return judge_stack(int(given) if given.isdigit() else STACK_USUAL)


def _judge_versions() -> Verdict:
    wanted = [r for r in importlib.metadata.requires("geolane") or [] if "extra ==" not in r]
    there = {
        str(canonicalize_name(d.name)): d.version
        for d in importlib.metadata.distributions()
        if d.name
    }
    verdict = judge_versions(wanted, there)
    ours = f"geolane {importlib.metadata.version('geolane')}, Python {platform.python_version()}"
    return ok(f"{ours}, {len(wanted)} libraries as required") if not verdict.todo else verdict


def _judge_journal(file: Path) -> Verdict:
    """Whether SQLite can write there. An existing file is tested with a transaction that is rolled
    back; otherwise the folder is tested."""
    folder = file.absolute().parent
    if not folder.is_dir():
        return fault(
            f"{folder}: there is no such folder", "create it, or correct coordinator.journal"
        )
    if not file.exists():
        try:
            probe = folder / f".{file.name}.doctor"
            probe.touch(exist_ok=True)
            probe.unlink()
        except OSError as e:
            return fault(
                f"{folder}: cannot be written to ({e.strerror})", "give this user the right to"
            )
        return ok(f"{file} will be created")
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=rw", uri=True, timeout=1)) as db:
            db.execute("BEGIN IMMEDIATE")
            rows = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            db.execute("ROLLBACK")
    except sqlite3.OperationalError as e:
        return fault(f"{file}: {e}", "give this user the right to write it")
    except sqlite3.DatabaseError as e:
        return fault(
            f"{file}: is not a database ({e})",
            "the coordinator sets it aside when it starts, and creates a new one",
        )
    return ok(f"{file}, {file.stat().st_size / MIB:,.1f} MB, {rows} tables and indexes")


async def _is_served_by_us(host: str, port: int) -> bool:
    """Whether it answers as a process of ours does."""
    try:
        async with asyncio.timeout(SCRAPE_S), connect(host, port) as (reader, writer):
            writer.write(f"GET /metrics HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            page = b""
            while (
                b"geolane_" not in page
                and len(page) < 1 << 20
                and (more := await reader.read(1 << 16))
            ):
                page += more
            return b"geolane_" in page
    except OSError:
        return False
