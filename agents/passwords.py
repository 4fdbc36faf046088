"""Passwords that geolane makes, each in a file of its own."""

from __future__ import annotations

import secrets
from pathlib import Path

from agents.errors import SettingsError
from agents.replacing import alone, replace
from agents.texts import SECRET_BYTES, read_whole, text_of

BYTES = 32


def made_once(file: Path) -> str:
    """The password in the file; a random one of 256 bits is put there (mode 0600) where there is none, or an empty file that a full
    disk left. Of those who come at once, the first one's counts. Blocks. Raises SettingsError."""
    if text := _text(file):
        return text
    with alone(file):
        if not (text := _text(file)):
            text = secrets.token_urlsafe(BYTES)
            try:
                replace(file, text + "\n")
            except OSError as e:
                raise SettingsError(f"{file}: cannot be written ({e.strerror})") from e
    return text


def _text(file: Path) -> str:
    try:
        return text_of(read_whole(file, SECRET_BYTES), file).strip()
    except FileNotFoundError:
        return ""
    except OSError as e:
        raise SettingsError(f"{file}: cannot be read ({e.strerror})") from e
