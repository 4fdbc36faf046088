"""Settings are one TOML file, the environment over it, flags over that, read once at start; what is
wrong is an error that names where it stands, the key, and what would be right."""

from agents.settings.sources import Loaded, decode_toml, gather, load, secret, secret_file
from agents.settings.tables import (
    ACCOUNT,
    Coordinator,
    Ejabberd,
    Kafka,
    Metrics,
    Settings,
    Topics,
    Worker,
    Xmpp,
)

__all__ = [
    "ACCOUNT",
    "Coordinator",
    "Ejabberd",
    "Kafka",
    "Loaded",
    "Metrics",
    "Settings",
    "Topics",
    "Worker",
    "Xmpp",
    "decode_toml",
    "gather",
    "load",
    "secret",
    "secret_file",
]
