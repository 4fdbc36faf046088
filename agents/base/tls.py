"""How our clients check a server's certificate."""

from __future__ import annotations

import ssl
from pathlib import Path

from agents.base.errors import SettingsError, system_reason
from agents.base.files import read_whole_file


def verifying_context(key: str, ca_file: str) -> ssl.SSLContext:
    """A context that checks the chain against `ca_file` (empty: the system's certificates), and the
    host name. `key`: the setting that names the file. Raises SettingsError if it cannot be used."""
    try:
        if ca_file:
            read_whole_file(Path(ca_file))  # OpenSSL would read a device without end
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as e:
        raise SettingsError(
            f"{key}: {ca_file}: no certificates can be read from it ({system_reason(e)})"
        ) from e
