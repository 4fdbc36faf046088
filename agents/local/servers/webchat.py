"""The chat page: the files that install.sh installed and those of web/, filled in and copied to
where the embedded server's HTTP listener serves them.

Page and WebSocket have one origin, so the server can check it. No password passes through here."""

from __future__ import annotations

import shutil
import string
from pathlib import Path

from agents.base.files import PROJECT

BROUGHT = PROJECT / ".local" / "converse" / "served"
OURS = Path(__file__).with_name("web")
_SERVED = ("page.js", "page.css")


def install_page(web: Path, domain: str, room: str) -> bool:
    """Make `web` hold the page and nothing else. Returns False, and leaves `web` empty, if
    converse.js is not installed."""
    clear_folder(web)
    if not BROUGHT.exists():
        return False
    shutil.copytree(BROUGHT, web, dirs_exist_ok=True, copy_function=shutil.copyfile)
    for name in _SERVED:
        shutil.copyfile(OURS / name, web / name)
    page = string.Template((OURS / "index.html").read_text("utf-8")).substitute(
        domain=domain, room=room
    )
    (web / "index.html").write_text(page, "utf-8")
    for path in web.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return True


def clear_folder(web: Path) -> None:
    """Leave nothing to serve."""
    for path in web.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
