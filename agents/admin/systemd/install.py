"""`geolane install-units`: writes the units beside this file to systemd's folder, with this
installation's paths. It is idempotent.

Lines that all services share are here (`SANDBOX`); a service's own lines are in its file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from agents.base.errors import InstallError
from agents.core.model.topology import KAFKA_STREAMS
from agents.geo.apple.tokens import CREDENTIAL as MAPS_KEY
from agents.settings import ACCOUNT, Settings, load_settings

TEMPLATES = Path(__file__).parent
UNITS = (
    "geolane.target",
    "geolane-coordinator.service",
    "geolane-router@.service",
    "geolane-node@.service",
    "geolane-analytics@.service",
    "geolane-geo@.service",
)
ACCOUNTS = dict(
    zip(UNITS[1:], ("geolane", "router-%i", "node-%i", "analytics-%i", "geo-%i"), strict=True)
)
"""The XMPP account of each service's process."""
SYSTEM_FOLDER = Path("etc/systemd/system")
SETTINGS = Path("/etc/geolane/geolane.toml")

SANDBOX = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
UMask=0077
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
PrivateIPC=yes
PrivateMounts=yes
RemoveIPC=yes
DevicePolicy=closed
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources @obsolete
SystemCallErrorNumber=EPERM
KeyringMode=private
LimitCORE=0"""

USER_KEEPS = frozenset(
    {
        "NoNewPrivileges",
        "UMask",
        "LockPersonality",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "LimitCORE",
        "SystemCallArchitectures",
        "SystemCallFilter",
        "SystemCallErrorNumber",
        "RestrictAddressFamilies",
    }
)
"""The settings of the sandbox that a user's own service manager can apply without privileges."""

STEPS_SINCE = 254  # the first version with RestartSteps=
RESTART_STEPS = "RestartSec=1\nRestartSteps=6\nRestartMaxDelaySec=30"
RESTART_FLAT = "RestartSec=3"


class FileChange(StrEnum):
    """What happened to one file."""

    NEW = "written"
    CHANGED = "changed"
    SAME = "unchanged"


@dataclass(frozen=True, slots=True)
class InstallPlace:
    """Where units are written, and what they contain. `geolane`: the command. `settings`: the
    settings file. `secrets`: the folder with a password file per account. `systemd`: the version
    that will read the units; 0: unknown. `has_maps_key`: whether geo workers read Apple's key as a
    credential. `has_java`: whether routers run a Java program, which writes machine code into
    memory and runs it."""

    folder: Path
    geolane: Path
    settings: Path
    secrets: Path
    user: bool = False
    kafka_username: str = ""
    has_maps_key: bool = False
    has_java: bool = False
    systemd: int = 0


def systemd_version() -> int:
    """The version of this machine's systemd; 0 if there is none."""
    try:
        said = subprocess.run(
            ["systemctl", "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.match(r"systemd (\d+)", said)
    return int(found[1]) if found else 0


def find_place(root: Path, settings: Path | None, *, user: bool) -> InstallPlace:
    """The place for these options, with this interpreter's `geolane`. Raises SettingsError,
    InstallError."""
    home = Path.home()
    file = settings or (home / ".config/geolane/geolane.toml" if user else SETTINGS)
    if settings is not None and not settings.is_absolute():
        file = Path.cwd() / settings
    geolane = Path(sys.executable).parent / "geolane"
    if not geolane.exists():
        raise InstallError(
            f"{geolane}: there is no such command; run `make install`, or pip install, into this "
            "environment"
        )
    if not user and root == Path("/") and _is_hidden_by_sandbox(geolane):
        raise InstallError(
            f"{geolane}: units cannot see what is below /home, /root and /run/user; install "
            "geolane elsewhere, for example "
            "python3 -m venv /opt/geolane, or use --user"
        )
    folder = (home / ".config/systemd/user") if user else SYSTEM_FOLDER
    there = root / file.relative_to("/")
    loaded = load_settings(there) if there.exists() else Settings()
    return InstallPlace(
        root / (folder.relative_to("/") if folder.is_absolute() else folder),
        geolane,
        file,
        file.parent / "secrets",
        user,
        loaded.kafka.username,
        "apple" in (loaded.geo.geocoder, loaded.geo.travel_times) and not loaded.geo.apple.key_file,
        loaded.router.engine == KAFKA_STREAMS,
        systemd_version(),
    )


def _is_hidden_by_sandbox(path: Path) -> bool:
    """Whether ProtectHome hides the path, or the file it links to."""
    homes = (Path("/home"), Path("/root"), Path("/run/user"))
    return any(p.is_relative_to(h) for p in (path, path.resolve(), Path(sys.prefix)) for h in homes)


def render_unit(name: str, place: InstallPlace) -> str:
    """The unit's text. Raises InstallError if a unit cannot contain one of the paths."""
    for path in (place.geolane, place.settings, place.secrets):
        if re.search(r"[\s%\"'\\;$]", str(path)):
            raise InstallError(
                f"{path}: a path in a unit must not contain a space, quote, %, $, ; or backslash"
            )
    kafka = place.kafka_username.replace(ACCOUNT, ACCOUNTS.get(name, ""))
    if kafka and not re.fullmatch(r"[\w.@-]+", kafka.replace("%i", "")):
        raise InstallError(
            f"kafka.username {kafka!r} is not a valid credential name: use letters, digits, dots, "
            "hyphens, underscores"
        )
    values = {
        "GEOLANE": str(place.geolane),
        "SETTINGS": str(place.settings),
        "FOLDER": str(place.settings.parent),
        "SECRETS": str(place.secrets),
        "KAFKA_CREDENTIAL": f"LoadCredential=kafka-{kafka}:{place.secrets}/kafka-{kafka}"
        if kafka
        else "",
        "MAPS_CREDENTIAL": f"LoadCredential={MAPS_KEY}:{place.secrets}/{MAPS_KEY}"
        if place.has_maps_key
        else "",
        "RESTART": RESTART_STEPS if place.systemd >= STEPS_SINCE else RESTART_FLAT,
        "SANDBOX": SANDBOX,
        "JAVA": f"MemoryDenyWriteExecute={'no' if place.has_java else 'yes'}",
    }
    text = re.sub(
        r"@([A-Z_]+)@\n?",
        lambda m: _fill_value(values[m[1]], m[0]),
        (TEMPLATES / name).read_text("utf-8"),
    )
    return _adapt_for_user(text) if place.user else text


def _fill_value(value: str, mark: str) -> str:
    """An empty value removes its line."""
    return value + "\n" if mark.endswith("\n") and value else value


def _adapt_for_user(text: str) -> str:
    """The unit as a user's manager can run it. It cannot switch users or set up file systems, and
    it has no network-online.target."""
    sandbox = {line.partition("=")[0] for line in SANDBOX.splitlines()} | {
        "DynamicUser",
        "User",
        "ProcSubset",
    }
    lines = []
    for line in text.splitlines():
        key = line.partition("=")[0]
        if key in sandbox - USER_KEEPS or key == "Wants":
            continue
        if key == "After":
            line = re.sub(r"(network-online|time-sync)\.target ?", "", line).rstrip()
            if line == "After=":
                continue
        lines.append(line.replace("multi-user.target", "default.target"))
    return "\n".join(lines) + "\n"


def write_units(place: InstallPlace) -> Iterator[tuple[Path, FileChange]]:
    """Write the units that differ; each file is replaced as a whole. Raises InstallError if that is
    not allowed."""
    texts = {name: render_unit(name, place) for name in UNITS}
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            file = place.folder / name
            before = file.read_text("utf-8") if file.exists() else None
            if before != text:
                draft = file.with_name(f".{name}.{os.getpid()}")
                draft.write_text(text, "utf-8")
                draft.chmod(0o644)
                draft.replace(file)
            yield (
                file,
                FileChange.SAME
                if before == text
                else FileChange.NEW
                if before is None
                else FileChange.CHANGED,
            )
    except PermissionError as e:
        raise InstallError(
            f"{e.filename or place.folder}: may not be written; run this as root (sudo "
            f"{place.geolane} install-units), or with "
            "--user for units of your own, or with --root DIR to write them elsewhere"
        ) from e
    except OSError as e:
        raise InstallError(f"{e.filename or place.folder}: cannot be written ({e.strerror})") from e


def list_next_steps(place: InstallPlace, root: Path) -> Iterator[str]:
    """What to do next, one line each, beginning with what is missing."""
    ctl = "systemctl --user" if place.user else "systemctl"
    if not (root / place.settings.relative_to("/")).exists():
        yield (
            f"write the settings: {place.settings} (geolane settings example prints one), mode "
            "0644: it holds no password"
        )
    yield (
        f"put each process's password into {place.secrets}/ACCOUNT (geolane, node-NAME, "
        "router-NAME, analytics-NAME, geo-NAME), mode 0600"
    )
    if place.kafka_username:
        file = f"kafka-{place.kafka_username.replace(ACCOUNT, 'ACCOUNT')}"
        yield (
            f"and Kafka's into {place.secrets}/{file}; leave kafka.password_file out of the "
            "settings"
        )
    if place.has_maps_key:
        yield f"and Apple's private key for Maps into {place.secrets}/{MAPS_KEY}"
    if root == Path("/"):
        yield f"{ctl} daemon-reload"
    yield (
        f"{ctl} enable --now geolane-coordinator geolane-router@NAME geolane-node@NAME "
        "geolane.target"
    )
    yield f"{ctl} enable --now geolane-analytics@NAME, if the inventory has an [[analytics]]"
    yield f"{ctl} enable --now geolane-geo@NAME, if the inventory has a [[geo]]"


def run(root: Path, settings: Path | None, *, user: bool) -> Iterator[str]:
    """Write the units. Yields a line for each file, then one for each remaining step. Raises
    SettingsError, InstallError."""
    where = find_place(root, settings, user=user)
    changes = [f"{change.value}: {file}" for file, change in write_units(where)]
    yield from changes
    yield "next:"
    yield from (f"  {line}" for line in list_next_steps(where, root))
