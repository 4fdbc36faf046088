"""The live page as a folder for any web server: the files of live/, filled in, and the libraries
that install.sh brought.

The page speaks to the XMPP server alone, so the folder holds no secret and no data of the fleet."""

from __future__ import annotations

import re
import shutil
import string
from dataclasses import dataclass
from pathlib import Path

from agents.base.errors import SettingsError
from agents.base.files import PROJECT

LIBRARIES = PROJECT / ".local" / "live"
OURS = Path(__file__).with_name("live")
_PATTERNS = ("*.js", "*.css")
_NAME = re.compile(r"[A-Za-z0-9.-]{1,253}")
_WEBSOCKET = re.compile(r"(wss?://[A-Za-z0-9.:\[\]-]{1,260})?(/[A-Za-z0-9._~/-]{0,200})?")


@dataclass(frozen=True, slots=True)
class LivePlace:
    """`domain`: of people. `websocket`: the server's address for XMPP over WebSocket (RFC 7395), or
    its path if the same host serves the page. `also`: the addresses that this path has, for
    browsers in which the page's own origin does not include them."""

    domain: str
    websocket: str
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.domain):
            raise SettingsError(f"{self.domain[:100]!r} is not a host name")
        for url in (self.websocket, *self.also):
            if not url or not _WEBSOCKET.fullmatch(url):
                raise SettingsError(
                    f"{url[:100]!r} is not an address for XMPP over WebSocket, such as "
                    "wss://xmpp.example.org/ws, or a path on the page's own host, such as /ws"
                )


def install_live_page(folder: Path, place: LivePlace) -> bool:
    """Fill `folder`, which is made if it is missing; files of an earlier page are replaced.
    Returns False if the libraries are not installed.

    Raises SettingsError if the folder holds anything else."""
    if not LIBRARIES.exists():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()) and not (folder / "lib").is_dir():
        raise SettingsError(f"{folder}: is not empty and holds no live page: choose another folder")
    shutil.rmtree(folder / "lib", ignore_errors=True)
    shutil.copytree(
        LIBRARIES,
        folder / "lib",
        copy_function=shutil.copyfile,
        ignore=shutil.ignore_patterns(".complete-*"),
    )
    for pattern in _PATTERNS:
        for file in OURS.glob(pattern):
            shutil.copyfile(file, folder / file.name)
    connect = [x for x in (place.websocket, *place.also) if x.startswith("ws")]
    page = string.Template((OURS / "index.html").read_text("utf-8")).substitute(
        domain=place.domain,
        websocket=place.websocket,
        connect=" ".join(connect),
    )
    (folder / "index.html").write_text(page, "utf-8")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return True
