"""The files on this machine: settings, inventory and passwords."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

from agents import settings as settings_module
from agents.admin.doctor.check import Check
from agents.admin.doctor.judge.roles import Role, Whom
from agents.admin.doctor.judge.verdict import (
    NotLookedAt,
    Verdict,
    fault,
    merge_verdicts,
    ok,
    warning,
)
from agents.admin.inventory_file import read_inventory
from agents.base.errors import SettingsError
from agents.core.model.inventory import Inventory
from agents.core.model.topology import KINDS
from agents.node.runner import try_pipeline
from agents.settings import PASS_THROUGH, Loaded, Settings
from agents.settings.sources import DEFAULT

GROUP = "files"


def read_inventory_or_none(settings: Settings) -> Inventory | None:
    try:
        return read_inventory(Path(settings.coordinator.inventory))
    except SettingsError:
        return None


class Files:
    """`secrets`: the folder with a password file per account; None if only this account's own file
    is known."""

    def __init__(self, loaded: Loaded, who: Whom, secrets: Path | None) -> None:
        self._loaded, self._who, self._secrets = loaded, who, secrets
        self._settings = loaded.settings

    def list_checks(self) -> list[Check]:
        return [
            Check(GROUP, "settings", self._check_settings),
            Check(
                GROUP,
                "inventory",
                self._check_inventory,
                todo="correct it (docs/settings.md); `geolane up` writes one",
            ),
            Check(
                GROUP,
                "password",
                self._check_password,
                todo="correct xmpp.password_file, or create the file",
            ),
            Check(GROUP, "passwords", self._check_passwords),
            Check(
                GROUP,
                "pipeline",
                self._check_pipeline,
                todo="correct worker.pipeline; it is found from the current folder and PYTHONPATH",
            ),
        ]

    async def _check_settings(self) -> Verdict:
        origins = self._loaded.origins.values()
        set_here = sum(origin != DEFAULT for origin in origins)
        return ok(f"{set_here} of {len(origins)} keys are set, all known")

    async def _check_inventory(self) -> Verdict:
        found = self._read_inventory()
        nodes, routers, analytics, geo = map(found.workers_of, KINDS)
        total = sum(w.capacity_eps for w in nodes)
        return ok(
            f"nodes: {len(nodes)} ({total:,.0f} events/s), routers: {len(routers)}, analytics: "
            f"{len(analytics)}, geo: {len(geo)}, sites: {len(found.sites)}"
        )

    def _read_inventory(self) -> Inventory:
        file = Path(self._settings.coordinator.inventory)
        if self._who.role is not Role.COORDINATOR and not file.exists():
            raise NotLookedAt(f"{file} is not here, and only the coordinator needs it")
        return read_inventory(file)

    async def _check_password(self) -> Verdict:
        file, cert_file = self._settings.xmpp.password_file, self._settings.xmpp.cert_file
        if self._settings.xmpp.sasl == "EXTERNAL":
            if (
                proof := settings_module.find_secret_file(cert_file, f"{self._who.account}.pem")
            ) is not None:
                return ok(f"none is needed: the certificate is {proof}, which only we can read")
            return fault("none, and no certificate", "name a file of mode 0600 in xmpp.cert_file")
        if not settings_module.read_secret(file, self._who.account):
            return fault(
                f"none for {self._who.account}",
                "name a file of mode 0600 in xmpp.password_file, or give the unit LoadCredential=",
            )
        return ok(f"in {file or 'a systemd credential'}, which only we can read")

    async def _check_pipeline(self) -> Verdict:
        if self._who.role is not Role.NODE:
            raise NotLookedAt("only nodes have one")
        name = self._settings.worker.pipeline
        version = await asyncio.to_thread(try_pipeline, name)
        if name == PASS_THROUGH:
            return ok("none: events pass unchanged; worker.pipeline names one")
        return ok(f"{version} can be loaded")

    async def _check_passwords(self) -> Verdict:
        folder = self._secrets
        if folder is None:
            raise NotLookedAt("no password folder is given (--secrets)")
        if not folder.is_dir():
            return fault(
                f"{folder}: there is no such folder",
                "correct --secrets, or run `geolane provision`",
            )
        return await asyncio.to_thread(self._judge_folder, folder)

    def _judge_folder(self, folder: Path) -> Verdict:
        """Every file there must be readable by us alone. The coordinator also looks for the
        workers' files, although workers need not run here."""
        there = sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))
        names = {f.name for f in there}
        verdicts = [_judge_mode(folder), *(_judge_file(f) for f in there)]
        if self._who.account not in names and self._settings.xmpp.sasl != "EXTERNAL":
            verdicts.append(
                fault(
                    f"{self._who.account}: there is no password file",
                    "run `geolane provision`, which makes one",
                )
            )
        inventory = (
            read_inventory_or_none(self._settings) if self._who.role is Role.COORDINATOR else None
        )
        away = [w for w in (inventory.workers if inventory else ()) if w not in names]
        if away:
            said = (
                f"{', '.join(away[:10])}: {'is' if len(away) == 1 else 'are'} in the inventory, "
                "without a password file"
            )
            verdicts.append(
                warning(said, "fine if they run on other machines; else run `geolane provision`")
            )
        return merge_verdicts(f"{len(there)} files of mode 0600 in {folder}", *verdicts)


def _judge_mode(folder: Path) -> Verdict:
    about = folder.stat()
    mode = stat.S_IMODE(about.st_mode)
    if mode & 0o022:
        return fault(
            f"{folder} has mode {mode:04o}: others can put files there", f"chmod 700 {folder}"
        )
    if mode & 0o055:
        return warning(f"{folder} has mode {mode:04o}: others can list it", f"chmod 700 {folder}")
    if about.st_uid not in (0, os.geteuid()):
        return fault(f"{folder} belongs to uid {about.st_uid}", f"chown {os.geteuid()} {folder}")
    return ok("")


def _judge_file(file: Path) -> Verdict:
    try:
        settings_module.read_secret(str(file))
    except SettingsError as e:
        return fault(
            str(e),
            f"chmod 600 {file}" if file.stat().st_mode & 0o077 else "run `geolane provision`",
        )
    return ok("")
